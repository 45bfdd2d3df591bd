"""ICC profiles: the colours that a file means, in sRGB."""

from __future__ import annotations

import io
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from PIL import Image, ImageCms

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Pixels

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")


NO_FLAGS = ImageCms.Flags(0)

PRESS_PROFILE = "chemical-proof.icc"
"""What CMYK without a profile is taken for, as in libvips: by Graeme W. Gill, released into the public domain.
`tools/press_profile.py` made the file."""


def printed(inks: Image.Image) -> Image.Image:
    """Convert an image in mode CMYK without a profile to RGB. To subtract each ink from one channel would give colours
    that no press can print."""
    converted = ImageCms.applyTransform(inks, _press())
    return inks.convert("RGB") if converted is None else converted


@cache
def _press() -> ImageCms.ImageCmsTransform:
    """Made once: that takes 20 ms, which is as long as a small image."""
    profile = (resources.files(__package__) / PRESS_PROFILE).read_bytes()
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "CMYK", "RGB")


def in_srgb(image: Image.Image, profile: bytes | None, flags: ImageCms.Flags = NO_FLAGS) -> Image.Image | None:
    """Convert an image in mode L, RGB or CMYK to RGB; None without a profile that can be read and is made for it."""
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError):
        return None


def grey_curve(profile: bytes | None) -> Pixels | None:
    """What each of the 256 levels of a grey image is in sRGB, (256,); None as `in_srgb`."""
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    # The short cuts for many pixels are up to 10 levels off where the curve is steep, as where linear light is dark.
    converted = in_srgb(levels, profile, ImageCms.Flags.NOOPTIMIZE)
    if converted is None:
        return None
    curve: Pixels = np.asarray(converted)[0, :, 1]
    return curve
