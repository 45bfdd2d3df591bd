"""A PNG file that is written from the top, while later rows may not be there yet (W3C, PNG third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import
from penstock.pixels.png.deflate import compressor
from penstock.pixels.png.filters import RowFilter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

SIGNATURE = b"\x89PNG\r\n\x1a\n"

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""The colour type of so many channels: grey, with alpha, RGB, with alpha."""

CHUNK_BYTES = 2**20
"""A chunk of compressed rows has about so many bytes, or fewer where a caller wants what is there."""

Chunk = tuple[bytes, bytes]
"""The type of a chunk, and its data."""


class PngStream:
    """Writes one file. The samples have 8 or 16 `bits`, and `chunks` stand between header and pixels."""

    def __init__(self, width: int, height: int, *, channels: int, bits: int = 8, chunks: Sequence[Chunk] = ()) -> None:
        self._type = np.dtype(">u2" if bits == 16 else np.uint8)
        self._row_bytes = width * channels * self._type.itemsize
        self._filter = RowFilter(self._row_bytes, channels * self._type.itemsize)
        self._compressor = compressor()
        header = struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[channels], 0, 0, 0)
        self._start = SIGNATURE + b"".join(_chunk(*one) for one in [(b"IHDR", header), *chunks])

    def write(self, rows: NDArray[Any]) -> bytes:
        """Take the next rows, (n, width) or (n, width, channels) of uint8 or uint16. Returns the bytes of the file that
        follow those that were returned before."""
        made, waiting = [self._taken_start()], bytearray()
        samples = np.ascontiguousarray(rows, self._type).reshape(len(rows), -1).view(np.uint8)
        for strip in self._filter.filtered(samples):
            waiting += self._compressor.compress(strip)
            if len(waiting) >= CHUNK_BYTES:
                made.append(_chunk(b"IDAT", waiting))
                waiting = bytearray()
        return b"".join([*made, _chunk(b"IDAT", waiting)] if waiting else made)

    def finish(self) -> bytes:
        """Return the end of the file, once all rows were taken."""
        return self._taken_start() + _chunk(b"IDAT", self._compressor.flush()) + _chunk(b"IEND", b"")

    def _taken_start(self) -> bytes:
        start, self._start = self._start, b""
        return start


def png_of(bands: Iterable[NDArray[Any]], stream: PngStream) -> bytes:
    """A whole file of all rows, which come in bands."""
    return b"".join([*map(stream.write, bands), stream.finish()])


def _chunk(kind: bytes, data: bytes | bytearray) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
