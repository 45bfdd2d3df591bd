"""Cuts an image into overlapping tiles of one shape, and joins their results without a seam.

No tile reaches beyond the image, so that at its borders a network sees what it sees of the whole image; only an image
that is smaller than a tile lies in its middle, with its mirror image around it on all four sides.

A convolutional network sees `overlap` pixels around each pixel (its receptive radius). Where two tiles meet they
overlap by at least twice that, and each gives the half that is farther than `overlap` from its own edge: what is
kept never saw a tile border.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.core.output import OutputOptions
from penstock.core.sizes import TileSides, tiles_along
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.pixels.canvas import Canvas
from penstock.pixels.deep_canvas import DeepCanvas
from penstock.pixels.flatness import has_content, is_flat
from penstock.pixels.picture import Levels, Pixels
from penstock.pixels.row_canvas import RowCanvas
from penstock.pixels.row_writer import RowWriter
from penstock.pixels.transparency import AlphaCanvas

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


LEAST_BY_ROWS_BYTES = 8 * 2**20
"""Bytes of pixels below which a result is encoded as a whole: it takes no time, and a thread less."""

AHEAD_BYTES = 64 * 2**20
"""Bytes of pixels, or two rows of tiles where these have more, that may wait to be taken."""


class Span(NamedTuple):
    """One tile along one axis: it reads from `start`, and gives `low`..`high` (all in input pixels)."""

    start: int
    low: int
    high: int


class TilePlan(NamedTuple):
    """Tiles of `height` x `width` that cover an image: every row with every column."""

    height: int
    width: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def area(self) -> int:
        """The number of pixels that the device computes."""
        return len(self.rows) * len(self.columns) * self.height * self.width


def spans(length: int, tile: int, overlap: int) -> tuple[Span, ...]:
    """Spread tiles evenly along one axis; a single one, with the image in its middle, where that is not longer."""
    if length <= tile:
        return (Span(-((tile - length) // 2), 0, length),)
    steps = tiles_along(length, tile, overlap) - 1
    starts = [round(i * (length - tile) / steps) for i in range(steps + 1)]
    cuts = [0, *((second + first + tile) // 2 for first, second in pairwise(starts)), length]
    return tuple(Span(start, low, high) for start, low, high in zip(starts, cuts, cuts[1:], strict=False))


class AnyShape(NamedTuple):
    """Tiles of whatever shape suits an image, for a device to which a new shape costs nothing."""

    sides: TileSides

    def plan(self, height: int, width: int) -> TilePlan:
        """Return the plan that computes the fewest pixels with the fewest tiles."""
        h, w, overlap = self.sides.side_for(height), self.sides.side_for(width), self.sides.overlap_px
        return TilePlan(h, w, spans(height, h, overlap), spans(width, w, overlap))

    def below(self, area: int) -> AnyShape | None:
        """Tiles of fewer pixels; None when their sides would not be longer than the overlaps."""
        most, least = min(self.sides.longest, math.isqrt(max(area, 1) - 1)), 2 * self.sides.overlap_px
        longest = max(most * 3 // 4, min(most, least + self.sides.multiple))  # about half of the pixels
        longest -= longest % self.sides.multiple
        smaller = replace(self.sides, longest=max(longest, 1), least=min(self.sides.least, max(longest, 1)))
        return AnyShape(smaller) if longest > least else None

    def up_to(self, longest: int) -> AnyShape:
        """Tiles with no longer side, as far as the network can do with such."""
        return AnyShape(self.sides.up_to(longest))


class Ladder(NamedTuple):
    """Tile shapes, (height, width), that a device may be shown, and the overlap that the network needs."""

    shapes: tuple[tuple[int, int], ...]
    overlap: int

    def plan(self, height: int, width: int) -> TilePlan:
        """Return the plan that computes the fewest pixels; of equal ones, the one with the fewest tiles."""
        usable = [(h, w) for h, w in self.shapes if self._fits(height, h) and self._fits(width, w)]
        plans = [TilePlan(h, w, spans(height, h, self.overlap), spans(width, w, self.overlap)) for h, w in usable]
        return min(plans, key=lambda p: (p.area, len(p.rows) * len(p.columns)))

    def below(self, area: int) -> Ladder | None:
        """The same ladder with its shapes of fewer pixels; None when none of them is wider than the overlaps."""
        lower = tuple((h, w) for h, w in self.shapes if h * w < area)
        return Ladder(lower, self.overlap) if any(min(shape) > 2 * self.overlap for shape in lower) else None

    def up_to(self, longest: int) -> Ladder:
        """The shapes with no longer side, or the smallest that is wider than the overlaps."""
        usable = sorted((shape for shape in self.shapes if min(shape) > 2 * self.overlap), key=max)
        return Ladder(tuple(shape for shape in usable if max(shape) <= longest) or tuple(usable[:1]), self.overlap)

    def _fits(self, length: int, tile: int) -> bool:
        return length <= tile or tile > 2 * self.overlap


Tiling: TypeAlias = Ladder | AnyShape

Finish: TypeAlias = Callable[[Pixels, Pixels], Pixels]


def tiling_on(device: Device, overlap: int) -> Tiling:
    """How images are cut for a device: in any shape where that costs it nothing, else in those that are warmed up."""
    if device.any_side_to:
        return AnyShape(TileSides(longest=device.any_side_to, overlap_px=overlap))
    return Ladder(device.shapes, overlap)


class TiledImage(Work):
    """Work on an image that grows by `scale`; the results are joined in `canvas`, or in `rows` where somebody takes
    them from there before all are done, and those of its transparency in `alpha`.

    Its pixels are (height, width, 3), or (height, width, 4) where transparency goes through the network too: then each
    output has a third part, the alpha. A tile is cut when it is asked for, so that only the tiles of a batch exist
    twice. `finish`, where it is set, turns the colours of each tile and what the network has made of them into what is
    kept.
    """

    rows: RowCanvas | None = None
    may_be_flat = False
    """Whether the network may make one colour of a tile that has more."""

    def __init__(
        self,
        rgb: Levels,
        tiling: Tiling,
        *,
        scale: int,
        lane: str,
        context: Any,
        canvas: Canvas | DeepCanvas | None = None,
        alpha: AlphaCanvas | None = None,
        device_size: int | None = None,
        result_size: tuple[int, int] | None = None,
    ) -> None:
        layout = tiling.plan(*rgb.shape[:2])
        spots = [(row, column) for row in layout.rows for column in layout.columns]
        super().__init__(spots, lane=lane, context=context, device_size=device_size)  # type: ignore[arg-type]
        self._spots = spots
        self._rgb = rgb
        self._tiling = tiling
        self._layout = layout
        self._scale = scale
        self._result_size = result_size
        kind = Canvas if rgb.itemsize == 1 else DeepCanvas
        self.canvas = canvas or kind(rgb.shape[1] * scale, rgb.shape[0] * scale)
        self.alpha = alpha or (AlphaCanvas(rgb[..., 3], scale) if rgb.shape[2] == 4 else None)
        self.finish: Finish | None = None

    def split_smaller(self, below: int) -> TiledImage | None:
        """Lay the image out in smaller tiles; `canvas` and `rows` stay the same."""
        tiling = self._tiling.below(below // self._rgb.shape[2])
        if tiling is None:
            return None
        smaller = self._in(tiling)
        smaller.finish = self.finish
        smaller.rows = self.rows
        smaller.may_be_flat = self.may_be_flat
        return smaller

    def again(self, lane: str) -> Self:
        """The same work from its start in another lane. Its tiles are joined where they were, but not by rows, unless
        somebody asks for that again."""
        same = super().again(lane)
        same.rows = None
        return same

    def by_rows(self) -> RowCanvas | None:
        """From now on join in a canvas whose rows can be taken while others are missing; returns it. None where that is
        not worth it, as the image is small, or has one row of tiles; or where its transparency, or its 16 bits, are
        joined as a whole."""
        width, height = self.canvas.size
        is_worth_it = len(self._layout.rows) > 1 and 3 * width * height >= LEAST_BY_ROWS_BYTES
        if is_worth_it and self.alpha is None and self._rgb.itemsize == 1:
            self.rows = RowCanvas(width, height)
        return self.rows

    @property
    def open(self) -> int:
        """Tiles from this number on wait until rows above them were taken: those that nobody has taken are bounded."""
        if self.rows is None:
            return self.count
        ahead = _rows_ahead(self.rows.size[0], self._layout.height * self._scale)
        reached = bisect_left(self._layout.rows, self.rows.taken + ahead, key=lambda row: row.low * self._scale)
        return reached * len(self._layout.columns)

    def _in(self, tiling: Tiling) -> TiledImage:
        return TiledImage(
            self._rgb,
            tiling,
            scale=self._scale,
            lane=self.lane,
            context=self.context,
            canvas=self.canvas,
            alpha=self.alpha,
            device_size=self.device_size,
            result_size=self._result_size,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result: of the canvas, unless that is resampled."""
        return self._result_size or self.canvas.size

    @property
    def source(self) -> Levels:
        """The pixels of the image, (height, width, 3 or 4)."""
        return self._rgb

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every tile, (height, width, 3 or 4)."""
        return (self._layout.height, self._layout.width, self._rgb.shape[2])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values of every tile, uint8 or uint16, which is that of the image and of the results."""
        return self._rgb.dtype

    def tile(self, index: int) -> Levels:
        """The pixels of one tile; around an image that is smaller, they are those of its mirror image."""
        pixels = np.empty(self.shape, self.dtype)
        self.write_tile(index, pixels)
        return pixels

    def write_tile(self, index: int, into: Levels) -> None:
        """Write the pixels of one tile into its place in the array of a batch."""
        top, bottom, left, right = self._inside(index)
        into[top:bottom, left:right] = self._seen(index)
        _mirror_around(into[top:bottom].swapaxes(0, 1), left, right)
        _mirror_around(into, top, bottom)

    def _inside(self, index: int) -> tuple[int, int, int, int]:
        """The rows of a tile from and to which the image is there, and its columns."""
        row, column = self._spots[index]
        height, width = self._rgb.shape[:2]
        return (
            max(0, -row.start),
            min(self._layout.height, height - row.start),
            max(0, -column.start),
            min(self._layout.width, width - column.start),
        )

    def accept(self, index: int, output: Any) -> None:
        """Keep the middle of one output tile, (height, width, 3), which comes with the sum of its values before they
        were levels.

        Raises InvalidOutput for the wrong shape or type, values that are no numbers, as the sum then is not, and one
        colour in place of a part of the image that has more.
        """
        pixels, total, *alpha = output
        row, column = self._spots[index]
        s = self._scale
        if pixels.shape != (self._layout.height * s, self._layout.width * s, 3) or pixels.dtype != self._rgb.dtype:
            raise InvalidOutput(f"the model gave {pixels.shape} of {pixels.dtype} for a tile of {self.shape}")
        if not math.isfinite(total):
            raise InvalidOutput("the model gave values that are not numbers")
        self._check_content(index, pixels, *alpha)
        if self.finish is not None:
            pixels = self.finish(self.tile(index)[..., :3], pixels)
        kept = (
            slice((row.low - row.start) * s, (row.high - row.start) * s),
            slice((column.low - column.start) * s, (column.high - column.start) * s),
        )
        (self.canvas if self.rows is None else self.rows).put(column.low * s, row.low * s, pixels[kept])
        if self.alpha is not None:
            self.alpha.put(column.low * s, row.low * s, alpha[0][kept])

    def _check_content(self, index: int, colours: Levels, *alpha: Levels) -> None:
        if self.may_be_flat:
            return
        for made, channels in zip((colours, *alpha), (slice(3), slice(3, 4)), strict=False):
            if is_flat(made) and has_content(self._seen(index)[..., channels]):
                level = made[0, 0].tolist()
                raise InvalidOutput(f"the model gave one level, {level}, for a part of the image that has several")

    def _seen(self, index: int) -> Levels:
        """The part of the image that a tile shows."""
        top, bottom, left, right = self._inside(index)
        row, column = self._spots[index]
        return self._rgb[row.start + top : row.start + bottom, column.start + left : column.start + right]


def waiting_bytes(width: int, tile_height: int) -> int:
    """The most bytes of a result that is taken by rows, while tiles of this height come; both in its pixels."""
    return 3 * width * (_rows_ahead(width, tile_height) + tile_height)


def _rows_ahead(width: int, tile_height: int) -> int:
    return max(AHEAD_BYTES // (3 * width), 2 * tile_height)


def _mirror_around(lines: NDArray[Any], first: int, behind: int) -> None:
    """Fill the lines before the `first` and from `behind` on with the ones between them, mirrored."""
    _mirror_on(lines[first:], behind - first)
    _mirror_on(lines[:behind][::-1], behind - first)


def _mirror_on(lines: NDArray[Any], filled: int) -> None:
    """Fill the lines from `filled` on with the ones before them in reverse, as often as there is room for it."""
    while filled < len(lines):
        more = min(filled, len(lines) - filled)
        lines[filled : filled + more] = lines[filled - more : filled][::-1]
        filled += more


def is_by_rows(output: OutputOptions) -> bool:
    """Whether a file of this form needs no more than the rows that are there: whatever else is asked for may need the
    whole image."""
    return output == OutputOptions(format="png", quality=output.quality, lossless=output.lossless, dpi=output.dpi)


def row_writer(work: TiledImage, output: OutputOptions, *, alpha: Pixels | None, grey: bool) -> RowWriter | None:
    """What writes the result of this work, joined by rows from now on. None where it has to be, or may as well be,
    encoded as a whole."""
    rows = work.by_rows() if is_by_rows(output) else None
    return None if rows is None else RowWriter(rows, output, alpha=alpha, grey=grey)
