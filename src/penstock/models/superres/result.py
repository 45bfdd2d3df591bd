"""How the result of superres-x4 is made of what the network gave: with what bypassed it, and in the size that is asked
for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from penstock.core.request import OutputOptions
from penstock.core.target import Layout
from penstock.models.base import Product
from penstock.models.gate import Comparison
from penstock.models.tiling import TiledImage
from penstock.pixels.encoding import encode
from penstock.pixels.fitting import fitted, fitted_alpha
from penstock.pixels.formats import CONTENT_TYPES
from penstock.pixels.picture import Levels, Picture, greyed

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ResultPlan(Struct, frozen=True, eq=False):
    """What bypasses the network: transparency that it is not given, whether the source was grey, and the profile of
    colours that are kept; and where the image lies in a result of another size than the network makes, which is
    resampled in linear light or as it is."""

    alpha: NDArray[Any] | None
    grey: bool
    profile: bytes | None = None
    layout: Layout | None = None
    in_linear_light: bool = False


def encoded(work: TiledImage, output: OutputOptions) -> bytes:
    """The file of the result. The canvas of the work must not be used after that."""
    sides: ResultPlan = work.context
    if sides.layout is None:
        return work.canvas.encode(output, alpha=_alpha(work), grey=sides.grey, profile=sides.profile)
    return encode(_picture(work), output)


def comparison_of(work: TiledImage) -> Comparison:
    """The image as the network has seen it, and the result as it will be encoded."""
    sides, source = work.context, work.source
    alpha = sides.alpha if source.shape[2] == 3 else source[..., 3]
    seen = Picture(source[..., :3], alpha, sides.grey, profile=sides.profile)
    return Comparison(seen, _picture(work), _layout(work))


def product_without_file(work: TiledImage, output: OutputOptions) -> Product:
    """All of the result but its file."""
    width, height = work.size
    content_type = CONTENT_TYPES[output.format]
    return Product(content_type=content_type, extension=output.format, width=width, height=height)


def _picture(work: TiledImage) -> Picture:
    sides, rgb = work.context, work.canvas.pixels
    if sides.layout is not None:
        rgb = fitted(rgb, sides.layout, in_linear_light=sides.in_linear_light, alpha=_alpha(work))
    if sides.grey and rgb.itemsize == 1:
        rgb = greyed(rgb)
    return Picture(rgb, fitted_alpha(_alpha(work), _layout(work), rgb.dtype), sides.grey, profile=sides.profile)


def _alpha(work: TiledImage) -> Levels | None:
    return work.context.alpha if work.alpha is None else work.alpha.pixels


def _layout(work: TiledImage) -> Layout:
    return work.context.layout or Layout(work.canvas.size, work.canvas.size)
