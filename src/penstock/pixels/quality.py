"""The best quality at which a file is small enough."""

from collections.abc import Callable

from penstock.errors import OutputTooLarge


def best_within(max_bytes: int, quality: int, encode: Callable[[int], bytes]) -> bytes:
    """The largest file of at most `max_bytes` that `encode` makes at a quality from 1 to `quality`: at most 8 tries.

    Raises OutputTooLarge, which names the smallest size, when there is none.
    """
    data = encode(quality)
    if len(data) <= max_bytes:
        return data
    smallest, best, low, high = len(data), None, 1, quality - 1
    while low <= high:
        middle = (low + high) // 2
        data = encode(middle)
        smallest = min(smallest, len(data))
        if len(data) <= max_bytes:
            best, low = data, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise OutputTooLarge(
            f"at no quality is it that small: the smallest file has {smallest} bytes, max_bytes is {max_bytes}",
            param="output.max_bytes",
        )
    return best
