"""Tiles in the form that a declared network takes and gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.lazy_import import lazy_import
from penstock.models.declared.kinds.levels import levels, pixels_of
from penstock.models.declared.network import Arrays
from penstock.models.declared.tensor import TensorForm
from penstock.models.tiling import TiledImage, Tiling
from penstock.pixels.canvas import Canvas
from penstock.pixels.deep_canvas import DeepCanvas
from penstock.pixels.picture import Pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class Surface(NamedTuple):
    """How a tile becomes a tensor, with so many pixels of border around that the network takes away, and the range of
    the values that come back."""

    form: TensorForm
    border_px: int
    span: str


class TiledTensor(TiledImage):
    """A tiled image whose tiles are tensors. What a tile has at its border is never kept: the overlap is wider."""

    def __init__(
        self,
        rgb: Pixels,
        tiling: Tiling,
        *,
        scale: int,
        surface: Surface,
        context: Any,
        canvas: Canvas | DeepCanvas | None = None,
        device_size: int | None = None,
        lane: str = "",
    ) -> None:
        super().__init__(rgb, tiling, scale=scale, lane=lane, context=context, canvas=canvas, device_size=device_size)
        self._surface = surface

    def _in(self, tiling: Tiling) -> TiledTensor:
        return TiledTensor(
            self._rgb,
            tiling,
            scale=self._scale,
            surface=self._surface,
            context=self.context,
            canvas=self.canvas,
            device_size=self.device_size,
            lane=self.lane,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor of every tile."""
        beyond = 2 * self._surface.border_px
        return self._surface.form.shape(self._layout.width + beyond, self._layout.height + beyond)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its values."""
        return self._surface.form.dtype

    def tile(self, index: int) -> NDArray[Any]:
        """The tensor of one tile."""
        tensor: NDArray[Any] = np.empty(self.shape, self.dtype)
        self.write_tile(index, tensor)
        return tensor

    def write_tile(self, index: int, into: NDArray[Any]) -> None:
        """Write the tensor of one tile into its place in the array of a batch. With a border, what is beyond the image
        is padding too, as around an image in one piece."""
        form, border = self._surface.form, self._surface.border_px
        height, width = self._layout.height, self._layout.width
        pixels = np.empty((height, width, 3), np.uint8)
        super().write_tile(index, pixels)
        if border:
            into[...] = form.padding(width + 2 * border, height + 2 * border)
        top, bottom, left, right = self._inside(index) if border else (0, height, 0, width)
        place = form.part(into, border + left, border + top, border + right, border + bottom)
        form.write(pixels[top:bottom, left:right], place)

    def accept(self, index: int, output: Arrays) -> None:
        """Keep the middle of one output tile. Raises InvalidOutput for another shape, and values that are no
        numbers."""
        form = self._surface.form
        made = pixels_of(output[0], form)
        if made.shape[2] == 1:
            made = np.broadcast_to(made, (*made.shape[:2], 3))
        colours = made[..., ::-1] if form.order == (2, 1, 0) else made
        super().accept(index, (levels(colours, self._surface.span), 0.0))
