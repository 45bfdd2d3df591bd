"""The chunks of a PNG (ISO/IEC 15948, third edition of the W3C)."""

import struct

from penstock.errors import ImageDecodeFailed
from penstock.pixels.headers.header import ImageBounds, ImageHeader, damaged

MOST_BYTES = 2**31 - 1
"""The longest chunk, by the standard."""

FIRST_CHUNK, SECOND_CHUNK = 8, 33
"""Where they begin: the header has 13 bytes, and each chunk 12 around its own."""

head_of = struct.Struct(">I4s").unpack_from
"""The length of a chunk's data, and its type."""

_IHDR = struct.Struct(">I4sIIBB").unpack_from
_METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"tIME", b"eXIf"})
_NOTED = frozenset({b"IEND", b"acTL", b"fcTL", b"iCCP", b"tRNS"}) | _METADATA

WITH_ALPHA = (4, 6)
"""Colour types: greys and colours with an alpha each."""


def read_png(data: bytes, bounds: ImageBounds) -> ImageHeader | None:
    """The header of a PNG; None when the bytes end before its size. Raises ImageTooLarge,
    ImageAnimated, ImageDecodeFailed."""
    if len(data) < SECOND_CHUNK:
        return None
    length, kind, width, height, bits, colour_type = _IHDR(data, FIRST_CHUNK)
    if length != 13 or kind != b"IHDR":
        raise damaged()
    bounds.check_size(width, height)
    chunks, end, seen, frames = _walk(data, bounds)
    return ImageHeader(
        "png",
        width,
        height,
        bits,
        chunks=chunks,
        end=end,
        has_icc=b"iCCP" in seen,
        has_exif=b"eXIf" in seen,
        has_metadata=not seen.isdisjoint(_METADATA),
        frames=frames,
        has_alpha=colour_type in WITH_ALPHA or b"tRNS" in seen,
    )


def _walk(data: bytes, bounds: ImageBounds) -> tuple[int, int | None, set[bytes], int]:
    """How many chunks there are, where the last one ends, those of note that were met, and how many frames."""
    at, last, chunks, controls, frames, most = SECOND_CHUNK, len(data) - 12, 1, 0, 1, bounds.chunks
    seen: set[bytes] = set()
    while at <= last:
        length, kind = head_of(data, at)
        chunks += 1
        if chunks > most:
            bounds.check_chunks(chunks)
        if length > MOST_BYTES:
            raise ImageDecodeFailed(f"a chunk of the PNG claims {length} bytes")
        if kind in _NOTED:
            seen.add(kind)
            controls += kind == b"fcTL"
            frames = max(frames, controls, _announced(data, at, length) if kind == b"acTL" else 0)
            bounds.check_frames(frames)
            if kind == b"IEND":
                return chunks, None if at + length > last else at + 12 + length, seen, frames
        at += 12 + length
    return chunks, None, seen, frames


def _announced(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at + 8 : at + 12]) if length == 8 else 0
