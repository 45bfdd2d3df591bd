"""Colours for where nothing is seen: an editor leaves black, white or noise under full transparency.

A network that looks around each pixel would draw that into the visible edges. So each hidden pixel gets the colour of
the visible ones near it: the image is halved as long as there are hidden pixels, each time with the mean of the visible
of four, and then enlarged again, each time into the pixels that are still hidden (pull and push: Gortler and others,
The Lumigraph, 1996, section 3.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image

from penstock.lazy_import import lazy_import
from penstock.pixels.notes import note
from penstock.pixels.picture import Levels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


LEAST_WEIGHT = 32
"""Of 255: colours that are multiplied by less have under 5 bits."""


def filled(rgb: Levels, alpha: Levels | None) -> Levels:
    """The colours (height, width, 3) with those under an alpha of 0 replaced, both of uint8 or uint16. What is visible
    at all stays as it is; `rgb` itself where nothing is hidden, or everything. It is noted as `alpha_filled`."""
    if alpha is None or alpha.all() or not alpha.any():
        return rgb
    if rgb.itemsize == 2:
        return _filled_deep(rgb, alpha)
    note("alpha_filled")
    halved = Image.fromarray(np.dstack([rgb, alpha])).convert("RGBa").reduce(2)
    colours, weights = np.split(np.asarray(halved, np.float32), [3], axis=2)
    spread = _spread(colours * 255 / np.maximum(weights, 1), weights[..., 0])
    around = Image.fromarray(np.rint(spread).clip(0, 255).astype(np.uint8)).resize(
        (2 * halved.width, 2 * halved.height), Image.Resampling.BILINEAR
    )
    around.paste(Image.fromarray(rgb), (0, 0), Image.fromarray(np.where(alpha, np.uint8(255), np.uint8(0))))
    return np.asarray(around)[: rgb.shape[0], : rgb.shape[1]]


def _filled_deep(rgb: Levels, alpha: Levels) -> Levels:
    """What is hidden needs no more than 8 bits. Colours are weighted by an alpha that leaves some bits of them."""
    seen = np.where(alpha > 0, np.maximum(alpha >> 8, LEAST_WEIGHT), 0).astype(np.uint8)
    hidden = filled((rgb >> 8).astype(np.uint8), seen).astype(np.uint16) * np.uint16(257)
    return np.where(alpha[..., None] > 0, rgb, hidden)


def _spread(colours: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """The colours with those of no weight taken from around them."""
    hidden = weights == 0
    if not hidden.any():
        return colours
    halved = _halved(colours * weights[..., None])
    weight = _halved(weights[..., None])
    smaller = _spread(halved / np.maximum(weight, np.float32(1e-6)), weight[..., 0])
    made: NDArray[Any] = np.where(hidden[..., None], _enlarged(smaller)[: len(weights), : weights.shape[1]], colours)
    return made


def _halved(values: NDArray[Any]) -> NDArray[Any]:
    """The means of four; those of an odd last row or column of two."""
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    fours = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, values.shape[2])
    mean: NDArray[Any] = fours.mean(axis=(1, 3), dtype=np.float32)
    return mean


def _enlarged(colours: NDArray[Any]) -> NDArray[Any]:
    """Twice as wide and high."""
    height, width = colours.shape[:2]
    planes = [
        np.asarray(Image.fromarray(plane).resize((2 * width, 2 * height), Image.Resampling.BILINEAR))
        for plane in np.ascontiguousarray(np.moveaxis(colours, 2, 0))
    ]
    return np.stack(planes, axis=2)
