"""A canvas of 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.core.request import OutputOptions
from penstock.lazy_import import lazy_import
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Levels, Picture
from penstock.pixels.resampling import resize

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")


class DeepCanvas:
    """An RGB image of uint16 that is written in pieces. Threads may write different parts of it at a time."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._levels = np.zeros((height, width, 3), np.uint16)

    @property
    def pixels(self) -> Levels:
        """All pixels, (height, width, 3)."""
        return self._levels

    def put(self, left: int, top: int, pixels: Levels) -> None:
        """Write a part, (height, width, 3), with its upper left corner at this place."""
        height, width = pixels.shape[:2]
        self._levels[top : top + height, left : left + width] = pixels

    def encode(
        self, options: OutputOptions, *, alpha: Levels | None = None, grey: bool = False, profile: bytes | None = None
    ) -> bytes:
        """The PNG of it, with 16 bits. A smaller `alpha`, of uint16, is resampled bicubically."""
        whole = None if alpha is None else resize(alpha, *self.size)
        return encode(Picture(self._levels, whole, grey, profile=profile), options)
