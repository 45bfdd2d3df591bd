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


def chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    """All chunks, whose checksums are right."""
    found, at = [], 8
    while at < len(file):
        size, kind = struct.unpack_from(">I4s", file, at)
        data = file[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", file, at + 8 + size)[0] == zlib.crc32(kind + data)
        found.append((kind, data))
        at += 12 + size
    assert found[-1] == (b"IEND", b"")
    return found


def unfiltered(file: bytes) -> NDArray[np.uint16]:
    """The samples of a file of 16 bits: Pillow drops the lower 8 of those with several channels."""
    every = chunks(file)
    width, height, _, kind = struct.unpack(">IIBB", every[0][1][:10])
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    data = zlib.decompress(b"".join(data for name, data in every if name == b"IDAT"))
    bpp, size = 2 * channels, 2 * channels * width
    rows = [bytearray(size)]
    for at in range(0, len(data), size + 1):
        above, line = rows[-1], bytearray(data[at + 1 : at + 1 + size])
        for i in range(size):
            left = line[i - bpp] if i >= bpp else 0
            line[i] = (line[i] + {1: left, 2: above[i], 3: (left + above[i]) // 2}[data[at]]) % 256
        rows.append(line)
    return np.frombuffer(b"".join(rows[1:]), ">u2").reshape(height, width, channels).astype(np.uint16)
