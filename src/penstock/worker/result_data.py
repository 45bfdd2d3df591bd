"""The JSON data of a result: plain types, and nothing that JSON cannot hold."""

import math
from typing import Any

import msgspec

from penstock.errors import ModelResultInvalid

MAX_DEPTH = 64
"""The most levels of lists and objects in the data of a result; JSON parsers give up at some hundred."""

BYTES_PER_CHARACTER = 8
"""An array has at most so many bytes for each character of its JSON: 16 for a number, which is written with two
characters or more. So an array that is too large is refused before a list is made of it."""


def plain(data: Any, *, max_bytes: int) -> dict[str, Any]:
    """Returns the data of a result in plain types: scalars and arrays of numpy become numbers and lists.

    Raises ModelResultInvalid for what JSON cannot hold, and for data that takes more than `max_bytes` as JSON.
    """

    def from_array(value: Any) -> Any:
        if not (hasattr(value, "tolist") and hasattr(value, "dtype")):
            raise ModelResultInvalid(f"the data of the result has {kind_of(value)}, which JSON cannot hold")
        if getattr(value, "nbytes", 0) > BYTES_PER_CHARACTER * max_bytes:
            raise _too_large(max_bytes)
        return value.tolist()

    try:
        converted = msgspec.to_builtins(data, enc_hook=from_array)
        _check(converted, "data", 0)
        size = len(msgspec.json.encode(converted))
    except (RecursionError, TypeError, ValueError, OverflowError) as error:  # ValueError: half of a surrogate pair
        raise ModelResultInvalid("the data of the result cannot be written as JSON") from error
    if not isinstance(converted, dict):
        raise ModelResultInvalid(f"the data of the result is {kind_of(data)}, not an object")
    if size > max_bytes:
        raise _too_large(max_bytes)
    return converted


def _check(value: Any, path: str, depth: int) -> None:
    """Refuse what the encoder would change without a word: it makes null of NaN, and text of keys that are none."""
    if depth > MAX_DEPTH:
        raise ModelResultInvalid(f"the data of the result has more than {MAX_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise ModelResultInvalid(f"{path} of the result is {value}, which JSON cannot hold")
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise ModelResultInvalid(f"{path} of the result has a name that is {kind_of(name)}, not a string")
            _check(member, f"{path}.{name}"[:100], depth + 1)
    elif isinstance(value, list | tuple):
        for place, member in enumerate(value):
            _check(member, f"{path}[{place}]"[:100], depth + 1)


def _too_large(max_bytes: int) -> ModelResultInvalid:
    return ModelResultInvalid(f"the data of the result takes more than limits.max_result_data_bytes ({max_bytes})")


def kind_of(value: Any) -> str:
    """How a message names the type of what a model has returned."""
    return f"a {type(value).__name__}"
