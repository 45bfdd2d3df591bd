"""Where a file has its EXIF and its pixels per inch. Nothing is decoded, and no more than some parts are looked at."""

import struct
from collections.abc import Callable

from msgspec import Struct

from penstock.errors import PenstockError
from penstock.pixels.exif.directories import resolution_in
from penstock.pixels.headers.avif import avif_exif
from penstock.pixels.headers.header import ImageBounds

MOST_PARTS = 2000
"""Segments of a JPEG, or chunks, that are looked at."""

EXIF_HEAD = b"Exif\0\0"
BOXES = b"ftyp"
"""What an AVIF has at its fifth byte."""

PER_METRE, PER_CM = 0.0254, 2.54


class FileMetadata(Struct, frozen=True):
    """What a file says of itself: its block of EXIF, empty where it has none, and its pixels per inch."""

    exif: bytes = b""
    dpi: int | None = None


def metadata_of(data: bytes) -> FileMetadata:
    """What a JPEG, PNG, WebP, AVIF or TIFF says; nothing of any other file, and of what is damaged."""
    reader = next(
        (read for magic, read in _READERS.items() if data.startswith(magic, 4 if magic == BOXES else 0)), None
    )
    if reader is None:
        return FileMetadata()
    exif, dpi = reader(data)
    return FileMetadata(exif, _sound(dpi) or resolution_in(exif))


def _sound(dpi: float | None) -> int | None:
    return round(dpi) if dpi is not None and 1 <= round(dpi) <= 65_535 else None


def _jpeg(data: bytes) -> tuple[bytes, float | None]:
    at, exif, dpi = 2, b"", None
    for _ in range(MOST_PARTS):
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            break
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : at + 2 + length]
        if marker == 0xDA:
            break
        if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            unit, across = body[7], int.from_bytes(body[8:10])
            dpi = {1: float(across), 2: across * PER_CM}.get(unit)
        elif marker == 0xE1 and body.startswith(EXIF_HEAD) and not exif:
            exif = body[len(EXIF_HEAD) :]
        at += 2 + length
    return exif, dpi


def _png(data: bytes) -> tuple[bytes, float | None]:
    at, exif, dpi = 8, b"", None
    for _ in range(MOST_PARTS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length] if kind in (b"eXIf", b"pHYs") else b""
        if kind == b"eXIf":
            exif = body
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:
            dpi = int.from_bytes(body[:4]) * PER_METRE
        at += 12 + length
    return exif, dpi


def _webp(data: bytes) -> tuple[bytes, float | None]:
    at = 12
    for _ in range(MOST_PARTS):
        if data[8:12] != b"WEBP" or at + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            return data[at + 8 : at + 8 + length].removeprefix(EXIF_HEAD), None
        at += 8 + length + length % 2
    return b"", None


def _avif(data: bytes) -> tuple[bytes, float | None]:
    try:
        return avif_exif(data, ImageBounds()), None
    except PenstockError:
        return b"", None


def _tiff(data: bytes) -> tuple[bytes, float | None]:
    return data, None


_READERS: dict[bytes, Callable[[bytes], tuple[bytes, float | None]]] = {
    b"\xff\xd8\xff": _jpeg,
    b"\x89PNG\r\n\x1a\n": _png,
    b"RIFF": _webp,
    BOXES: _avif,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
}
