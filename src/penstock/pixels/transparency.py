"""The transparency of a result, joined in pieces from what a network made of that of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class AlphaCanvas:
    """The alpha of a result, `scale` times as wide and high as that of its source, (height, width). Threads may write
    different parts of it at a time.

    Where the source is even, the result is exactly so: a network makes 0 to 3, which is a haze on what shines through.
    """

    def __init__(self, source: Levels, scale: int) -> None:
        self._source = source
        self._is_even = _even(source)
        self._scale = scale
        self.pixels = np.empty((source.shape[0] * scale, source.shape[1] * scale), source.dtype)

    def put(self, left: int, top: int, made: Levels) -> None:
        """Write a part, (height, width), with its upper left corner at this place. All are multiples of the scale."""
        s = self._scale
        height, width = made.shape
        part = (slice(top // s, (top + height) // s), slice(left // s, (left + width) // s))
        is_even, source = (np.repeat(np.repeat(of[part], s, 0), s, 1) for of in (self._is_even, self._source))
        self.pixels[top : top + height, left : left + width] = np.where(is_even, source, made)


def is_uniform(alpha: Levels) -> bool:
    """Whether it has one value everywhere, which every way of resampling keeps."""
    return bool((alpha == alpha[0, 0]).all())


def _even(alpha: Levels) -> NDArray[np.bool_]:
    """Where a value and the eight around it are the same."""
    around = np.pad(alpha, 1, mode="edge")
    height, width = alpha.shape
    same = np.ones(alpha.shape, bool)
    for row in range(3):
        for column in range(3):
            same &= around[row : row + height, column : column + width] == alpha
    return same
