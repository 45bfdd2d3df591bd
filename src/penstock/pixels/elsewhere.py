"""Images that are decoded elsewhere: who does it, and the picture in the memory that is shared with them.

It knows no decoder, so that a process that has none in it may import it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import
from penstock.pixels.headers import ImageHeader
from penstock.pixels.notes import notes_in
from penstock.pixels.picture import Picture, PixelForm

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

DECODER: ContextVar[Callable[[bytes, ImageHeader, PixelForm], Picture] | None] = ContextVar("decoder", default=None)
"""Decodes images in the place of this thread, once their headers have passed. Raises ImageDecodeFailed."""


def picture_in(
    pixels: Any,
    width: int,
    height: int,
    has_alpha: bool,
    is_grey: bool,
    notes: int,
    is_16_bits: bool,
    profile_bytes: int,
) -> Picture:
    """The picture that `decode_to` has written into a buffer. It is not copied: all arrays of the picture are views of
    one, their `base`."""
    base = np.frombuffer(pixels, np.uint16 if is_16_bits else np.uint8, 4 * width * height)
    size = width * height
    alpha = base[3 * size : 4 * size].reshape(height, width) if has_alpha else None
    profile = bytes(memoryview(pixels)[base.nbytes : base.nbytes + profile_bytes]) or None
    return Picture(base[: 3 * size].reshape(height, width, 3), alpha, is_grey, notes_in(notes), profile)
