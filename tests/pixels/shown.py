"""What results have to show of the files of `sources`: said by Pillow, LittleCMS and numpy alone."""

import io
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

from tests.pixels.pngs import unfiltered
from tests.pixels.sources import PROFILES, SPACES, WITHOUT_EXIF, Array, Kind, Known

SCALE = 4


class Shown(NamedTuple):
    """`colours` of 0..1, (height, width) where they are grey, else (height, width, 3), and `alpha`, of the source;
    the `profile` that they need, None where they are sRGB; whether one was applied or kept; and by how many of 255
    levels a lossless result may differ."""

    colours: Array
    alpha: Array | None
    profile: bytes | None
    applies: bool
    tolerance: float


def shown_of(kind: Kind, known: Known, profile: str, *, is_kept: bool, is_deep: bool) -> Shown:
    """Returns what a result shows, in the colours of its source where these are kept."""
    if kind.is_grey and SPACES.get(profile if kind.form not in WITHOUT_EXIF else "") != "RGB":
        known = known._replace(values=known.values[..., 0])  # of three equal ones
    white = np.iinfo(known.values.dtype).max
    alpha = None if known.alpha is None else known.alpha / white
    inks, space = _are_inks(known), "L" if known.values.ndim == 2 else "RGB"
    applies = kind.form not in WITHOUT_EXIF and not inks and SPACES.get(profile) == ("RGB" if kind.is_grey else space)
    rounding = 1.0 if known.bits == 16 and not is_deep else 0.01
    if not inks and (is_kept or not applies):
        return Shown(known.values / white, alpha, PROFILES[profile] if applies else None, applies, rounding)
    converted = in_srgb(known.values, PROFILES[profile] if applies else _press_profile())
    return Shown(converted / 255, alpha, None, applies, 2.5)


def enlarged_alpha(shown: Shown, *, by_network: bool, bits: int) -> Array | None:
    """Returns the alpha of a result: each pixel repeated, or resampled by Pillow, which has floats for more bits."""
    if shown.alpha is None or by_network:
        return None if shown.alpha is None else repeated(shown.alpha)
    height, width = shown.alpha.shape
    levels = shown.alpha.astype(np.float32) if bits == 16 else np.rint(shown.alpha * 255).astype(np.uint8)
    image = Image.fromarray(levels)
    resized = np.asarray(image.resize((SCALE * width, SCALE * height), Image.Resampling.BICUBIC))
    return resized.clip(0, 1) if bits == 16 else resized / 255


def repeated(values: Array) -> Array:
    """Returns each pixel SCALE times across and down."""
    return values.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def averaged(values: Array) -> Array:
    """Returns the mean of each pixel's repetitions."""
    height, width = values.shape[:2]
    blocks = values.reshape(height // SCALE, SCALE, width // SCALE, SCALE, *values.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)))


def read(file: bytes) -> tuple[Array, Array | None]:
    """Returns the colours of a result, 0..1, and its alpha: (height, width) of greys, with 3 channels of others."""
    if file.startswith(b"\x89PNG") and file[24] == 16:
        values = unfiltered(file) / 65_535
    else:
        values = np.asarray(Image.open(io.BytesIO(file))) / 255
        values = values if values.ndim == 3 else values[..., None]
    colours, alpha = (values, None) if values.shape[2] in (1, 3) else (values[..., :-1], values[..., -1])
    return colours[..., 0] if colours.shape[2] == 1 else colours, alpha


def _are_inks(known: Known) -> bool:
    return known.values.ndim == 3 and known.values.shape[2] == 4


def _press_profile() -> bytes:
    return (resources.files("penstock.pixels.colours") / "chemical-proof.icc").read_bytes()


def in_srgb(values: Array, profile: bytes | None) -> Array:
    """Returns what LittleCMS makes of levels, (height, width) of greys, or with 3 or 4 channels: uint8."""
    eight = np.rint(values / 257).astype(np.uint8) if values.dtype == np.uint16 else values
    mode = "L" if eight.ndim == 2 else "CMYK" if eight.shape[2] == 4 else "RGB"
    image = Image.frombytes(mode, eight.shape[1::-1], np.ascontiguousarray(eight).tobytes())
    made = ImageCms.applyTransform(image, _transform(mode, profile or b""))
    assert made is not None
    return np.asarray(made)[..., 1] if mode == "L" else np.asarray(made)


@cache
def _transform(mode: str, profile: bytes) -> ImageCms.ImageCmsTransform:
    # What it precomputes of a curve is up to 10 levels off in the dark.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags(0)
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(source, target, mode, "RGB", flags=flags)
