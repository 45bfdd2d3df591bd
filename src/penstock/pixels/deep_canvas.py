"""A canvas of 16 bits, and the PNG of it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import ImageColor

from penstock.core.request import OutputOptions
from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Levels, Picture
from penstock.pixels.resampling import resize

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""The colour type of so many channels: grey, with alpha, RGB, with alpha."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"

UP = 2
"""The filter of a row: its differences from the one above."""

BAND_ROWS = 64

METRES_PER_INCH = 0.0254

LUMA = (19595, 38470, 7471)
"""Of 65,536 parts: the luma of ITU-R 601, as Pillow computes it."""


class DeepCanvas:
    """An RGB image of uint16 that is written in pieces. Threads may write different parts of it at a time."""

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self._levels = np.zeros((height, width, 3), np.uint16)

    @property
    def pixels(self) -> Levels:
        """All pixels, (height, width, 3)."""
        return self._levels

    def put(self, left: int, top: int, pixels: Levels) -> None:
        """Write a part, (height, width, 3), with its upper left corner at this place."""
        height, width = pixels.shape[:2]
        self._levels[top : top + height, left : left + width] = pixels

    def encode(
        self, options: OutputOptions, *, alpha: Levels | None = None, grey: bool = False, profile: bytes | None = None
    ) -> bytes:
        """The PNG of it, with 16 bits. A smaller `alpha`, of uint16, is resampled bicubically."""
        whole = None if alpha is None else resize(alpha, *self.size)
        return deep_png(Picture(self._levels, whole, grey, profile=profile), options)


def deep_png(picture: Picture, options: OutputOptions) -> bytes:
    """The PNG of a picture of uint16; what is transparent is put on the background that is asked for."""
    picture = _flattened(picture, options.background)
    channels = (1 if picture.grey else 3) + (picture.alpha is not None)
    height, width = picture.rgb.shape[:2]
    file = io.BytesIO()  # a list of chunks would be there twice while it is joined
    file.write(SIGNATURE)
    file.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)))
    if picture.profile is not None:
        file.write(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.profile)))
    if options.dpi is not None:
        per_metre = round(options.dpi / METRES_PER_INCH)
        file.write(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    file.writelines(_packed(_bands(picture.rgb, picture.alpha, is_grey=picture.grey)))
    file.write(_chunk(b"IEND", b""))
    return file.getvalue()


def _flattened(picture: Picture, background: str | None) -> Picture:
    if picture.alpha is None or background is None:
        return picture
    colour = np.array(ImageColor.getrgb(background), np.float32) * np.float32(257)
    made = np.empty_like(picture.rgb)
    for top in range(0, len(made), BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        opacity = picture.alpha[band, :, None] / np.float32(65_535)
        made[band] = np.rint(picture.rgb[band] * opacity + colour * (1 - opacity))
    return Picture(made, grey=picture.grey and len(set(colour.tolist())) == 1, profile=picture.profile)


def _bands(levels: Levels, alpha: Levels | None, *, is_grey: bool) -> Iterator[Levels]:
    """The samples of so many rows at a time, (rows, width, channels)."""
    for top in range(0, len(levels), BAND_ROWS):
        band = levels[top : top + BAND_ROWS]
        colours = _luma(band)[..., None] if is_grey else band
        yield colours if alpha is None else np.dstack([colours, alpha[top : top + BAND_ROWS]])


def _luma(band: Levels) -> Levels:
    parts = [weight * band[..., i].astype(np.uint32) for i, weight in enumerate(LUMA)]
    luma: Levels = parts[0] + parts[1] + parts[2] + np.uint32(0x8000) >> 16
    return luma.astype(np.uint16)


def _packed(bands: Iterator[Levels]) -> Iterator[bytes]:
    """The chunks of the pixels."""
    packer, above = zlib.compressobj(1), None
    for band in bands:
        rows = np.ascontiguousarray(band, ">u2").reshape(len(band), -1).view(np.uint8)
        filtered = np.full((len(rows), 1 + rows.shape[1]), UP, np.uint8)
        before = np.zeros_like(rows[:1]) if above is None else above
        np.subtract(rows, np.concatenate([before, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:]
        yield _chunk(b"IDAT", packer.compress(filtered.data.cast("B")))
    yield _chunk(b"IDAT", packer.flush())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
