"""The filters of PNG: each byte becomes its difference from a forecast, and the differences compress better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Pixels
from penstock.pixels.png.deflate import compressor

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

STRIP_ROWS, STRIP_BYTES = 64, 2**19
"""So many rows get one filter, fewer where they have more bytes than these, which the caches of a core hold."""

SAMPLE_ROWS, SAMPLE_BYTES = 4, 2**11
"""So many rows of a strip, and so many bytes of each, are compressed with each filter, to see which is the best."""

SUB, UP, AVERAGE = 1, 2, 3
"""The numbers of the filters in a file. Paeth, the fourth, would take longer than the compression."""


class RowFilter:
    """Filters the rows of one image, from the top. A row has so many bytes, and a pixel so many of them."""

    def __init__(self, row_bytes: int, pixel_bytes: int) -> None:
        self._strip_rows = max(1, min(STRIP_ROWS, STRIP_BYTES // row_bytes))
        # The row above the strip comes first, and each begins with the black pixel that PNG sees on its left.
        known = np.zeros((self._strip_rows + 1, pixel_bytes + row_bytes), np.uint8)
        self._last, self._values = known[:, pixel_bytes:], known[1:, pixel_bytes:]
        self._left, self._above = known[1:, :row_bytes], known[:-1, pixel_bytes:]
        self._filtered = np.empty((self._strip_rows, 1 + row_bytes), np.uint8)
        middle = max(0, row_bytes - SAMPLE_BYTES) // 2
        self._sample = slice(middle, middle + SAMPLE_BYTES)

    def filtered(self, rows: Pixels) -> Iterator[memoryview]:
        """Yield the next rows, (n, row_bytes), behind the numbers of their filters, a strip at a time. The memory of a
        strip is used again for the next."""
        for at in range(0, len(rows), self._strip_rows):
            yield self._strip(rows[at : at + self._strip_rows])

    def _strip(self, rows: Pixels) -> memoryview:
        count = len(rows)
        self._values[:count] = rows
        filtered, kind = self._filtered[:count], self._best(count)
        filtered[:, 0] = kind
        np.subtract(self._values[:count], self._forecast(kind, np.s_[:count]), out=filtered[:, 1:])
        self._last[0] = self._values[count - 1]
        return filtered.data.cast("B")

    def _best(self, count: int) -> int:
        # In photos Average makes a file that is a tenth smaller than with Up, in flat art and text one that is a third
        # larger.
        first = max(0, count - SAMPLE_ROWS) // 2
        place = np.s_[first : min(count, first + SAMPLE_ROWS), self._sample]
        sizes = {kind: _compressed(self._values[place] - self._forecast(kind, place)) for kind in (AVERAGE, UP, SUB)}
        return min(sizes, key=lambda kind: sizes[kind])

    def _forecast(self, kind: int, place: Any) -> Pixels:
        left, above = self._left[place], self._above[place]
        return _mean(left, above) if kind == AVERAGE else above if kind == UP else left


def _compressed(sample: Pixels) -> int:
    stream = compressor()
    return len(stream.compress(sample.data.cast("B"))) + len(stream.flush())


def _mean(one: Pixels, other: Pixels) -> Pixels:
    """The mean of bytes, rounded down, without a wider type on the way: what both have, and half of what one has."""
    mean = one ^ other
    mean >>= 1
    mean += one & other
    return mean
