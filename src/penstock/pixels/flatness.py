"""Whether there is anything to see: what a network makes of a picture must not be one colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

SAME_LEVELS = 1
"""Levels of 255 by which the pixels of one colour may differ: rounding."""

SEEN_LEVELS = 6
"""Standard deviation, in levels of 255, from which a picture has something that no network may lose. `general`, which
removes noise, makes one colour of nearly white noise of 2.4 levels, and of none that has 4.7 or more; of noise of 6
levels every variant leaves 5 levels between the darkest and the brightest."""

GLANCE_PX = 61
"""A first look takes one pixel of so many in each direction: of nearly every picture it sees two colours."""


def is_flat(levels: Levels) -> bool:
    """Whether all pixels of (height, width) or (height, width, channels) have one colour, but for rounding. Of a
    picture that has several it takes a few microseconds."""
    most = SAME_LEVELS * _level(levels)
    return _spread(levels[::GLANCE_PX, ::GLANCE_PX]) <= most and _spread(levels) <= most


def has_content(levels: Levels) -> bool:
    """Whether a picture of such a shape clearly has more than one colour, so that its enlargement must have."""
    least = SEEN_LEVELS * _level(levels)
    if _spread(levels) < 2 * least:  # values that are so near cannot deviate as much
        return False
    return bool(levels.reshape(levels.shape[0] * levels.shape[1], -1).std(axis=0, dtype=np.float64).max() >= least)


def _spread(levels: Levels) -> int:
    """The largest difference of two values of a channel."""
    rows = levels.reshape(levels.shape[0], -1)  # along rows numpy compares many values at a time
    high, low = _channels(rows.max(axis=0), levels), _channels(rows.min(axis=0), levels)
    return int((high.max(axis=0).astype(np.int32) - low.min(axis=0)).max())


def _channels(row: NDArray[np.generic], levels: Levels) -> Levels:
    return row.reshape(levels.shape[1], -1)


def _level(levels: Levels) -> int:
    return 1 if levels.itemsize == 1 else 257
