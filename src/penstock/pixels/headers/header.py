"""The header of an image, and the bounds that it is held to."""

from __future__ import annotations

import math

from msgspec import Struct

from penstock.errors import ImageAnimated, ImageDecodeFailed, ImageTooLarge
from penstock.settings import LimitSettings

_DEFAULTS = LimitSettings()


DECODING_BYTES: dict[str, tuple[int, int]] = {
    "jpeg": (10, 13),
    "png": (14, 20),
    "webp": (17, 21),
    "avif": (20, 24),
    "tiff": (14, 20),
    "gif": (15, 15),
    "bmp": (10, 10),
}
"""Bytes for each pixel, at most: of an image that is taken as it is, and of one that is converted or turned. Measured
by `tools/decode_memory.py`, which counts a decoder and the pixels that it leaves; a progressive JPEG without halved
colours takes 3 and 6 for its coefficients. An AVIF of 10 bits takes half as much again as the 13 that were measured."""

DEEP_BYTES = 31
"""The same of an image with 16 bits."""


HOLE = bytes(512)
"""As many zeros in place of an end are what a copy that broke off has left; a decoder takes them for pixels."""


class ImageBounds(Struct, frozen=True):
    """What an image may have: millions of pixels, scans of a JPEG, chunks of the file (segments of a JPEG), and always
    one frame, unless `first_frame` says that the others are left out. Each `check` raises for more: ImageTooLarge, or
    ImageAnimated. A truncated image is refused, unless `takes_truncated` says that what is there of it is taken."""

    megapixels: float = math.inf
    scans: int = _DEFAULTS.max_image_scans
    chunks: int = _DEFAULTS.max_image_chunks
    first_frame: bool = False
    takes_truncated: bool = False

    @classmethod
    def of(cls, limits: LimitSettings, *, takes_truncated: bool = False) -> ImageBounds:
        """The bounds that the operator has set."""
        first_frame = limits.animations == "first_frame"
        most = limits.max_image_megapixels, limits.max_image_scans, limits.max_image_chunks
        return cls(*most, first_frame, takes_truncated)

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
        if frames > 1 and not self.first_frame:
            raise ImageAnimated("the image is animated; send one frame")


class ImageHeader(Struct, frozen=True):
    """What a file says: its format (one of `reader.MEDIA_TYPES`), the pixels of a row and the rows, not turned upright.

    `bits` are those of a sample, `scans` those of a JPEG (1 of other formats), `chunks` how many were passed. `end` is
    the place behind the last byte of the image, None where the bytes stop before it. Of a JPEG with all in one scan,
    which most photos are, only `end_of` looks for it: `only_scan_at` is where. `is_partial` tells that a JPEG of
    several scans, or a TIFF of several strips, has not got all that make its pixels, or that a WebP or AVIF ends in a
    hole. `has_metadata` counts Exif, XMP,
    texts and comments, and no colour profile.
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
    has_metadata: bool = False
    frames: int = 1
    has_alpha: bool = False
    only_scan_at: int = 0
    is_partial: bool = False

    @property
    def megapixels(self) -> float:
        """The number of pixels in millions."""
        return self.width * self.height / 1e6

    @property
    def decoding_bytes(self) -> int:
        """The most memory that the decoding of this image takes, with its pixels and without its file."""
        taken, changed = DECODING_BYTES[self.format]
        each = changed if self.has_icc or self.has_exif else taken
        return self.width * self.height * (DEEP_BYTES if self.bits > 8 else each)


def without_hole(data: bytes) -> bytes:
    """The file without the zeros that it ends in, where these are a hole."""
    return data.rstrip(b"\0") if data.endswith(HOLE) else data


def not_unpacked(form: str) -> ImageDecodeFailed:
    """The error for an image of a form that is hardly ever met, and for which no decoder is trusted."""
    return ImageDecodeFailed(f"the {form} holds its pixels in an unusual way; save it anew")


def broken() -> ImageDecodeFailed:
    """The error for an image that its decoder does not understand."""
    return ImageDecodeFailed("the image is damaged or truncated")


def truncated() -> ImageDecodeFailed:
    """The error for an image that is not all there."""
    return ImageDecodeFailed("the image is truncated")


def damaged() -> ImageDecodeFailed:
    """The error for a header that cannot be read."""
    return ImageDecodeFailed("the image header is damaged")
