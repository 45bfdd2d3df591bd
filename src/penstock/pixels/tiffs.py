"""Opens TIFF: greys of more than 8 bits, and pixels with all their 16.

Pillow leaves greys as they are in the file, and of several samples of 16 bits only the upper bytes. All of them are
read as one row of greys, three or four times as long, which lies in a file in the same way: the directory says so then.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from penstock.lazy_import import lazy_import
from penstock.pixels.headers.header import not_unpacked
from penstock.pixels.headers.tiff import (
    BITS,
    EXTRA_SAMPLES,
    ORIENTATION,
    PHOTOMETRIC,
    PLANES,
    PREDICTOR,
    SAMPLE_FORMAT,
    SAMPLES,
    SEPARATE,
    TILE_WIDTH,
    WIDTH,
    Entry,
    directory_of,
    tags_in,
    value_of,
)
from penstock.pixels.picture import Levels

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
CHANNELS = {WHITE_IS_ZERO: (1,), BLACK_IS_ZERO: (1,), RGB: (3, 4)}
"""Meanings of the samples, and how many of them are read with all bits: one more is an alpha."""

DIFFERENCES = 2
"""The predictor by which each sample is stored as its difference from that of the pixel before."""

MULTIPLIED = 1
"""The kind of an extra sample that is an alpha by which the others are multiplied."""

WHITE = "white"
MOST = 65_535

SHORT, LONG = 3, 4
UNUSED = 65_000
"""A tag that nobody reads."""


def open_tiff(data: bytes) -> Image.Image:
    """The first page, not loaded. Greys of more than 8 bits have their greatest level as `white` in `info`, below 0
    where 0 is white. Raises ImageDecodeFailed for a form that is not unpacked, and what Pillow raises."""
    try:
        image = Image.open(io.BytesIO(data), formats=("tiff",))
    except UnidentifiedImageError as error:  # its header has been read, so that it is one
        raise not_unpacked("image") from error
    assert isinstance(image, TiffImagePlugin.TiffImageFile)  # noqa: S101  no other format was tried
    if image.mode.startswith("I;16"):
        white = 2 ** int(image.tag_v2[BITS][0]) - 1
        image.info[WHITE] = -white if image.tag_v2[PHOTOMETRIC] == WHITE_IS_ZERO else white
    return image


def is_deep_tiff(data: bytes) -> bool:
    """Whether the samples of a TIFF have 16 bits that can be read."""
    tags = _tags(data)
    channels = CHANNELS.get(value_of(tags, PHOTOMETRIC, -1), ())
    return (
        value_of(tags, BITS, 1) == 16
        and value_of(tags, SAMPLES, 1) in channels
        and value_of(tags, PLANES, 1) != SEPARATE
        and value_of(tags, PREDICTOR, 1) <= DIFFERENCES
    )


def deep_levels(data: bytes) -> Levels:
    """The samples of a TIFF that `is_deep_tiff`, (height, width, channels) of uint16, not turned. Raises what Pillow
    raises."""
    tags = _tags(data)
    samples = value_of(tags, SAMPLES, 1)
    with Image.open(io.BytesIO(_as_greys(data, samples)), formats=("tiff",)) as image:
        rows = np.asarray(image).astype(np.uint16)
    levels: Levels = rows.reshape(len(rows), -1, samples)
    if value_of(tags, PREDICTOR, 1) == DIFFERENCES:
        width = value_of(tags, TILE_WIDTH, levels.shape[1])
        for left in range(0, levels.shape[1], width):
            np.cumsum(levels[:, left : left + width], axis=1, dtype=np.uint16, out=levels[:, left : left + width])
    if value_of(tags, PHOTOMETRIC, BLACK_IS_ZERO) == WHITE_IS_ZERO:
        return MOST - levels
    return _divided(levels) if samples == 4 and value_of(tags, EXTRA_SAMPLES, 0) == MULTIPLIED else levels


def _tags(data: bytes) -> dict[int, Entry]:
    directory = directory_of(data)
    return {} if directory is None else tags_in(data, directory)


def _as_greys(data: bytes, samples: int) -> bytes:
    """The file with a directory by which each sample is a pixel, and none is turned or made of differences."""
    directory = directory_of(data)
    assert directory is not None  # noqa: S101  its header has been read
    order, at, count = directory
    tags, made = tags_in(data, directory), bytearray(data)
    said = {BITS: 16, PHOTOMETRIC: BLACK_IS_ZERO, SAMPLES: 1, PREDICTOR: 1}
    said |= {tag: tags[tag].first * samples for tag in (WIDTH, TILE_WIDTH) if tag in tags}
    for place in range(at, at + 12 * count, 12):
        (tag,) = struct.unpack_from(order + "H", data, place)
        if tag in said:
            struct.pack_into(order + "HHII", made, place, tag, LONG, 1, said[tag])
        elif tag in (ORIENTATION, EXTRA_SAMPLES, SAMPLE_FORMAT):
            struct.pack_into(order + "H", made, place, UNUSED)
    return bytes(made)


def _divided(levels: Levels) -> Levels:
    """Samples that were multiplied by their alpha, the last one, as they were before."""
    alpha = levels[..., -1:].astype(np.uint32)
    colours = (levels[..., :-1] * np.uint32(MOST) + alpha // 2) // np.maximum(alpha, 1)
    return np.dstack([np.minimum(colours, MOST).astype(np.uint16), levels[..., -1]])
