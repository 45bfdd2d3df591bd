"""Encodes images: PNG, JPEG and WebP."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image

from penstock.core.request import Format, OutputOptions
from penstock.errors import ImageTooLarge
from penstock.lazy_import import lazy_import
from penstock.pixels.colours import picture_of
from penstock.pixels.picture import Picture

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

CONTENT_TYPES: dict[Format, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
MAX_SIDES: dict[Format, int] = {"webp": 16_383, "jpeg": 65_500}
"""The longest side that a file can have: 14 bits in WebP (RFC 9649), in JPEG what libjpeg writes
(JPEG_MAX_DIMENSION)."""


Z_RLE = 3
"""The deflate strategy with this name in zlib.h."""


def encode(picture: Picture, options: OutputOptions) -> bytes:
    """Encode an image. PNG is written at its fastest level; JPEG has no alpha, so that transparency becomes white.

    Raises ImageTooLarge when a side is longer than the format can hold.
    """
    return written(picture.pillow(), options, picture.profile)


def image_of(value: Any) -> Image.Image | None:
    """The image that a value is: one of Pillow, a Picture, or an array of uint8 with the shape (height, width), or with
    1, 3 or 4 channels behind these. None for anything else."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Picture):
        return value.pillow()
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or not value.size:
        return None
    if value.ndim == 3 and value.shape[2] == 1:
        value = value[..., 0]
    is_image = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))
    return Image.fromarray(np.ascontiguousarray(value)) if is_image else None


def encoded(image: Image.Image, options: OutputOptions) -> bytes:
    """Encode an image of any mode; its metadata is left out. Raises ImageTooLarge as `encode` does, and OSError or
    ValueError for an image that cannot be encoded."""
    image = image if image.mode in ("L", "LA", "RGB", "RGBA") else picture_of(image).pillow()
    return written(image, options)


def check_holds(options: OutputOptions, width: int, height: int) -> None:
    """Raise ImageTooLarge when the format cannot hold an image of this size."""
    longest = MAX_SIDES.get(options.format)
    if longest is not None and max(width, height) > longest:
        raise ImageTooLarge(
            f"the result has {width}x{height} px, a side of {options.format} at most {longest}; ask for png",
            param="output.format",
        )


def written(image: Image.Image, options: OutputOptions, profile: bytes | None = None) -> bytes:
    """The file of an image in mode L, LA, RGB or RGBA, whose colours are sRGB or what the `profile` says. Raises
    ImageTooLarge as `encode` does."""
    check_holds(options, *image.size)
    if options.format == "jpeg" and image.mode in ("RGBA", "LA"):
        opaque = Image.new(image.mode[:-1], image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        image = opaque
    out = io.BytesIO()
    image.save(out, **_save_options(options), icc_profile=profile)
    return out.getvalue()


def _save_options(options: OutputOptions) -> dict[str, Any]:
    if options.format == "png":
        # Run lengths suit filtered photos: as fast as the usual strategy at this level, and a fifth smaller.
        return {"format": "PNG", "compress_level": 1, "compress_type": Z_RLE}
    if options.format == "jpeg":
        return {"format": "JPEG", "quality": options.quality, "subsampling": 0}
    if options.lossless:  # `quality` is then effort: the least is the fastest
        return {"format": "WEBP", "lossless": True, "quality": 0, "method": 0, "exact": True}
    return {"format": "WEBP", "quality": options.quality, "method": 2}
