"""An image in the size that is asked for.

Values are resampled bicubically as they are stored, which keeps more of a network's result than linear light or Lanczos
does (docs/explanation/images.md has the figures). Only a result that is smaller than the input is made in linear light:
fine patterns of the input are averaged there, and would become too dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image

from penstock.core.target import Layout
from penstock.lazy_import import lazy_import
from penstock.pixels.colours.deep import levels_of_light
from penstock.pixels.picture import Levels, Pixels
from penstock.pixels.transparency import is_uniform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray
else:
    np = lazy_import("numpy")

BAND_ROWS, BAND_LINES = 256, 1024
"""Rows of the result that are made at a time, and about how many lines of the image they may be made of, so that only
these exist in another form."""

SUPPORT = 2
"""How many pixels of the smaller image the filter looks to each side."""

STEPS = 2**16 - 1
"""Values of linear light on the way back: one step of sRGB near black is 20 of them."""


Box = tuple[float, float, float, float]

Weights: TypeAlias = "NDArray[np.float32]"


def fitted(rgb: Levels, layout: Layout, *, in_linear_light: bool, alpha: Levels | None = None) -> Levels:
    """The image, (height, width, 3) of uint8 or uint16, in the size of the canvas. A border is black.

    Each pixel counts as much as its `alpha` lets it be seen, or what is hardly there would discolour the edge of what
    is opaque. That may come in any size.
    """
    width, height = layout.seen
    made = np.empty((height, width, 3), rgb.dtype)
    band = _in_linear_light if in_linear_light else _as_stored
    alpha = None if alpha is None or is_uniform(alpha) else alpha
    left, upper, right, lower = layout.source(rgb.shape[1], rgb.shape[0])
    step = (lower - upper) / height
    reach, rows = math.ceil(SUPPORT * max(step, 1)), max(1, min(BAND_ROWS, int(BAND_LINES / step)))
    for top in range(0, height, rows):
        low = min(top + rows, height)
        begin, end = upper + top * step, upper + low * step
        first, last = max(0, math.floor(begin) - reach), min(rgb.shape[0], math.ceil(end) + reach)
        box = (left, begin - first, min(right, rgb.shape[1]), min(end - first, last - first))
        weights = None if alpha is None else _weights(alpha, rgb.shape[:2], first, last)
        made[top:low] = band(rgb[first:last], (width, low - top), box, weights)
    return _placed(made, layout)


def _weights(alpha: Levels, shape: tuple[int, ...], first: int, last: int) -> Weights:
    """How much the pixels of these lines of an image of that shape count: those that are hidden a little, so that
    between hidden ones there is a colour too."""
    if alpha.shape == shape:
        lines = alpha[first:last]
    else:
        down, size = alpha.shape[0] / shape[0], (shape[1], last - first)
        box = (0, first * down, alpha.shape[1], min(last * down, alpha.shape[0]))
        lines = _plane(alpha, lambda image: image.resize(size, Image.Resampling.BICUBIC, box))
    return (lines.astype(np.float32) + 1) * np.float32(1 / (np.iinfo(alpha.dtype).max + 1))


def fitted_alpha(alpha: Levels | None, layout: Layout, kind: DTypeLike = "uint8") -> Levels | None:
    """The opacity of the canvas, (height, width): 0 of its border; None where everything is opaque. That of the image
    may come in any size."""
    if alpha is None:
        return (
            _placed(np.full(layout.seen[::-1], np.iinfo(np.dtype(kind)).max, kind), layout)
            if layout.has_border
            else None
        )
    height, width = alpha.shape
    left, top, right, low = layout.source(width, height)
    box = (left, top, min(right, width), min(low, height))
    return _placed(_plane(alpha, lambda image: image.resize(layout.seen, Image.Resampling.BICUBIC, box)), layout)


def _placed(seen: Levels, layout: Layout) -> Levels:
    if not layout.has_border:
        return seen
    (width, height), (left, top) = layout.canvas, layout.corner
    canvas = np.zeros((height, width, *seen.shape[2:]), seen.dtype)
    canvas[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
    return canvas


def _as_stored(lines: Levels, size: tuple[int, int], box: Box, weights: Weights | None) -> Levels:
    if weights is not None:
        values = _values(lines, size, box, weights, lambda levels: levels.astype(np.float32))
        made: Levels = np.rint(values).clip(0, np.iinfo(lines.dtype).max).astype(lines.dtype)
        return made
    if lines.itemsize == 1:
        return np.asarray(_resized(Image.fromarray(lines), size, box))
    return np.stack([_plane(lines[..., n], lambda image: _resized(image, size, box)) for n in range(3)], axis=2)


def _plane(levels: Levels, change: Callable[[Image.Image], Image.Image]) -> Levels:
    """One channel, changed as an image; one of uint16 as floats, since Pillow resamples no more than 8 bits else."""
    if levels.itemsize == 1:
        return np.asarray(change(Image.fromarray(levels)))
    made: Levels = np.rint(np.asarray(change(Image.fromarray(levels.astype(np.float32)))))
    return made.clip(0, 65_535).astype(np.uint16)


def _in_linear_light(lines: Levels, size: tuple[int, int], box: Box, weights: Weights | None) -> Levels:
    if lines.itemsize == 2:
        light = _light_of(np.arange(STEPS + 1) / STEPS).astype(np.float32)
        return levels_of_light(_values(lines, size, box, weights, light.__getitem__))
    light, levels = _tables()
    values = _values(lines, size, box, weights, light.__getitem__)
    made: Pixels = levels[np.rint(values.clip(0, 1) * STEPS).astype(np.uint16)]
    return made


def _values(
    lines: Levels, size: tuple[int, int], box: Box, weights: Weights | None, change: Callable[[Levels], Weights]
) -> Weights:
    """All channels as floats, which `change` makes of levels, in another size; the mean of pixels has their weights."""
    planes = (change(lines[..., channel]) for channel in range(3))
    if weights is None:
        return np.stack([_resampled(plane, size, box) for plane in planes], axis=2)
    least = 1 / STEPS  # beside an edge a bicubic mean falls below 0, where nothing is seen
    total = _resampled(weights, size, box).clip(least)
    return np.stack([_resampled(plane * weights, size, box) / total for plane in planes], axis=2)


def _resampled(plane: Weights, size: tuple[int, int], box: Box) -> Weights:
    return np.asarray(_resized(Image.fromarray(plane), size, box))


def _light_of(stored: NDArray[Any]) -> NDArray[Any]:
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def _resized(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    # Across first: Pillow begins with whichever is less work, which is not the same for every band, and clips between.
    left, top, right, low = box
    across = image.resize((size[0], image.height), Image.Resampling.BICUBIC, (left, 0, right, image.height))
    return across.resize(size, Image.Resampling.BICUBIC, (0, top, size[0], low))


@cache
def _tables() -> tuple[NDArray[Any], Pixels]:
    """Linear light of each level of sRGB, and the level of each of `STEPS` (IEC 61966-2-1)."""
    stored, linear = np.arange(256) / 255, np.arange(STEPS + 1) / STEPS
    light = _light_of(stored)
    back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return light.astype(np.float32), np.rint(back * 255).astype(np.uint8)
