"""The chunks of a PNG that tell of the image: its pixels per inch, and its EXIF."""

import struct
import zlib
from collections.abc import Iterator

from penstock.core.output import OutputOptions
from penstock.pixels.headers.png import SECOND_CHUNK

METRE_IN_INCHES = 39.3701

METRE = 1
"""The unit of a chunk pHYs."""


def with_chunks(data: bytes, options: OutputOptions) -> bytes:
    """The PNG with the chunks that the options ask for, which stand behind its header."""
    chunks = png_chunks(options)
    return data[:SECOND_CHUNK] + chunks + data[SECOND_CHUNK:] if chunks else data


def png_chunks(options: OutputOptions) -> bytes:
    """The chunks that stand between the header of a PNG and its pixels; empty where nothing is to be told."""
    return b"".join(_chunks(options))


def _chunks(options: OutputOptions) -> Iterator[bytes]:
    if options.dpi is not None:
        density = round(options.dpi * METRE_IN_INCHES)
        yield _chunk(b"pHYs", struct.pack(">IIB", density, density, METRE))
    if options.exif:
        yield _chunk(b"eXIf", options.exif)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
