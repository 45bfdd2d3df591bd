"""Colours: whatever an image has, as sRGB with 8 bits."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageCms

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Picture, Pixels

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")


def picture_of(image: Image.Image) -> Picture:
    """The picture that an image of Pillow is, whatever its mode."""
    rgb, alpha, is_grey = parts_of(image)
    return Picture(np.asarray(rgb), alpha, is_grey)


def parts_of(image: Image.Image) -> tuple[Image.Image | Pixels, Pixels | None, bool]:
    """The three fields of a Picture."""
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image).astype(np.float64)
        return _three_times(np.clip(deep / 257 + 0.5, 0, 255).astype(np.uint8)), None, True
    if image.mode == "P" or (image.mode in ("1", "L", "RGB") and "transparency" in image.info):
        has_alpha = "transparency" in image.info
        grey = image.mode in ("1", "L")
        image = image.convert("LA" if grey and has_alpha else "RGBA" if has_alpha else "RGB")
    alpha = np.asarray(image.getchannel("A")) if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") else None
    if image.mode in ("1", "L", "LA", "La"):
        channel = np.asarray(image.convert("L") if image.mode == "1" else image.getchannel(0))
        return _three_times(channel), alpha, True
    return _to_srgb(image), alpha, False


def _three_times(channel: Pixels) -> Pixels:
    return np.repeat(channel[..., None], 3, axis=2)


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    opaque = image.convert("RGB") if image.mode in ("RGBA", "RGBa", "PA", "YCbCr", "LAB", "HSV") else image
    if profile and opaque.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(opaque, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return _as_rgb(converted or opaque)
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that cannot be read is as good as none
    return _as_rgb(opaque)


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")
