"""From values of a network to the levels of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.declared.kinds.contract import finite
from penstock.models.declared.tensor import BOUNDS, TensorForm
from penstock.pixels.picture import Pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


def levels(values: NDArray[Any], span: str) -> Pixels:
    """Values of this range as levels of 0..255, rounded; what lies outside of it becomes the nearest. Bytes stay as
    they are. Raises InvalidOutput where a value is no number."""
    if values.dtype == np.uint8:
        return values
    exact = finite(values).astype(np.float32)
    low, high = BOUNDS[span] if span in BOUNDS else (float(exact.min()), float(exact.max()))
    if (low, high) != (0.0, 255.0):
        exact -= np.float32(low)
        exact *= np.float32(255 / (high - low if high > low else 1.0))
    exact += np.float32(0.5)
    return exact.clip(0, 255, out=exact).astype(np.uint8)


def pixels_of(array: NDArray[Any], form: TensorForm) -> NDArray[Any]:
    """One image as (height, width, channels), of an output of a graph whose input has this form: with its batch axis or
    without, and of one channel without that axis. Raises InvalidOutput where it is none."""
    in_batch = array.shape[:1] == (1,) and (array.ndim == 4 or (array.ndim == 3 and form.batched and not form.planar))
    image = array[0] if in_batch else array
    if image.ndim == 2:
        image = image[None] if form.planar else image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise InvalidOutput(f"the model gave {list(array.shape)}, which is no image")
    return image.transpose(1, 2, 0) if form.planar else image
