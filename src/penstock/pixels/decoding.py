"""Decodes images: PNG, JPEG and WebP outside, one plain form of pixels inside.

Inputs are untrusted: no other format is ever tried, `headers` has held what the file says to its bounds before anything
is decoded, and whatever a decoder raises becomes an error with a code.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from PIL import Image, ImageOps

from penstock.errors import ImageDecodeFailed
from penstock.lazy_import import lazy_import
from penstock.pixels.colours import parts_of, take_profile, with_exact_key
from penstock.pixels.deep import deep_parts, is_deep
from penstock.pixels.headers import ImageBounds, ImageHeader, probe
from penstock.pixels.headers.metadata import code_points_of, without_metadata
from penstock.pixels.picture import USUAL, Levels, Picture, PixelForm
from penstock.pixels.pillow import write_image

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

UNBOUNDED = ImageBounds()
"""For images of our own: any size, but not any number of scans and chunks."""

Parts: TypeAlias = "tuple[Image.Image | Levels, Levels | None, bool, bytes | None]"
"""The fields of a Picture."""

WrittenParts: TypeAlias = tuple[int, int, bool, bool, bool, int]
"""What `decode_to` returns."""

DECODER: ContextVar[Callable[[bytes, ImageHeader, PixelForm], Picture] | None] = ContextVar("decoder", default=None)
"""Decodes images in the place of this thread, once their headers have passed. Raises ImageDecodeFailed."""


def decode(data: bytes, bounds: ImageBounds = UNBOUNDED, wanted: PixelForm = USUAL) -> Picture:
    """Decode an image: the EXIF orientation is applied, palettes and CMYK are expanded, 16 bits are reduced to 8, and
    what a colour profile, or a PNG in cICP or gAMA, says of the values is converted to sRGB, unless pixels of another
    form are `wanted`. No metadata survives. Raises what `headers.probe` raises."""
    header = probe(data, bounds)
    decoder = DECODER.get()
    return decode_here(data, header.format, wanted) if decoder is None else decoder(data, header, wanted)


def decode_here(data: bytes, form: str, wanted: PixelForm = USUAL) -> Picture:
    """Decode an image of this format in this thread. Raises ImageDecodeFailed."""
    with _parts(data, form, wanted) as (rgb, alpha, is_grey, profile):
        return Picture(np.asarray(rgb), alpha, is_grey, profile)


def decode_to(data: bytes, form: str, into: memoryview, wanted: PixelForm = USUAL) -> WrittenParts:
    """Decode an image into a buffer of bytes: `rgb`, then `alpha` where there is one, and behind the room of both the
    profile where there is one.

    Returns width, height, whether there is an alpha, `grey`, whether the samples have 16 bits, and the length of the
    profile. Raises ImageDecodeFailed.
    """
    with _parts(data, form, wanted) as (rgb, alpha, is_grey, profile):
        if isinstance(rgb, Image.Image):
            width, height = rgb.size
            write_image(rgb, into)
        else:
            height, width = rgb.shape[:2]
            into[: rgb.nbytes] = _bytes_of(rgb)
        sample = 1 if isinstance(rgb, Image.Image) else rgb.itemsize
        if alpha is not None:
            into[3 * sample * alpha.size : 4 * sample * alpha.size] = _bytes_of(alpha)
        behind, profile = 4 * sample * width * height, profile or b""
        into[behind : behind + len(profile)] = profile
        return width, height, alpha is not None, is_grey, sample == 2, len(profile)


def picture_in(
    pixels: Any, width: int, height: int, has_alpha: bool, is_grey: bool, is_16_bits: bool, profile_bytes: int
) -> Picture:
    """The picture that `decode_to` has written into a buffer. It is not copied: all arrays of the picture are views of
    one, their `base`."""
    base = np.frombuffer(pixels, np.uint16 if is_16_bits else np.uint8, 4 * width * height)
    size = width * height
    alpha = base[3 * size : 4 * size].reshape(height, width) if has_alpha else None
    profile = bytes(memoryview(pixels)[base.nbytes : base.nbytes + profile_bytes]) or None
    return Picture(base[: 3 * size].reshape(height, width, 3), alpha, is_grey, profile)


@contextmanager
def _parts(data: bytes, form: str, wanted: PixelForm) -> Iterator[Parts]:
    """The parts of an image, upright; what goes wrong inside of the block becomes ImageDecodeFailed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged EXIF block only warns, and is dropped anyway
            if wanted.is_deep and is_deep(data, form):
                yield deep_parts(data, keeps_colours=wanted.keeps_colours)
                return
            image = _opened_png(without_metadata(data)) if form == "png" else _opened(data, form)
            ImageOps.exif_transpose(image, in_place=True)
        with image:
            profile = take_profile(image) if wanted.keeps_colours else None
            yield *parts_of(image), profile
    except Exception as error:  # decoders of hostile bytes throw anything
        raise ImageDecodeFailed("the image is damaged or truncated") from error


def _opened(data: bytes, form: str) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=(form,))


def _opened_png(data: bytes) -> Image.Image:
    image = with_exact_key(_opened(data, "png"), data)
    code_points = code_points_of(data)
    if code_points:
        image.info["cicp"] = code_points
    return image


def _bytes_of(pixels: Levels) -> memoryview:
    return np.ascontiguousarray(pixels).data.cast("B")
