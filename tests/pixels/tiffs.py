"""TIFF files byte by byte: of 16 bits in several channels, which Pillow does not write."""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

TEXT, SHORT, LONG, UNDEFINED = 2, 3, 4, 7
DEFLATE, DIFFERENCES = 8, 2

Tags = Mapping[int, tuple[int, bytes]]
"""Tags with their type, and the bytes of their values."""


def tiff(
    values: NDArray[np.uint16],
    further: Tags | None = None,
    *,
    order: str = "<",
    photometric: int | None = None,
    is_packed: bool = False,
    tile: int = 0,
) -> bytes:
    """A file of these samples, (height, width, channels), in strips of two rows, or in square tiles of so many pixels.
    What is packed is deflated differences."""
    height, width, channels = values.shape
    parts = list(_tiles(values, tile) if tile else (values[top : top + 2] for top in range(0, height, 2)))
    if is_packed:
        parts = [np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1) for part in parts]
    stored = [part.astype(order + "u2").tobytes() for part in parts]
    stored = [zlib.compress(part) for part in stored] if is_packed else stored
    places = [8 + sum(map(len, stored[:n])) for n in range(len(stored))]
    numbers = {
        256: [width], 257: [height], 258: [16] * channels, 259: [DEFLATE if is_packed else 1], 277: [channels],
        262: [2 if channels > 2 else 1] if photometric is None else [photometric],
        317: [DIFFERENCES if is_packed else 1],
        **({322: [tile], 323: [tile]} if tile else {278: [2]}),
    }  # fmt: skip
    tags = {tag: (SHORT, struct.pack(f"{order}{len(of)}H", *of)) for tag, of in numbers.items()}
    longs = {324 if tile else 273: places, 325 if tile else 279: [len(part) for part in stored]}
    tags |= {tag: (LONG, struct.pack(f"{order}{len(of)}I", *of)) for tag, of in longs.items()}
    body = b"".join(stored)
    at = 8 + len(body) + len(body) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at) + body
    return head.ljust(at, b"\0") + _directory(tags | dict(further or {}), at, order)


def _tiles(values: NDArray[np.uint16], side: int) -> list[NDArray[np.uint16]]:
    height, width = values.shape[:2]
    whole = np.pad(values, ((0, -height % side), (0, -width % side), (0, 0)))
    return [
        whole[top : top + side, left : left + side] for top in range(0, height, side) for left in range(0, width, side)
    ]


def _directory(tags: Tags, at: int, order: str) -> bytes:
    entries, values, behind = b"", b"", at + 2 + 12 * len(tags) + 4
    sizes = {TEXT: 1, SHORT: 2, LONG: 4, UNDEFINED: 1}
    for tag, (kind, data) in sorted(tags.items()):
        entries += struct.pack(order + "HHI", tag, kind, len(data) // sizes[kind])
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", behind + len(values))
            values += data + bytes(len(data) % 2)
    return struct.pack(order + "H", len(tags)) + entries + bytes(4) + values
