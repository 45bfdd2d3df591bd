"""How large a result is, how much a device computes for it, and how many tiles an image is cut into. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace

from penstock.core.gate import SCORED_KILOPIXELS, post_in
from penstock.core.target import TILE, Target, asked_in

Side = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""Pixels."""


LEAST_TILE_PX = 8
"""The least side of a tile. A smaller image is mirrored around: networks are not made for less."""


class TileSides(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which sides tiles have, and by how many pixels what is kept of one lies within its edges.

    They have one of the sides `fixed`, or, where there are none, whatever side suits the image: a multiple of
    `multiple` from `least` to `longest`.
    """

    fixed: tuple[Side, ...] = ()
    longest: Side = 1
    least: Side = LEAST_TILE_PX
    multiple: Side = 1
    overlap_px: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0

    def up_to(self, longest: int) -> "TileSides":
        """The same with tiles that are no longer, as far as the network can do with such."""
        bearable = max(longest, self.least, 2 * self.overlap_px + self.multiple)
        longest = min(self.longest, bearable - bearable % self.multiple)
        fixed = tuple(side for side in self.fixed if side <= longest) or self.fixed[:1]
        return replace(self, fixed=fixed, longest=longest)

    def side_for(self, length: int) -> int:
        """The side of the tiles that together compute the least along this length; of equal ones the longest."""
        if self.fixed:
            usable = [side for side in self.fixed if length <= side or side > 2 * self.overlap_px]
            return min(usable, key=lambda side: (self._along(length, side), -side), default=length)
        count = tiles_along(length, self.longest, self.overlap_px)
        side = -(-(length + 2 * self.overlap_px * (count - 1)) // count)
        return -(-max(side, self.least) // self.multiple) * self.multiple

    def computed(self, length: int) -> int:
        """The pixels that all tiles along this length have together."""
        return self._along(length, self.side_for(length))

    def _along(self, length: int, side: int) -> int:
        return side * tiles_along(length, side, self.overlap_px)


class SizeRule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How large the result is for an image of some size, and how much the device computes for it.

    The result is `scale` times as wide and high; None where no image comes, or its size is not known before. The device
    computes `kilopixels` for every image, or the image cut into `tiles`, or, where neither is set, the image as it is.
    `effort` says how many times as long it takes for a pixel as with the other rules of the model.
    With a `target` the result is resampled to that size after the network, with `alpha_too` the device also computes
    the transparency of an image that has any, as much as an effort of 1 for each pixel. `added_kilopixels` come to that
    for every image.
    """

    scale: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    kilopixels: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    tiles: TileSides | None = None
    effort: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    target: Target | None = None
    alpha_too: bool = False
    added_kilopixels: int = 0

    def result_of(self, width: int, height: int) -> tuple[int, int] | None:
        """Width and height of the result for an image of this size; None where no image comes, or nobody knows."""
        if self.target is not None:
            return self.target.layout(width, height).canvas
        return None if self.scale is None else (round(width * self.scale), round(height * self.scale))

    def kilopixels_of(self, width: int, height: int, *, has_alpha: bool = False) -> int:
        """How much the device computes for an image of this size, at least 1."""
        if self.kilopixels is not None:
            return self.kilopixels + self.added_kilopixels
        pixels = self.tiles.computed(width) * self.tiles.computed(height) if self.tiles else width * height
        effort = self.effort + (1 if has_alpha and self.alpha_too else 0)
        return max(1, int(pixels * effort) // 1000) + self.added_kilopixels


class Sizes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The size rule of a model. Where it depends on a parameter, `param` names it, and `by_value` has the rules.

    Where sizes are `asked`, the parameters named in `core.target` say how large the result is to be, and how long the
    side of a tile may be. Where the parameter `alpha_param` is `network`, the transparency of an image goes through the
    network too. Where a `scorer` is named, the parameter `post` of `core.gate` may ask for scores by that model.
    """

    rule: SizeRule = SizeRule()
    param: str = ""
    by_value: dict[str, SizeRule] = {}
    asked: bool = False
    alpha_param: str = ""
    scorer: str = ""

    def rule_of(self, params: Mapping[str, Any]) -> SizeRule:
        """The rule for a task with these parameters, the model's defaults among them."""
        rule = self.by_value.get(str(params.get(self.param)), self.rule) if self.param else self.rule
        if self.alpha_param and params.get(self.alpha_param) == "network":
            rule = replace(rule, alpha_too=True)
        if self.scorer and post_in(params).score:
            rule = replace(rule, added_kilopixels=SCORED_KILOPIXELS)
        return _as_asked(rule, params) if self.asked else rule


def _as_asked(rule: SizeRule, params: Mapping[str, Any]) -> SizeRule:
    target, longest = asked_in(params, rule.scale), params.get(TILE)
    if target is not None:
        rule = replace(rule, target=target)
    return rule if longest is None or rule.tiles is None else replace(rule, tiles=rule.tiles.up_to(longest))


def tiles_along(length: int, tile: int, overlap: int) -> int:
    """How many tiles of this side cover a length, where neighbours share twice the overlap."""
    return 1 if length <= tile else 1 + -(-(length - tile) // (tile - 2 * overlap))
