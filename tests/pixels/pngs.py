"""PNG files byte by byte: of any depth, with any chunk, which no library writes."""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

KINDS = {1: 0, 2: 4, 3: 2, 4: 6}
"""The colour type of so many channels."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: NDArray[np.integer], bits: int, chunks: Mapping[bytes, bytes] | None = None) -> bytes:
    """A file of these samples, (height, width) or (height, width, channels), with further chunks before the pixels."""
    planes = values if values.ndim == 3 else values[..., None]
    height, width, channels = planes.shape
    header = struct.pack(">IIBBBBB", width, height, bits, KINDS[channels], 0, 0, 0)
    rows = b"".join(b"\0" + _packed(row.reshape(-1), bits) for row in planes)
    further = b"".join(chunk(kind, data) for kind, data in (chunks or {}).items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + further
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _packed(samples: NDArray[np.integer], bits: int) -> bytes:
    if bits >= 8:
        return samples.astype(">u2" if bits == 16 else "u1").tobytes()
    spread = samples[:, None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1)).tobytes()
