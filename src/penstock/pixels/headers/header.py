"""The header of an image, and the bounds that it is held to."""

from __future__ import annotations

import math

from msgspec import Struct

from penstock.errors import ImageDecodeFailed, ImageTooLarge
from penstock.settings import LimitSettings

_DEFAULTS = LimitSettings()


class ImageBounds(Struct, frozen=True):
    """What an image may have: millions of pixels, scans of a JPEG, chunks of the file (segments of a JPEG), and always
    one frame. Each `check` raises ImageTooLarge for more."""

    megapixels: float = math.inf
    scans: int = _DEFAULTS.max_image_scans
    chunks: int = _DEFAULTS.max_image_chunks

    @classmethod
    def of(cls, limits: LimitSettings) -> ImageBounds:
        """The bounds that the operator has set."""
        return cls(limits.max_image_megapixels, limits.max_image_scans, limits.max_image_chunks)

    def check_size(self, width: int, height: int) -> None:
        """Also raises ImageDecodeFailed for an image without pixels."""
        if not width or not height:
            raise damaged()
        if (megapixels := width * height / 1e6) > self.megapixels:
            raise ImageTooLarge(f"{width}x{height} is {megapixels:.1f} MP, the limit is {self.megapixels:g} MP")

    def check_scans(self, scans: int) -> None:
        """A decoder goes through the whole image for every scan."""
        if scans > self.scans:
            raise ImageTooLarge(f"the JPEG has more than {self.scans} scans; save it anew")

    def check_chunks(self, chunks: int) -> None:
        """A reader looks at every chunk."""
        if chunks > self.chunks:
            raise ImageTooLarge(f"the file has more than {self.chunks} chunks; save it anew")

    def check_frames(self, frames: int) -> None:
        """Results are made from one frame."""
        if frames > 1:
            raise ImageTooLarge("the image is animated; send one frame")


class ImageHeader(Struct, frozen=True):
    """What a file says: its format (png, jpeg or webp), the pixels of a row and the rows, not turned upright.

    `bits` are those of a sample, `scans` those of a JPEG (1 of other formats), `chunks` how many were passed. `end` is
    the place behind the last byte of the image, None where the bytes stop before it. Of a JPEG with all in one scan,
    which most photos are, only `end_of` looks for it: `only_scan_at` is where.
    """

    format: str
    width: int
    height: int
    bits: int = 8
    scans: int = 1
    chunks: int = 0
    end: int | None = None
    has_icc: bool = False
    has_exif: bool = False
    has_alpha: bool = False
    only_scan_at: int = 0

    @property
    def megapixels(self) -> float:
        """The number of pixels in millions."""
        return self.width * self.height / 1e6


def damaged() -> ImageDecodeFailed:
    """The error for a header that cannot be read."""
    return ImageDecodeFailed("the image header is damaged")
