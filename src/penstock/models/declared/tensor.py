"""From decoded pixels to the input tensor that a definition describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import
from penstock.models.declared.definition import InputSection
from penstock.models.declared.placement import ImagePlacement
from penstock.pixels.picture import Picture, Pixels, grey, on_white
from penstock.pixels.resampling import resampled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

BOUNDS = {"0-1": (0.0, 1.0), "-1-1": (-1.0, 1.0), "0-255": (0.0, 255.0)}
"""What the levels 0 and 255 become."""

ORDERS: dict[str, tuple[int, ...]] = {
    "RGB": (0, 1, 2),
    "BGR": (2, 1, 0),
    "RGBA": (0, 1, 2, 3),
    "BGRA": (2, 1, 0, 3),
    "grey": (0,),
}
"""Which channels of an image follow one another in the tensor."""


class TensorForm:
    """Writes pixels as values of one layout, colour order, type and range."""

    def __init__(self, section: InputSection) -> None:
        order = ORDERS[section.colour]
        self.order = order * section.channels if len(order) == 1 else order
        self.planar = "CH" in section.layout
        self.batched = "N" in section.layout
        self.dtype = np.dtype(section.dtype)
        low, high = BOUNDS[section.range]
        mean, std = _each(section, section.mean, 0.0), _each(section, section.std, 1.0)
        self._factor = self._along((high - low) / 255 / std)
        self._offset = self._along((low - mean) / std)
        self._pad = self._along((low + section.pad_value * (high - low) / 255 - mean) / std)
        self._as_they_are = bool((self._factor == 1).all() and (self._offset == 0).all())

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """The shape of the tensor of one image, without the batch axis."""
        channels = len(self.order)
        return (channels, height, width) if self.planar else (height, width, channels)

    def write(self, pixels: Pixels, into: NDArray[Any]) -> None:
        """Write the pixels of an image, (height, width) or (height, width, channels), as values into an array of that
        shape."""
        ordered = self._ordered(pixels)
        values = into if into.dtype != np.float16 else np.empty(into.shape, np.float32)
        values[...] = ordered.transpose(2, 0, 1) if self.planar else ordered
        if not self._as_they_are:
            values *= self._factor
            values += self._offset
        if values is not into:
            into[...] = values

    def padding(self, width: int, height: int) -> NDArray[Any]:
        """The tensor of an image that is nothing but padding."""
        padded = np.empty(self.shape(width, height), self.dtype)
        padded[...] = self._pad if self.dtype.kind == "f" else self._pad.round()
        return padded

    def part(self, tensor: NDArray[Any], left: int, top: int, right: int, low: int) -> NDArray[Any]:
        """A view of the rectangle between these edges."""
        return tensor[:, top:low, left:right] if self.planar else tensor[top:low, left:right]

    def _ordered(self, pixels: Pixels) -> Pixels:
        if pixels.ndim == 2:
            return np.broadcast_to(pixels[..., None], (*pixels.shape, len(self.order)))
        if self.order == tuple(range(pixels.shape[2])):
            return pixels
        return pixels[..., ::-1] if self.order == (2, 1, 0) else pixels[..., self.order]

    def _along(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """One value for each channel, so that it spreads over the pixels of a tensor."""
        one_each = values.astype(np.float32)
        return one_each[:, None, None] if self.planar else one_each


def _each(section: InputSection, values: tuple[float, ...], default: float) -> NDArray[np.float64]:
    return np.broadcast_to(np.array(values or (default,), np.float64), (section.channels,))


def channels_of(picture: Picture, section: InputSection) -> Pixels:
    """The pixels that a network sees: transparency lies on white, unless it takes four channels."""
    if section.colour == "grey":
        return grey(picture)
    if section.channels == 4:
        alpha = np.full(picture.rgb.shape[:2], 255, np.uint8) if picture.alpha is None else picture.alpha
        return np.dstack([picture.rgb, alpha])
    return on_white(picture)


def tensor_of(picture: Picture, placement: ImagePlacement, section: InputSection, form: TensorForm) -> NDArray[Any]:
    """The tensor of an image that is placed so."""
    pixels = channels_of(picture, section)
    if placement.padded != placement.source:
        pixels = _extended(pixels, placement, round(section.pad_value))
    pixels = resampled(pixels, *placement.resized, section.resample)
    (width, height), left, top = placement.canvas, placement.left, placement.top
    window = pixels[max(-top, 0) : height - top, max(-left, 0) : width - left]
    if window.shape[:2] == (height, width):
        tensor: NDArray[Any] = np.empty(form.shape(width, height), form.dtype)
        form.write(window, tensor)
        return tensor
    tensor = form.padding(width, height)
    left, top = max(left, 0), max(top, 0)
    form.write(window, form.part(tensor, left, top, left + window.shape[1], top + window.shape[0]))
    return tensor


def _extended(pixels: Pixels, placement: ImagePlacement, level: int) -> Pixels:
    (width, height), (padded_width, padded_height) = placement.source, placement.padded
    beyond = [(0, padded_height - height), (0, padded_width - width)]
    return np.pad(pixels, [*beyond, *[(0, 0)] * (pixels.ndim - 2)], constant_values=level)
