"""image-to-image: an image becomes another one, `scale` times as wide and high; a large one in tiles where that is
allowed."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.core.device import CPU_TILE_PX, Device
from penstock.core.gate import SCORER
from penstock.core.request import OutputOptions
from penstock.core.sizes import SizeRule, Sizes, TileSides
from penstock.core.target import Layout
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import ResultStream, Work
from penstock.models.declared.kinds.contract import KindAnswer
from penstock.models.declared.kinds.levels import levels, pixels_of
from penstock.models.declared.kinds.one_image import WRITTEN_BYTES, OneImage, Seen
from penstock.models.declared.kinds.tiles import Surface, TiledTensor
from penstock.models.declared.tensor import ORDERS
from penstock.models.gate import Comparison, GateParams
from penstock.models.tiling import AnyShape, Ladder, Tiling, row_writer
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import CONTENT_TYPES, encode
from penstock.pixels.filling import filled
from penstock.pixels.fitting import fitted_alpha
from penstock.pixels.flatness import has_content, is_flat
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture, Pixels, greyed
from penstock.pixels.resampling import resampled, resize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


UNKNOWN_MULTIPLE = 32
"""Sides of tiles are multiples of it where a definition does not say what its network needs: many halve an image up to
five times."""

LEAST_SIDE = 64
"""The least side of a tile: what a network of others bears below it, nobody says."""


USUAL_SIDES = tuple(range(LEAST_SIDE, CPU_TILE_PX + 1, UNKNOWN_MULTIPLE))
"""Sides of the tiles of an image that a CPU cannot hold as a whole."""


class Bypass(NamedTuple):
    """What does not go through the network: transparency, and whether the source was grey."""

    alpha: Pixels | None
    grey: bool


class ImageToImage(OneImage):
    """Answers the image that the network makes. Transparency is resampled bicubically and put back, unless the network
    takes it; of a network that enlarges, a grey image stays grey."""

    produces = "image"
    base_params = GateParams
    keeps_picture = True
    on_white = False

    @property
    def scale(self) -> int:
        """How many times as wide and high the result is."""
        return self.definition.output.scale

    @property
    def in_tiles(self) -> bool:
        """Whether a large image is cut into tiles."""
        return self.definition.tiles.allowed != "never"

    @property
    def sizes(self) -> Sizes:
        """The size times the scale; what is computed are tiles, as a CPU cuts them, or the image."""
        fixed = super().sizes.rule.kilopixels
        sides = self._sides() if self.definition.tiles.allowed == "supported" else None
        return Sizes(rule=SizeRule(scale=float(self.scale), kilopixels=fixed, tiles=sides), scorer=SCORER)

    def memory_needed(self, source: bytes) -> int:
        """The pixels before and after the network, and of a single tile also its result as floats."""
        header = probe(source, ImageBounds.of(self.limits))
        written = int(header.megapixels * 1e6) * self.scale**2 * WRITTEN_BYTES
        floats = 0 if self.in_tiles else 4 * prod(self._place(header.width, header.height).canvas) * self.scale**2 * 3
        return super().memory_needed(source) + written + floats

    def work(self, source: bytes, device: Device) -> Work:
        """Tiles of the image, or one tile: its tensor."""
        picture = decode(source, ImageBounds.of(self.limits))
        return self._tiles(picture, device) if self.in_tiles else self.one_tile(picture)

    @property
    def may_be_flat(self) -> bool:
        """Whether an image of one colour may come of one that has several."""
        said = self.definition.output.may_be_flat
        return self.scale == 1 if said is None else said

    def _tiles(self, picture: Picture, device: Device) -> Work:
        height, width = picture.rgb.shape[:2]
        surface = Surface(self.form, self.section.border_px, self.definition.output.range)
        bypass = Bypass(picture.alpha, picture.grey and self.scale > 1)
        work = TiledTensor(
            filled(picture.rgb, picture.alpha),
            self._tiling(device, width, height),
            scale=self.scale,
            surface=surface,
            context=bypass,
            device_size=self.sizes.rule.kilopixels_of(width, height),
        )
        work.may_be_flat = self.may_be_flat
        return work

    def _sides(self) -> TileSides:
        """The sides of tiles on a CPU."""
        tiles, multiple = self.definition.tiles, self.section.multiple_of or UNKNOWN_MULTIPLE
        return TileSides(
            fixed=tiles.ladder,
            longest=max(multiple, CPU_TILE_PX - CPU_TILE_PX % multiple),
            least=max(multiple, LEAST_SIDE),
            multiple=multiple,
            overlap_px=tiles.overlap_px,
        )

    def _tiling(self, device: Device, width: int, height: int) -> Tiling:
        tiles = self.definition.tiles
        if tiles.allowed == "supported":
            if device.any_side_to and not tiles.ladder:
                return AnyShape(self._sides())
            return Ladder(self._shapes(device), tiles.overlap_px)
        multiple = self.section.multiple_of or 1  # the whole image first; tiles where the device cannot hold it
        whole = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        return Ladder((*self._shapes(device), whole), tiles.overlap_px)

    def _shapes(self, device: Device) -> tuple[tuple[int, int], ...]:
        sides = self.definition.tiles.ladder or (USUAL_SIDES if device.any_side_to else ())
        return tuple(product(sides, sides)) if sides else device.shapes

    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """The image, encoded as asked."""
        if isinstance(work, TiledTensor):
            (width, height), bypass = work.canvas.size, work.context
            file = work.canvas.encode(output, alpha=bypass.alpha, grey=bypass.grey)
        else:
            picture = self._picture(work.outputs[0][0], work.context)
            (height, width), file = picture.rgb.shape[:2], encode(picture, output)
        return KindAnswer({}, file, CONTENT_TYPES[output.format], output.format, width, height)

    def comparison(self, work: Work) -> Comparison:
        """The image, and what the network has made of it."""
        if isinstance(work, TiledTensor):
            bypass = work.context
            source = Picture(work.source, bypass.alpha, bypass.grey)
            layout = Layout(work.canvas.size, work.canvas.size)
            rgb = greyed(work.canvas.pixels) if bypass.grey else work.canvas.pixels
            result = Picture(rgb, fitted_alpha(bypass.alpha, layout), bypass.grey)
            return Comparison(source, result, layout)
        source, result = work.context.picture, self._picture(work.outputs[0][0], work.context)
        size = result.rgb.shape[1], result.rgb.shape[0]
        return Comparison(source, result, Layout(size, size))

    def stream(self, work: Work, output: OutputOptions) -> ResultStream | None:
        """A large PNG that is joined from tiles."""
        if not isinstance(work, TiledTensor):
            return None
        writer = row_writer(work, output, alpha=work.context.alpha, grey=work.context.grey)
        said = KindAnswer({}, None, CONTENT_TYPES[output.format], output.format, *work.canvas.size)
        return None if writer is None else ResultStream(self.as_product(said), writer)

    def _picture(self, array: NDArray[Any], seen: Seen) -> Picture:
        made = levels(pixels_of(array, self.form), self.definition.output.range)
        content = np.ascontiguousarray(self._in_rgb(self._content(made, seen)))
        width, height = (side * self.scale for side in seen.placement.source)
        whole = resampled(content, width, height, self.definition.output.resample)
        source = seen.picture
        assert source is not None  # noqa: S101  `keeps_picture`
        if not self.may_be_flat and is_flat(made) and has_content(source.rgb):
            raise InvalidOutput("the model gave one colour for an image that has several")
        if whole.shape[-1] == 4:
            return Picture(np.ascontiguousarray(whole[..., :3]), np.ascontiguousarray(whole[..., 3]))
        alpha = None if source.alpha is None else resize(source.alpha, width, height)
        if whole.ndim == 2:
            return Picture(np.repeat(whole[..., None], 3, axis=2), alpha, grey=True)
        return Picture(whole, alpha, grey=source.grey and self.scale > 1)

    def _in_rgb(self, made: Pixels) -> Pixels:
        """In the order of files, where the network gives as many channels as it takes; (height, width) of one."""
        if made.shape[2] not in (1, 3, 4):
            raise InvalidOutput(f"the model gave an image of {made.shape[2]} channels")
        if made.shape[2] == 1:
            return made[..., 0]
        order = ORDERS[self.section.colour]
        return made[..., order] if made.shape[2] == len(order) else made

    def _content(self, made: Pixels, seen: Seen) -> Pixels:
        border, (width, height) = self.section.border_px, seen.placement.canvas
        wanted = ((height - 2 * border) * self.scale, (width - 2 * border) * self.scale)
        if made.shape[:2] != wanted:
            raise InvalidOutput(f"the model gave {made.shape[1]}x{made.shape[0]} px, not {wanted[1]}x{wanted[0]}")
        left, top, right, low = ((edge - border) * self.scale for edge in seen.placement.content)
        return made[top:low, left:right]
