"""Which of the formats a file has, and its header."""

import re
from collections.abc import Callable

from penstock.core.media_types import BEGINNING_BYTES, kind_of
from penstock.errors import UnsupportedImageFormat
from penstock.pixels.headers.avif import read_avif
from penstock.pixels.headers.bmp import read_bmp
from penstock.pixels.headers.gif import read_gif
from penstock.pixels.headers.header import ImageBounds, ImageHeader, damaged, truncated
from penstock.pixels.headers.jpeg import end_of_scan, read_jpeg
from penstock.pixels.headers.png import read_png
from penstock.pixels.headers.tiff import read_tiff
from penstock.pixels.headers.webp import read_webp

_BEGINNING = re.compile(
    rb"(\x89PNG\r\n\x1a\n)|(\xff\xd8\xff)|(RIFF....WEBP)|(GIF8[79]a)|(II\*\0|MM\0\*)|(BM....\0\0\0\0)"
    rb"|(....ftyp(?:avi[fs]|mi[af]1.{4}(?:.{4}){0,16}?avif))",
    re.DOTALL,
)

_READERS: tuple[tuple[str, Callable[[bytes, ImageBounds], ImageHeader | None]], ...] = (
    ("png", read_png),
    ("jpeg", read_jpeg),
    ("webp", read_webp),
    ("gif", read_gif),
    ("tiff", read_tiff),
    ("bmp", read_bmp),
    ("avif", read_avif),
)
"""In the order of the groups above."""

TAKEN = "PNG, JPEG, WebP, AVIF, TIFF, GIF or BMP"
HINTS = {"image/heic": " (phones send JPEG where the format of their camera is set to the most compatible one)"}

MEDIA_TYPES = tuple(f"image/{form}" for form, _ in _READERS)


def probe(data: bytes, bounds: ImageBounds) -> ImageHeader:
    """The header of an image whose bytes are all here, once it is within bounds.

    Raises UnsupportedImageFormat, ImageTooLarge, ImageAnimated, ImageDecodeFailed.
    """
    header = probe_beginning(data, bounds)
    if header is None:
        raise damaged()
    if header.is_partial and not bounds.takes_truncated:
        raise truncated()
    return header


def probe_beginning(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of an image, as far as its first bytes tell it; None when they do not tell its size.

    Raises UnsupportedImageFormat, ImageTooLarge, ImageAnimated, ImageDecodeFailed.
    """
    beginning = _BEGINNING.match(data)
    if beginning is None:
        raise UnsupportedImageFormat(f"the input is {what_is(data)}; send an image as {TAKEN}")
    _, read = _READERS[(beginning.lastindex or 1) - 1]
    return read(data, bounds)


def what_is(data: bytes) -> str:
    """What a file that is no image of ours is, in words."""
    kind = kind_of(data[:BEGINNING_BYTES])
    if kind is not None:
        return kind.type + HINTS.get(kind.type, "")
    if data[:BEGINNING_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "text such as HTML or SVG"
    return "no image that is known" if data else "empty"


def end_of(data: bytes, header: ImageHeader) -> int | None:
    """The place behind the last byte of an image, also where other data follows; None where it breaks off."""
    return end_of_scan(data, header.only_scan_at) if header.only_scan_at else header.end


def content_type_of(data: bytes) -> str | None:
    """The content type of an image by its first bytes; None where they are of no image that is taken."""
    beginning = _BEGINNING.match(data)
    return None if beginning is None else f"image/{_READERS[(beginning.lastindex or 1) - 1][0]}"
