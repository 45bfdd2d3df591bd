"""Decodes PNG and TIFF of 16 bits with all their bits.

Pillow reads one channel of 16 bits whole, and of more only the upper bytes of each. The lower ones are read in a second
pass, and two channels as if they were four of 8 bits, which lie in a file in the same way.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from penstock.lazy_import import lazy_import
from penstock.pixels.colours import form_of, read_as, signal_in, take_profile
from penstock.pixels.colours.deep import deep_in_srgb
from penstock.pixels.headers.metadata import code_points_of, without_metadata
from penstock.pixels.picture import Levels
from penstock.pixels.pngs import WholePng
from penstock.pixels.tiffs import deep_levels, is_deep_tiff, open_tiff
from penstock.pixels.turning import orientation_of

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

BITS_AT, TYPE_AT, CHECKSUM_AT = 24, 25, 29
"""Places in a PNG: its first chunk is its header."""

GREY_WITH_ALPHA = 4

LOWER = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
"""The form of Pillow that reads upper bytes, and the one that, though made for little-endian samples, the lower."""

TURNS: dict[int, Callable[[Levels], Levels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
"""What makes an image upright, by its orientation in EXIF."""


def is_deep(data: bytes, form: str) -> bool:
    """Whether the samples of this file have 16 bits that can be read."""
    if form == "tiff":
        return is_deep_tiff(data)
    return form == "png" and data[BITS_AT : BITS_AT + 1] == b"\x10"


def deep_parts(
    data: bytes, form: str, *, keeps_colours: bool = False
) -> tuple[Levels, Levels | None, bool, bytes | None]:
    """The fields of a Picture, in uint16, of a file that `is_deep`. Colours become sRGB unless they are kept. Raises
    what Pillow raises."""
    image, levels = _png(data) if form == "png" else (open_tiff(data), deep_levels(data))
    levels = _upright(levels, image)
    alpha = _alpha(levels, image.info.get("transparency"))
    colours = levels[..., 0] if levels.shape[2] < 3 else levels[..., :3]
    is_grey = colours.ndim == 2
    meaning = Image.new("L" if is_grey else "RGB", (1, 1))  # greys with an alpha are colours for Pillow
    meaning.info = image.info
    profile = take_profile(meaning) if keeps_colours else None
    colours = deep_in_srgb(colours, image.info.get("icc_profile"), signal_in(image))
    return np.repeat(colours[..., None], 3, axis=2) if is_grey else colours, alpha, is_grey, profile


def _png(data: bytes) -> tuple[Image.Image, Levels]:
    """The image, for what it says, and its samples."""
    data = without_metadata(data)
    image = WholePng(data)
    levels = _levels(image, data)
    image.info["cicp"] = code_points_of(data)
    return image, levels


def _upright(levels: Levels, image: Image.Image) -> Levels:
    turn = TURNS.get(orientation_of(image))
    return levels if turn is None else turn(levels)


def _levels(image: Image.Image, data: bytes) -> Levels:
    """The samples, (height, width, channels)."""
    if data[TYPE_AT] == GREY_WITH_ALPHA:
        pairs = np.asarray(WholePng(_as_four_bytes(data)))
        return _joined(pairs[..., ::2], pairs[..., 1::2])
    form = form_of(image)
    if form not in LOWER:
        return np.asarray(image).astype(np.uint16)[..., None]
    return _joined(np.asarray(image), np.asarray(read_as(data, LOWER[form])))


def _joined(upper: Levels, lower: Levels) -> Levels:
    joined: Levels = upper.astype(np.uint16) << 8 | lower
    return joined


def _as_four_bytes(data: bytes) -> bytes:
    """The same pixels as RGBA of 8 bits: the upper and the lower byte of the grey, and of the alpha."""
    header = data[12:BITS_AT] + bytes([8, 6]) + data[TYPE_AT + 1 : CHECKSUM_AT]
    return data[:12] + header + zlib.crc32(header).to_bytes(4) + data[CHECKSUM_AT + 4 :]


def _alpha(levels: Levels, key: Any) -> Levels | None:
    channels = levels.shape[2]
    if channels in (2, 4):
        own: Levels = levels[..., -1]
        return own
    if key is None:
        return None
    opaque = (levels != np.array(key, np.uint16)).any(axis=2)
    return np.where(opaque, np.uint16(65_535), np.uint16(0))
