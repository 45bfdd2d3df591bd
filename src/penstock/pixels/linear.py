"""Bilinear resampling without a filter, as OpenCV's INTER_LINEAR computes it for bytes.

Many published models were trained behind `cv2.resize`, which looks at the four nearest pixels whatever the scale is.
Pillow's filters look at all pixels that one of a smaller image covers, and give other values. The arithmetic is that of
OpenCV 4 (modules/imgproc/src/resize.cpp): weights in 2048ths, and the halves of a whole scale averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

ONE = 2048
"""INTER_RESIZE_COEF_SCALE: what the two weights of an axis add up to."""


def linear(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resample (height, width) or (height, width, channels)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[:2] == (2 * height, 2 * width):
        return _halved(pixels)
    rows, row_weights = _taps(pixels.shape[0], height)
    columns, weights = _taps(pixels.shape[1], width)
    spread = (slice(None), *[None] * (pixels.ndim - 2))
    left, right = (weight[spread] for weight in weights)

    def across(of_rows: NDArray[Any]) -> NDArray[np.int32]:
        lines = pixels.take(of_rows, axis=0)
        mixed: NDArray[np.int32] = lines.take(columns[0], axis=1) * left
        mixed += lines.take(columns[1], axis=1) * right
        mixed >>= 4
        return mixed

    down = (slice(None), *[None] * (pixels.ndim - 1))
    upper, lower = (across(of_rows) * weight[down] >> 16 for of_rows, weight in zip(rows, row_weights, strict=True))
    mixed: NDArray[np.int32] = upper + lower + 2
    return (mixed >> 2).astype(np.uint8)


def _taps(length: int, wanted: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The indices of the two neighbours of each wanted pixel, (2, wanted), and their weights."""
    scale = 1 / (wanted / length)
    at = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    weights = np.stack([np.rint((1 - share) * ONE), np.rint(share * ONE)]).astype(np.int32)
    return np.stack([first, first + 1]).clip(0, length - 1), weights


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    fours: NDArray[np.uint16] = np.stack([pixels[y::2, x::2] for y in (0, 1) for x in (0, 1)]).sum(0, np.uint16)
    return ((fours + 2) >> 2).astype(np.uint8)
