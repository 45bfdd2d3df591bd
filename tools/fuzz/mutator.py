"""A mutator of valid inputs. The same seed makes the same inputs."""

import random
from collections.abc import Callable, Sequence

LONGEST_BLOCK = 64
MOST_POOL = 2000
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1)
EDITS = (1, 1, 1, 1, 2, 2, 3, 5)
"""How many edits an input may have: with many, hardly any is valid."""
_DIGITS = b"0123456789"


class Mutator:
    """Makes inputs from seeds and words. `keep` adds an input whose outcome was new, so that others start from it."""

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes], most_bytes: int, luck: random.Random) -> None:
        self._seeds = list(seeds)
        self._pool = list(seeds)
        self._words = words
        self._most_bytes = most_bytes
        self._luck = luck
        self._edits: list[Callable[[bytearray], None]] = [
            self._flip,
            self._set,
            self._insert,
            self._delete,
            self._copy,
            self._borrow,
            self._number,
            self._digits,
            self._cut,
            self._repeat,
            *([self._word, self._word, self._word, self._line] if words else []),
        ]

    def keep(self, data: bytes) -> None:
        """Let further inputs start from this one."""
        if len(self._pool) < MOST_POOL:
            self._pool.append(data)

    def made(self) -> bytes:
        """Return an input: a seed, or one of those kept, with a few edits."""
        data = bytearray(self._luck.choice(self._luck.choice((self._seeds, self._pool))))
        for _ in range(self._luck.choice(EDITS)):
            self._luck.choice(self._edits)(data)
        return bytes(data[: self._most_bytes])

    def _place(self, data: bytearray) -> int:
        return self._luck.randint(0, len(data))

    def _block(self, data: bytes | bytearray) -> tuple[int, int]:
        start = self._luck.randint(0, len(data))
        return start, start + self._luck.randint(1, LONGEST_BLOCK)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._luck.randrange(len(data))] ^= 1 << self._luck.randrange(8)

    def _set(self, data: bytearray) -> None:
        if data:
            data[self._luck.randrange(len(data))] = self._luck.randrange(256)

    def _insert(self, data: bytearray) -> None:
        at = self._place(data)
        data[at:at] = self._luck.randbytes(self._luck.randint(1, 8))

    def _delete(self, data: bytearray) -> None:
        start, end = self._block(data)
        del data[start:end]

    def _copy(self, data: bytearray) -> None:
        start, end = self._block(data)
        at = self._place(data)
        data[at:at] = data[start:end]

    def _borrow(self, data: bytearray) -> None:
        other = self._luck.choice(self._pool)
        start, end = self._block(other)
        at = self._place(data)
        data[at : at + self._luck.randint(0, end - start)] = other[start:end]

    def _number(self, data: bytearray) -> None:
        at, size = self._place(data), self._luck.choice((1, 2, 4))
        number = self._luck.choice(NUMBERS) % 256**size
        data[at : at + size] = number.to_bytes(size, self._luck.choice(("big", "little")))

    def _digits(self, data: bytearray) -> None:
        places = [at for at, code in enumerate(data) if code in _DIGITS]
        if places:
            at = self._luck.choice(places)
            data[at : at + self._luck.randint(1, 3)] = str(self._luck.choice(NUMBERS)).encode()

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _repeat(self, data: bytearray) -> None:
        start, end = self._block(data)
        block = data[start:end]
        times = min(2 ** self._luck.randrange(12), self._most_bytes // max(1, len(block)))
        data[end:end] = block * times

    def _line(self, data: bytearray) -> None:
        at = data.rfind(b"\n", 0, self._place(data)) + 1
        data[at:at] = self._luck.choice(self._words)

    def _word(self, data: bytearray) -> None:
        word, at = self._luck.choice(self._words), self._place(data)
        data[at : at + self._luck.choice((0, 0, len(word)))] = word
