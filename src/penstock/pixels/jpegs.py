"""Decodes JPEG by libjpeg-turbo, which says what it has missed: pixels that are not in the file are an error.

Pillow decodes with the same library and gives the same pixels in twice the time; what is missing is grey there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from penstock.lazy_import import lazy_import
from penstock.pixels.headers.header import HOLE, without_hole
from penstock.pixels.headers.mended import mended
from penstock.pixels.picture import Pixels
from penstock.pixels.turning import UPRIGHT, orientation_of

if TYPE_CHECKING:
    import simplejpeg
else:
    simplejpeg = lazy_import("simplejpeg")

COLOUR_SPACES: dict[str, Any] = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""The names of Pillow's modes in this library."""

_HARMLESS = re.compile(
    "Premature end of JPEG file|extraneous bytes before marker|Invalid SOS parameters|unknown JFIF revision|Adobe"
    "|bad ICC marker"
)
"""Warnings of libjpeg (jerror.h) after which nothing of the image need be missing."""

_MISSING = "premature end of data segment"


def open_jpeg(data: bytes) -> Image.Image:
    """What a JPEG says, without its pixels; of several images the first. Where its metadata cannot be read, it is left
    out. Raises what Pillow raises."""
    try:
        return _opened(data)
    except Exception:  # noqa: BLE001  a reader of hostile metadata throws anything
        return _opened(mended(data))


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("jpeg",))


def is_plain(image: Image.Image) -> bool:
    """Whether a JPEG has the pixels of its picture as they are: upright, and without a profile."""
    return image.mode == "RGB" and "icc_profile" not in image.info and orientation_of(image) == UPRIGHT


def loaded(image: Image.Image, data: bytes, on_missing: Callable[[], None]) -> Image.Image:
    """The image with its pixels, and what it says. Raises as `jpeg_pixels` does."""
    pixels = jpeg_pixels(data, image.mode, on_missing)
    if image.mode == "CMYK":
        pixels = 255 - pixels  # Adobe writes 255 where there is no ink; Pillow turns them too
    with_pixels = Image.fromarray(pixels[..., 0] if image.mode == "L" else pixels, image.mode)
    with_pixels.info = image.info
    return with_pixels


def jpeg_pixels(data: bytes, mode: str, on_missing: Callable[[], None], into: memoryview | None = None) -> Pixels:
    """The pixels of a JPEG in this mode of Pillow, (height, width, channels), not turned; in `into` where it is given.

    Where some are missing `on_missing` is called; what it does not raise for is grey. Raises ValueError where the file
    is damaged.
    """
    colours = COLOUR_SPACES[mode]
    if data.endswith(HOLE) and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        on_missing()
        return _leniently(without_hole(data), colours, into)
    try:
        return _strictly(data, colours, into)
    except ValueError as error:
        if _MISSING not in str(error):
            raise
        on_missing()
        return _leniently(data, colours, into)


def _strictly(data: bytes, colours: Any, into: memoryview | None) -> Pixels:
    # Only the first warning is told: a harmless one may hide others, so that the file is mended and decoded again.
    decode: Callable[..., Pixels] = simplejpeg.decode_jpeg
    for source in (bytes, mended):
        try:
            return decode(source(data), colours, buffer=into)
        except ValueError as error:
            if not _HARMLESS.search(str(error)):
                raise
    return _leniently(data, colours, into)


def _leniently(data: bytes, colours: Any, into: memoryview | None) -> Pixels:
    decode: Callable[..., Pixels] = simplejpeg.decode_jpeg
    return decode(mended(data), colours, buffer=into, strict=False)
