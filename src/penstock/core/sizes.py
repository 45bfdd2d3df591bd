"""How large a result is, how much a device computes for it, and how many tiles an image is cut into. Pure."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

Side = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""Pixels."""


class SizeRule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How large the result is for an image of some size, and how much the device computes for it.

    The result is `scale` times as wide and high; None where no image comes, or its size is not known before. The device
    computes `kilopixels` for every image, or the image cut into tiles with these `sides` and this overlap, or, where
    neither is set, the image as it is.
    """

    scale: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    kilopixels: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    sides: tuple[Side, ...] = ()
    overlap_px: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0

    def result_of(self, width: int, height: int) -> tuple[int, int] | None:
        """Width and height of the result for an image of this size; None where no image comes, or nobody knows."""
        return None if self.scale is None else (round(width * self.scale), round(height * self.scale))

    def kilopixels_of(self, width: int, height: int) -> int:
        """How much the device computes for an image of this size, at least 1."""
        if self.kilopixels is not None:
            return self.kilopixels
        pixels = tiled_area(height, width, self.sides, self.overlap_px) if self.sides else width * height
        return max(1, pixels // 1000)


class Sizes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The size rule of a model. Where it depends on a parameter, `param` names it, and `by_value` has the rules."""

    rule: SizeRule = SizeRule()
    param: str = ""
    by_value: dict[str, SizeRule] = {}

    def rule_for(self, value: object) -> SizeRule:
        """The rule for a task whose parameter `param` has this value."""
        return self.by_value.get(str(value), self.rule)


def tiled_area(height: int, width: int, sides: Sequence[int], overlap: int) -> int:
    """The pixels that the best plan of tiles with any two of these sides computes, without making the plan."""
    return _tiled_length(height, sides, overlap) * _tiled_length(width, sides, overlap)


def tiles_along(length: int, tile: int, overlap: int) -> int:
    """How many tiles of this side cover a length, where neighbours share twice the overlap."""
    return 1 if length <= tile else 1 + -(-(length - tile) // (tile - 2 * overlap))


def _tiled_length(length: int, sides: Sequence[int], overlap: int) -> int:
    """The shortest that covers the length; the length itself where no side can."""
    usable = [side for side in sides if length <= side or side > 2 * overlap]
    return min((side * tiles_along(length, side, overlap) for side in usable), default=length)
