"""The chunks of a WebP (RFC 9649)."""

import struct
from collections.abc import Iterator

from penstock.errors import ImageDecodeFailed
from penstock.pixels.headers.header import HOLE, ImageBounds, ImageHeader, damaged

FIRST_CHUNK = 12
ICC, ALPHA, EXIF, XMP = 0x20, 0x10, 0x08, 0x04
"""Flags of an extended file."""

_head_of = struct.Struct("<4sI").unpack_from

Size = tuple[int, int]


def read_webp(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of a WebP; None when the bytes end before its size. Raises ImageTooLarge,
    ImageAnimated, ImageDecodeFailed."""
    said_end = 8 + int.from_bytes(data[4:8], "little")
    end = said_end if said_end <= len(data) else None
    chunks = frames = flags = 0
    is_partial = False
    size: Size | None = None
    for kind, at in _chunks(data, said_end):
        chunks += 1
        bounds.check_chunks(chunks)
        if kind == b"ANMF":
            frames += 1
            bounds.check_frames(frames)
        elif kind in SIZES:
            size = _same(size, SIZES[kind](data, at))
            flags |= FLAGS[kind](data, at) if kind in FLAGS else 0
            is_partial = is_partial or _ends_in_hole(data, at)
    if size is None:
        if end is not None:
            raise damaged()
        return None
    bounds.check_size(*size)
    has_icc, has_exif = bool(flags & ICC), bool(flags & EXIF)
    return ImageHeader(
        "webp",
        *size,
        chunks=chunks,
        end=end,
        has_icc=has_icc,
        has_exif=has_exif,
        has_alpha=bool(flags & ALPHA),
        has_metadata=bool(flags & (EXIF | XMP)),
        frames=max(1, frames),
        is_partial=is_partial,
    )


def _chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int]]:
    """The type of each chunk and the place of its data."""
    at, last = FIRST_CHUNK, min(end, len(data)) - 8
    while at <= last:
        kind, length = _head_of(data, at)
        if kind in SIZES and at + SIZE_BYTES[kind] > last:
            return
        yield kind, at + 8
        at += 8 + length + length % 2


def _ends_in_hole(data: bytes, at: int) -> bool:
    return data.endswith(HOLE, at, at + int.from_bytes(data[at - 4 : at], "little"))


def _same(size: Size | None, its: Size) -> Size:
    if size not in (None, its):
        raise ImageDecodeFailed("the WebP has two sizes")
    return its


def _extended(data: bytes, at: int) -> Size:
    return int.from_bytes(data[at + 4 : at + 7], "little") + 1, int.from_bytes(data[at + 7 : at + 10], "little") + 1


def _lossy(data: bytes, at: int) -> Size:
    if data[at + 3 : at + 6] != b"\x9d\x01\x2a":
        raise damaged()
    width, height = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (at + 6, at + 8))
    return width, height


def _lossless(data: bytes, at: int) -> Size:
    if data[at] != 0x2F:
        raise damaged()
    sides = int.from_bytes(data[at + 1 : at + 5], "little")
    return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1


SIZES = {b"VP8X": _extended, b"VP8 ": _lossy, b"VP8L": _lossless}
FLAGS = {b"VP8X": lambda data, at: data[at], b"VP8L": lambda data, at: data[at + 4] & ALPHA}
"""A lossless image has the flag of its alpha behind its size, at the same bit."""
SIZE_BYTES = {b"VP8X": 10, b"VP8 ": 10, b"VP8L": 5}
"""How much of the data of these tells the size."""
