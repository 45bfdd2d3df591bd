"""A canvas whose rows are taken from the top while those below are still written."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Pixels

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

BLOCK_ROWS = 64
"""Rows whose memory is taken and given back together."""


class Rectangle(NamedTuple):
    """A rectangle that was written."""

    left: int
    right: int
    top: int
    bottom: int


class RowCanvas:
    """An RGB image that is written in pieces, on several threads, and read once, from the top, on one.

    Only the rows that were begun and not yet taken have memory. A part may be written again, with pixels that are as
    good: what of it was taken already is left out.
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.complete = 0
        """The number of rows, from the top, whose pixels are all there."""
        self.taken = 0
        """The number of rows that were taken."""
        self._blocks: dict[int, Pixels] = {}
        self._parts: list[Rectangle] = []
        self._begun_px = 0  # of the first row that is not complete; what was written twice counts twice
        self._lock = Lock()

    def put(self, left: int, top: int, pixels: Pixels) -> None:
        """Write a part, (height, width, 3), with its upper left corner at this place."""
        height, width = pixels.shape[:2]
        for number in range(top // BLOCK_ROWS, -(-(top + height) // BLOCK_ROWS)):
            block, first = self._block(number), number * BLOCK_ROWS
            if block is not None:
                upper, lower = max(top, first), min(top + height, first + len(block))
                block[upper - first : lower - first, left : left + width] = pixels[upper - top : lower - top]
        with self._lock:
            self._count(Rectangle(left, left + width, top, top + height))

    def take(self, most_bytes: int) -> Iterator[Pixels]:
        """Yield bands of complete rows, (n, width, 3), that have not been taken, at least one and up to about so many
        bytes; none where no row is complete. A band is given back when the next is asked for."""
        stop = min(self.complete, self.taken + max(1, most_bytes // (3 * self.size[0])))
        while self.taken < stop:
            number, at = divmod(self.taken, BLOCK_ROWS)
            band = self._blocks[number][at : at + stop - self.taken]
            yield band
            self._give_back(number, self.taken + len(band))

    def _block(self, number: int) -> Pixels | None:
        """The rows of one block; None when they were all taken."""
        width, height = self.size
        with self._lock:
            if number not in self._blocks and number * BLOCK_ROWS >= self.taken:
                self._blocks[number] = np.empty((min(BLOCK_ROWS, height - number * BLOCK_ROWS), width, 3), np.uint8)
            return self._blocks.get(number)

    def _give_back(self, number: int, taken: int) -> None:
        with self._lock:
            self.taken = taken
            if taken in ((number + 1) * BLOCK_ROWS, self.size[1]):
                del self._blocks[number]

    def _count(self, part: Rectangle) -> None:
        self._parts.append(part)
        if part.top <= self.complete < part.bottom:
            self._begun_px += part.right - part.left
        while self._begun_px >= self.size[0] and (reach := self._complete_below()) > self.complete:
            self.complete = reach
            self._parts = [part for part in self._parts if part.bottom > reach]
            self._begun_px = sum(part.right - part.left for part in self._parts if part.top <= reach)

    def _complete_below(self) -> int:
        """The row to which all is there below the complete ones."""
        right, bottom = 0, self.size[1]
        for part in sorted(self._parts):
            if part.top <= self.complete < part.bottom and part.left <= right:
                right, bottom = max(right, part.right), min(bottom, part.bottom)
        return bottom if right >= self.size[0] else self.complete
