"""The size of a result that a client asks for, in the words of sharp and CSS. Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from penstock.errors import InvalidRequest

Fit = Literal["inside", "outside", "contain", "cover", "fill"]
"""How an image of another shape goes into `width` x `height`: the largest that lies inside, the smallest that covers
it, `inside` with a border around, `outside` with its edges cut off, or stretched."""

SCALE, WIDTH, HEIGHT, FIT, TILE = "scale", "width", "height", "fit", "tile"
"""The parameters of a model whose `Sizes` are `asked`."""


class Layout(NamedTuple):
    """Where the whole image lies in the result: it is resampled to `image`, and lies in the middle of `canvas`, beyond
    which it is cut off. Both are width and height."""

    image: tuple[int, int]
    canvas: tuple[int, int]

    @property
    def seen(self) -> tuple[int, int]:
        """Width and height of the part of the image that is not cut off."""
        return min(self.image[0], self.canvas[0]), min(self.image[1], self.canvas[1])

    @property
    def corner(self) -> tuple[int, int]:
        """The place of that part in the canvas, from the left and from above."""
        return (self.canvas[0] - self.seen[0]) // 2, (self.canvas[1] - self.seen[1]) // 2

    @property
    def has_border(self) -> bool:
        """Whether a part of the canvas is not covered by the image."""
        return self.seen != self.canvas

    def source(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What of an image of this size is seen: its left, upper, right and lower edge in pixels."""
        across, down = width / self.image[0], height / self.image[1]
        left, top = (self.image[0] - self.seen[0]) // 2, (self.image[1] - self.seen[1]) // 2
        return left * across, top * down, (left + self.seen[0]) * across, (top + self.seen[1]) * down


class Target(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked for: `scale` times the size of the input; or a `width`, a `height`, or both with a `fit`."""

    scale: float = 1.0
    width: int | None = None
    height: int | None = None
    fit: Fit = "inside"

    @property
    def param(self) -> str:
        """What errors call the parameter that decides."""
        return f"params.{SCALE if self.width is self.height is None else WIDTH if self.width is not None else HEIGHT}"

    def layout(self, width: int, height: int) -> Layout:
        """The layout of the result for an image of this size. No side is less than one pixel."""
        if self.width is None or self.height is None:
            image = _times(width, height, self._only_ratio(width, height))
            image = (self.width or image[0], self.height or image[1])
            return Layout(image, image)
        box = self.width, self.height
        if self.fit == "fill":
            return Layout(box, box)
        choose = max if self.fit in ("outside", "cover") else min
        image = _touching(box, _times(width, height, choose(box[0] / width, box[1] / height)), choose)
        return Layout(image, box if self.fit in ("contain", "cover") else image)

    def _only_ratio(self, width: int, height: int) -> float:
        if self.width is not None:
            return self.width / width
        return self.scale if self.height is None else self.height / height


def asked_in(params: Mapping[str, Any], natural: float | None) -> Target | None:
    """The target that parameters ask for; None where that is what the network makes, `natural` times the input.

    Raises InvalidRequest where both a scale and a side are asked for.
    """
    scale, width, height = params.get(SCALE), params.get(WIDTH), params.get(HEIGHT)
    if scale in (None, natural):
        scale = None
    if width is None and height is None:
        return None if scale is None else Target(scale=float(scale))
    if scale is not None:
        raise InvalidRequest("give either a scale, or a width and height", param=f"params.{SCALE}")
    return Target(width=width, height=height, fit=params.get(FIT, "inside"))


def _times(width: int, height: int, ratio: float) -> tuple[int, int]:
    return max(1, round(width * ratio)), max(1, round(height * ratio))


def _touching(box: tuple[int, int], image: tuple[int, int], choose: Callable[[int, int], int]) -> tuple[int, int]:
    """Keep a rounded side from passing the side of the box that it touches."""
    return choose(box[0], image[0]), choose(box[1], image[1])
