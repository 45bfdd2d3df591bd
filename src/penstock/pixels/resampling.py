"""Resampling: an image, or one channel of it, in another size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from PIL import Image

from penstock.lazy_import import lazy_import
from penstock.pixels.linear import linear
from penstock.pixels.picture import Levels, Pixels

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "area", "linear"]

FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}


def resize(channel: Levels, width: int, height: int) -> Levels:
    """Resample one channel of uint8 or uint16 bicubically; the same array where it has that size."""
    if channel.shape == (height, width):
        return channel
    if channel.itemsize == 1:
        return np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC))
    levels: Levels = np.array(
        Image.fromarray(channel.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    )
    np.clip(np.rint(levels, out=levels), 0, 65_535, out=levels)
    return levels.astype(np.uint16)


def resampled(pixels: Pixels, width: int, height: int, how: Resample) -> Pixels:
    """Resample (height, width), or (height, width, 3 or 4). Colours are weighted by their opacity where there are 4."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if how == "linear":
        return linear(pixels, width, height)
    return np.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[how]))
