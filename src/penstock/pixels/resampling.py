"""Resampling: an image, or one channel of it, in another size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from penstock.lazy_import import lazy_import
from penstock.pixels.linear import linear
from penstock.pixels.picture import Levels, Pixels

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
else:
    np, Image = lazy_import("numpy"), lazy_import("PIL.Image")

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "area", "linear"]

FILTERS: dict[str, str] = {
    "nearest": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "lanczos": "LANCZOS",
    "area": "BOX",
}
"""How a channel is resampled -> the name that Pillow has for it."""

BICUBIC_REACH = 2
"""Pixels that the filter looks at on each side."""


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


def resized_rows(channel: Pixels, width: int, height: int, rows: range) -> Pixels:
    """The `rows` of what `resize` returns, without the others."""
    ratio = len(channel) / height
    reach = math.ceil(BICUBIC_REACH * max(1, ratio)) + 1
    top, bottom = rows.start * ratio, min(rows.stop * ratio, len(channel))
    first = max(0, math.floor(top) - reach)
    near = Image.fromarray(channel[first : math.ceil(bottom) + reach])
    # Pillow enlarges across and then down, with bytes in between; of a part in one step it would do both at once.
    across = near.resize((width, near.height), Image.Resampling.BICUBIC)
    box = (0, top - first, width, bottom - first)
    return np.asarray(across.resize((width, len(rows)), Image.Resampling.BICUBIC, box))


def resampled(pixels: Pixels, width: int, height: int, how: Resample) -> Pixels:
    """Resample (height, width), or (height, width, 3 or 4). Colours are weighted by their opacity where there are 4."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if how == "linear":
        return linear(pixels, width, height)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling[FILTERS[how]]))
