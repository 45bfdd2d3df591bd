"""Opens PNG: what the pixels need, and all of the pixels."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

from penstock.pixels.colours import with_exact_key
from penstock.pixels.headers.header import truncated
from penstock.pixels.headers.metadata import code_points_of, data_of, without_metadata

_IHDR = struct.Struct(">IIBBxxB").unpack_from
IHDR_AT = 16
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""The samples of a pixel, by colour type."""

WHOLE = ((0, 0, 1, 1),)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The first column and row of each pass of Adam7, and the steps between columns and rows."""

PIECE_BYTES = 2**16


def open_png(data: bytes) -> Image.Image:
    """The image of a PNG, loaded, with its transparent colour in the values of its pixels.

    Raises ImageDecodeFailed where rows are missing or a checksum is wrong, and what Pillow raises.
    """
    plain = without_metadata(data)
    image = with_exact_key(WholePng(plain), plain)
    image.load()  # now: to read its Exif, which may be damaged, would load it too
    code_points = code_points_of(plain)
    if code_points:
        image.info["cicp"] = code_points
    return image


class WholePng(PngImagePlugin.PngImageFile):
    """A PNG of Pillow, whose loading raises ImageDecodeFailed where rows are missing."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        super().__init__(io.BytesIO(data))

    def load_end(self) -> None:
        """Raise ImageDecodeFailed where the compressed data ends before the last row, as it may at any place."""
        super().load_end()
        last = (0, self.height - 1, *self.size)
        # Where Pillow has written nothing, there is nothing but zeros.
        if (self.info.get("interlace") or not self._core.crop(last).getbbox()) and not has_all_rows(self._data):
            raise truncated()

    @property
    def _core(self) -> Any:
        return self.im


def has_all_rows(data: bytes) -> bool:
    """Whether a PNG inflates to as many bytes as its header says. What more there is does not count."""
    left, unpacking = _row_bytes(data), zlib.decompressobj()
    for packed in data_of(data):
        rest = bytes(packed)
        while rest and left > 0:
            left -= len(unpacking.decompress(rest, PIECE_BYTES))
            rest = unpacking.unconsumed_tail
    return left <= 0


def _row_bytes(data: bytes) -> int:
    width, height, bits, kind, interlace = _IHDR(data, IHDR_AT)
    passes = PASSES if interlace else WHOLE
    sizes = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes)
    return sum(rows * (1 + (columns * bits * SAMPLES[kind] + 7) // 8) for columns, rows in sizes if columns > 0)
