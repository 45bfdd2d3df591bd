"""The parameters of superres-x4."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from penstock.core.target import Fit
from penstock.models.base import AcceptTruncated
from penstock.models.gate import GateParams

Variant = Literal["general", "clean", "best"]
Alpha = Literal["network", "bicubic"]

Denoise = Annotated[float, Meta(ge=0, le=1, description="how much of what the network takes for noise is left out")]
Scale = Annotated[float, Meta(ge=1, le=8, description="how many times as wide and high the result is")]
Length = Annotated[int, Meta(ge=1, le=65_535, description="pixels; the other side follows where it is not given")]
TileLength = Annotated[int, Meta(ge=96, le=4096, description="longest side of a tile, in pixels of the input")]


class SuperresParams(GateParams, frozen=True):
    """`general` repairs photos from the open web (noise, JPEG blocks); `clean` stays closest to a clean original;
    `best` shows the most detail, some of it invented, and takes about 15 times as long.

    With less `denoise` the result has more of the input's own grain: what the network took for noise comes back.

    The result has `scale` times the size of the input, or the `width` and `height`, into which another shape goes as
    `fit` says: `inside` them, `outside`, `contain` with a border, `cover` with its edges cut off, or `fill` by being
    stretched.
    """

    variant: Variant = "general"
    alpha: Annotated[Alpha, Meta(description="how transparency is enlarged")] = "network"
    denoise: Denoise = 1.0
    scale: Scale = 4.0
    width: Length | None = None
    height: Length | None = None
    fit: Fit = "inside"
    tile: TileLength | None = None
    accept_truncated: AcceptTruncated = False
