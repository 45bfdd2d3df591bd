"""The quality gate of models that make an image of an image: both are scored, and shown beside one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

from msgspec import Meta, Struct

from penstock.core.gate import Post
from penstock.core.output import OutputOptions
from penstock.core.target import Layout
from penstock.lazy_import import lazy_import
from penstock.models.base import Params, Work
from penstock.pixels.formats import encoder_bytes
from penstock.pixels.picture import Levels, Picture

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

fitting = lazy_import("penstock.pixels.fitting")

SEEN_BYTES = 4
"""Bytes for each pixel of the result while it is scored: its colours and transparency in arrays."""

COMPARED_BYTES = 14
"""The same while it is compared: those of both images, and of one while it is encoded."""

SIDE_BY_SIDE_PX = 16_000_000
"""The most pixels of a picture that has both images. It is for looking at, the pair is for measuring."""

SIDE_BY_SIDE_BYTES = 12
"""Bytes for each of these: its halves, both in one array, and 4 in the encoder and its file."""


class GateParams(Params, frozen=True):
    """What all models take that make an image of an image."""

    post: Annotated[Post, Meta(description="scores of the input and of the result")] = Post()
    compare: Annotated[
        bool,
        Meta(description="adds the files before, after and side_by_side; before is the input, enlarged bicubically"),
    ] = False

    @property
    def needs_whole(self) -> bool:
        """Whether something is done with the whole result, so that it cannot be written while its tiles come."""
        return self.compare or self.post.score


class Comparison(Struct, frozen=True, eq=False):
    """An image, what was made of it, and where the first lies in the second."""

    source: Picture
    result: Picture
    layout: Layout


class Compares(Protocol):
    """A model whose parameters are GateParams."""

    def comparison(self, work: Work, params: Any) -> Comparison:
        """The image and its result, on a codec thread: behind `infer` and before `postprocess`, which may use up what
        the work has."""


def gate_bytes(params: Params, output: OutputOptions, pixels: int) -> int:
    """The memory that the gate takes for a result of so many pixels, beside that of the result."""
    if not isinstance(params, GateParams) or not params.needs_whole:
        return 0
    samples = 2 if output.bits == 16 else 1
    if not params.compare:
        return samples * SEEN_BYTES * pixels
    both = min(2 * pixels, SIDE_BY_SIDE_PX) * (SIDE_BY_SIDE_BYTES + encoder_bytes(output))
    return samples * (COMPARED_BYTES * pixels + both)


def enlarged(comparison: Comparison) -> Picture:
    """The source in the size of the result, bicubically, as it is stored."""
    source, layout = comparison.source, comparison.layout
    rgb = fitting.fitted(source.rgb, layout, in_linear_light=False, alpha=source.alpha)
    return Picture(rgb, fitting.fitted_alpha(source.alpha, layout, rgb.dtype), source.grey, profile=source.profile)


def side_by_side(before: Picture, after: Picture, *, most_px: int, longest_px: int) -> Picture:
    """One picture of two that have one size: the first is its left half. Both are made smaller where it would have more
    pixels, or a longer side."""
    height, width = after.rgb.shape[:2]
    share = min(1.0, (most_px / (2 * width * height)) ** 0.5, longest_px / (2 * width), longest_px / height)
    size = max(1, int(width * share)), max(1, int(height * share))
    left, right = (_reduced(one, Layout(size, size)) if share < 1 else one for one in (before, after))
    has_alpha = left.alpha is not None or right.alpha is not None
    return Picture(
        np.concatenate([left.rgb, right.rgb], axis=1),
        np.concatenate([_opacity(left), _opacity(right)], axis=1) if has_alpha else None,
        before.grey and after.grey,
        profile=after.profile,
    )


def _reduced(picture: Picture, layout: Layout) -> Picture:
    rgb = fitting.fitted(picture.rgb, layout, in_linear_light=picture.profile is None, alpha=picture.alpha)
    return Picture(rgb, fitting.fitted_alpha(picture.alpha, layout, rgb.dtype), picture.grey)


def _opacity(picture: Picture) -> Levels:
    if picture.alpha is not None:
        return picture.alpha
    return np.full(picture.rgb.shape[:2], np.iinfo(picture.rgb.dtype).max, picture.rgb.dtype)
