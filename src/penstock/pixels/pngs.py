"""Opens PNG: what the pixels need, and all of the pixels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image, PngImagePlugin

from penstock.pixels.colours import form_of, with_exact_key
from penstock.pixels.headers.header import truncated
from penstock.pixels.headers.metadata import breaks_off, code_points_of, data_of, with_data, without_metadata

_IHDR = struct.Struct(">IIBBxxB").unpack_from
IHDR_AT = 16
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""The samples of a pixel, by colour type."""

WHOLE = ((0, 0, 1, 1),)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The first column and row of each pass of Adam7, and the steps between columns and rows."""

DEEP_GREY = "LA;16B"
"""The form of greys with an alpha, both of 16 bits, which Pillow reads as if they were colours."""

PIECE_BYTES = 2**16
FASTEST = 1

CHECKSUM_BYTES = 6
"""What may stand behind the last row: the end of its block, and the checksum of all."""


def open_png(data: bytes) -> Image.Image:
    """The image of a PNG, loaded, with its transparent colour in the values of its pixels.

    Raises ImageDecodeFailed where rows are missing or a checksum is wrong, and what Pillow raises.
    """
    plain = without_metadata(data)
    image = with_exact_key(WholePng(plain), plain)
    form = form_of(image)
    image.load()  # now: to read its Exif, which may be damaged, would load it too
    if form == DEEP_GREY:
        image = image.convert("LA")
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
        if self._may_lack_rows and not has_all_rows(self._data):
            raise truncated()

    @property
    def _may_lack_rows(self) -> bool:
        last = (0, self.height - 1, *self.size)
        # Where Pillow has written nothing, there is nothing but zeros.
        return bool(self.info.get("interlace")) or breaks_off(self._data) or not self._core.crop(last).getbbox()

    @property
    def _core(self) -> Any:
        return self.im


def has_all_rows(data: bytes) -> bool:
    """Whether a PNG inflates to as many bytes as its header says. What more there is does not count; but of data that
    breaks off, all has to be rows: what was filled in behind it may look like some."""
    left, unpacking, rest = _row_bytes(data), zlib.decompressobj(), b""
    for packed in data_of(data):
        rest = bytes(packed)
        while rest and left > 0:
            left -= len(unpacking.decompress(rest, min(left, PIECE_BYTES)))
            rest = unpacking.unconsumed_tail
    return left <= 0 and (len(rest) <= CHECKSUM_BYTES or not breaks_off(data) or _ends(unpacking, rest))


def _ends(unpacking: Any, rest: bytes) -> bool:
    unpacking.decompress(rest, 1)
    return bool(unpacking.eof)


def completed(data: bytes, on_missing: Callable[[], None]) -> bytes:
    """A PNG with all its rows, where some are missing and `on_missing` does not raise: they are filled with zeros,
    which are black, or transparent. `data` itself where none is missing.

    Raises ImageDecodeFailed where all are missing, and zlib.error.
    """
    if has_all_rows(data):
        return data
    on_missing()
    packing, left, packed = zlib.compressobj(FASTEST), _row_bytes(data), bytearray()
    for piece in _unpacked(data, left):
        packed += packing.compress(piece)
        left -= len(piece)
    if left == _row_bytes(data):
        raise truncated()
    while left > 0:
        packed += packing.compress(bytes(min(left, PIECE_BYTES)))
        left -= PIECE_BYTES
    return with_data(data, bytes(packed) + packing.flush())


def _unpacked(data: bytes, most: int) -> Iterator[bytes]:
    """The rows, in pieces: at most so many bytes, and fewer where the data ends before."""
    unpacking = zlib.decompressobj()
    for packed in data_of(data):
        rest = bytes(packed)
        while rest and most > 0:
            piece = unpacking.decompress(rest, min(most, PIECE_BYTES))
            yield piece
            most -= len(piece)
            rest = unpacking.unconsumed_tail


def _row_bytes(data: bytes) -> int:
    width, height, bits, kind, interlace = _IHDR(data, IHDR_AT)
    passes = PASSES if interlace else WHOLE
    sizes = ((-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes)
    return sum(rows * (1 + (columns * bits * SAMPLES[kind] + 7) // 8) for columns, rows in sizes if columns > 0)
