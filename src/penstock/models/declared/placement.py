"""Where the pixels of an image are in the input tensor, and the way back from there. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.errors import ImageTooLarge
from penstock.lazy_import import lazy_import
from penstock.models.declared.definition import InputSection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

Size = tuple[int, int]
"""Width and height."""


class ImagePlacement(NamedTuple):
    """An image of `source` pixels is padded at the right and lower edge to `padded`, resampled to `resized`, and lies
    with its upper left corner at `left`, `top` of a canvas; what is outside of the canvas is cut off."""

    source: Size
    padded: Size
    resized: Size
    canvas: Size
    left: int = 0
    top: int = 0
    ratio: float | None = None
    """What the sides of a letterboxed image were multiplied by before they were rounded. Boxes go back by it, as
    detectors are trained and evaluated."""

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the canvas for each pixel of the source, along both axes."""
        return self.resized[0] / self.padded[0], self.resized[1] / self.padded[1]

    @property
    def largest(self) -> Size:
        """The size with the most pixels on the way to the canvas."""
        return max(self.padded, self.resized, self.canvas, key=prod)

    @property
    def content(self) -> tuple[int, int, int, int]:
        """Left, top, right and lower edge of the source in the canvas, as far as it is inside."""
        (across, down), (width, height) = self.scale, self.source
        right, low = self.left + round(width * across), self.top + round(height * down)
        return (
            max(self.left, 0),
            max(self.top, 0),
            max(1, min(right, self.canvas[0])),
            max(1, min(low, self.canvas[1])),
        )

    @property
    def visible(self) -> tuple[int, int, int, int]:
        """The same edges in pixels of the source: all of it, unless some is cut off."""
        edges = self._back(np.array([self.content]), self.scale)
        left, top, right, low = edges[0].round().astype(int).tolist()
        return left, top, max(left + 1, right), max(top + 1, low)

    def undone(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes of left, top, right, bottom, (n, 4) in pixels of the canvas, in those of the source, inside of it."""
        return self._back(boxes, self.scale if self.ratio is None else (self.ratio, self.ratio))

    def _back(self, boxes: NDArray[Any], scale: tuple[float, float]) -> NDArray[np.float64]:
        offset = np.array([self.left, self.top] * 2, np.float64)
        back = (boxes.astype(np.float64) - offset) / np.array(scale * 2, np.float64)
        inside: NDArray[np.float64] = back.clip(0.0, np.array(self.source * 2, np.float64))
        return inside


def place(section: InputSection, width: int, height: int, *, max_pixels: float) -> ImagePlacement:
    """The placement of an image of this size.

    Raises ImageTooLarge where the canvas would have more than `max_pixels`, or the image on its way there more than
    `BETWEEN` times as many, which only the extremely narrow ask for.
    """
    placed = RULES[section.resize](section, (width, height))
    if border := section.border_px:
        canvas = (placed.canvas[0] + 2 * border, placed.canvas[1] + 2 * border)
        placed = placed._replace(canvas=canvas, left=placed.left + border, top=placed.top + border)
    most = max(max_pixels, _area(section.size))
    for size, bound in ((placed.canvas, most), (placed.largest, BETWEEN * most)):
        if prod(size) > bound:
            raise ImageTooLarge(f"{width}x{height} px become {size[0]}x{size[1]} for this model")
    return placed


BETWEEN = 4
"""What is cut off, or padded to a square, may have so many times the pixels of an image."""


def _area(size: Size | None) -> int:
    return (size[0] + 2048) * (size[1] + 2048) if size else 0


def _size(section: InputSection) -> Size:
    assert section.size is not None  # noqa: S101  a definition without it is refused
    return section.size


def _stretch(section: InputSection, source: Size) -> ImagePlacement:
    return ImagePlacement(source, source, _size(section), _size(section))


def _crop(section: InputSection, source: Size) -> ImagePlacement:
    wanted = _size(section)
    if section.short_side is None:
        ratio = max(wanted[0] / source[0], wanted[1] / source[1])
        resized = (max(wanted[0], round(source[0] * ratio)), max(wanted[1], round(source[1] * ratio)))
    else:  # as torchvision's Resize: the longer side is cut off
        short, shorter = section.short_side, min(source)
        resized = (max(1, short * source[0] // shorter), max(1, short * source[1] // shorter))
    return _centred(source, resized, wanted)


def _stretch_crop(section: InputSection, source: Size) -> ImagePlacement:
    short = section.short_side or min(_size(section))
    return _centred(source, (short, short), _size(section))


def _centred(source: Size, resized: Size, canvas: Size) -> ImagePlacement:
    left, top = (-round((has - wanted) / 2) for has, wanted in zip(resized, canvas, strict=True))
    return ImagePlacement(source, source, resized, canvas, left, top)


def _letterbox(section: InputSection, source: Size) -> ImagePlacement:
    wanted = _size(section)
    ratio = min(wanted[0] / source[0], wanted[1] / source[1])
    whole: Callable[[float], int] = round if section.rounding == "round" else int
    resized = (max(1, whole(source[0] * ratio)), max(1, whole(source[1] * ratio)))
    if section.pad_at == "end":
        return ImagePlacement(source, source, resized, wanted, ratio=ratio)
    # As Ultralytics' LetterBox: of an odd number of pixels, one more is at the end.
    left, top = (round((has - fills) / 2 - 0.1) for has, fills in zip(wanted, resized, strict=True))
    return ImagePlacement(source, source, resized, wanted, left, top, ratio)


def _square(section: InputSection, source: Size) -> ImagePlacement:
    side = max(source)
    return ImagePlacement(source, (side, side), _size(section), _size(section))


def _height(section: InputSection, source: Size) -> ImagePlacement:
    least, height = _size(section)
    width = max(1, round(source[0] * height / source[1]))
    return ImagePlacement(source, source, (width, height), (max(width, least), height))


def _pad(section: InputSection, source: Size) -> ImagePlacement:
    resized, multiple = _limited(section, source), section.multiple_of or 1
    canvas = (-(-resized[0] // multiple) * multiple, -(-resized[1] // multiple) * multiple)
    return ImagePlacement(source, source, resized, canvas)


def _multiple(section: InputSection, source: Size) -> ImagePlacement:
    multiple = section.multiple_of or 1
    wanted = _limited(section, source)
    resized = (max(1, round(wanted[0] / multiple)) * multiple, max(1, round(wanted[1] / multiple)) * multiple)
    return ImagePlacement(source, source, resized, resized)


def _none(section: InputSection, source: Size) -> ImagePlacement:
    resized = _limited(section, source)
    return ImagePlacement(source, source, resized, resized)


def _limited(section: InputSection, source: Size) -> Size:
    ratio = max(1.0, (section.min_side or 0) / min(source))
    ratio = min(ratio, (section.max_side or float("inf")) / max(source))
    return max(1, int(source[0] * ratio)), max(1, int(source[1] * ratio))


RULES: dict[str, Callable[[InputSection, Size], ImagePlacement]] = {
    "stretch": _stretch,
    "crop": _crop,
    "stretch-crop": _stretch_crop,
    "letterbox": _letterbox,
    "square": _square,
    "height": _height,
    "pad": _pad,
    "multiple": _multiple,
    "none": _none,
}

FIXED = frozenset({"stretch", "crop", "stretch-crop", "letterbox", "square"})
"""Ways to resize after which every image has the same size."""
