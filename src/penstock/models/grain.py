"""Gives an enlarged image back what its network took for noise.

Reduced to the size of its input again, an enlarged image shows what the network has changed of it. That difference,
resampled to the size of the result, is noise where the input had noise, and texture where it had texture: which of them
it is, the network cannot know, and whoever looks at the picture may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


def with_grain(source: Pixels, upscaled: Pixels, share: float) -> Pixels:
    """Return the enlarged pixels, (s·h, s·w, 3), with this share of what they lack of their source, (h, w, 3), in their
    own type."""
    height, width, channels = source.shape
    scale = upscaled.shape[0] // height
    reduced = upscaled.reshape(height, scale, width, scale, channels).mean(axis=(1, 3), dtype=np.float32)
    lacking = np.float32(share) * (source - reduced)
    for axis in (0, 1):
        lacking = _enlarged(lacking, scale, axis)
    levels: Pixels = np.rint(lacking + upscaled).clip(0, np.iinfo(upscaled.dtype).max).astype(upscaled.dtype)
    return levels


def _enlarged(values: NDArray[np.float32], scale: int, axis: int) -> NDArray[np.float32]:
    """Cubic interpolation along one axis, which goes on at its ends as its last values do."""
    lines = values.swapaxes(0, axis)
    beside = np.concatenate([lines[:1], lines[:1], lines, lines[-1:], lines[-1:]])
    enlarged = np.empty((len(lines) * scale, *lines.shape[1:]), np.float32)
    for phase in range(scale):
        at = (phase + 0.5) / scale + 1.5  # where a value of this phase lies in `beside`, for the first line
        first = int(at) - 1
        weights = [_cubic(at - (first + tap)) for tap in range(4)]
        taps = (weight * beside[first + tap :][: len(lines)] for tap, weight in enumerate(weights))
        enlarged[phase::scale] = sum(taps, start=np.float32(0))
    return enlarged.swapaxes(0, axis)


def _cubic(distance: float) -> np.float32:
    """The kernel of Keys (1981) with a = -0.5."""
    x = abs(distance)
    if x < 1:
        return np.float32(1.5 * x**3 - 2.5 * x**2 + 1)
    return np.float32(max(0.0, 2 - x) and -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
