"""The core of Pillow, where its pixels are: what is set for the whole process, and a way out without a copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from PIL import AvifImagePlugin, Image

from penstock.lazy_import import lazy_import
from penstock.pixels.picture import Pixels

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

core: Any = getattr(Image, "core")  # noqa: B009  it is not among the names that the types of Pillow export

ENCODED_BYTES = 2**16
"""As many bytes of pixels are written at a time: they are still in the cache when they are copied."""

BAND_BYTES = 2**20
"""Bytes of the bands in which `bands_of` gives an image."""

# Our own limit is checked on every header before any pixel is decoded; Pillow's is a warning first.
Image.MAX_IMAGE_PIXELS = None

# A process that decodes for others may start no threads, and a worker has as many codecs at work as it has cores.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def keep_memory(most_bytes: int) -> None:
    """From now on keep so many bytes of images that are gone for those that come.

    The kernel clears each page of new memory when it is touched first, which takes longer than writing the pixels of a
    result: a core writes 300 to 400 megapixels a second there, and 1,400 to 1,700 in kept memory.
    """
    core.set_blocks_max(most_bytes // core.get_block_size())


def write_image(image: Image.Image, into: memoryview) -> None:
    """Write the pixels of an RGB image. Other ways out of Pillow make a copy of the whole first."""
    at = 0
    for piece in _pieces(image, ENCODED_BYTES):
        into[at : at + len(piece)] = piece
        at += len(piece)


def bands_of(image: Image.Image) -> Iterator[Pixels]:
    """Yield the rows of an image in mode L, LA, RGB or RGBA, from the top, as (n, width, channels)."""
    for piece in _pieces(image, BAND_BYTES):
        yield np.frombuffer(piece, np.uint8).reshape(-1, image.width, len(image.mode))


def _pieces(image: Image.Image, size: int) -> Iterator[bytes]:
    """Whole rows of about so many bytes, at least one."""
    image.load()
    encoder = core.raw_encoder(image.mode, image.mode, 0, 1)
    encoder.setimage(image.im, (0, 0, *image.size))
    status = 0
    while not status:
        _, status, piece = encoder.encode(max(size, 4 * image.width))
        yield piece
