"""Decodes images: many formats outside, one plain form of pixels inside.

Inputs are untrusted: no other format is ever tried, `headers` has held what the file says to its bounds before anything
is decoded, and whatever a decoder raises becomes an error with a code.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from PIL import Image

from penstock.errors import ImageDecodeFailed
from penstock.lazy_import import lazy_import
from penstock.pixels.colours import parts_of, profile_note
from penstock.pixels.headers import ImageBounds, ImageHeader, probe
from penstock.pixels.headers.avif import avif_code_points
from penstock.pixels.headers.header import broken, truncated
from penstock.pixels.jpegs import is_plain, jpeg_pixels, loaded, open_jpeg
from penstock.pixels.notes import Note, bits_of, in_order, note, notes_in
from penstock.pixels.picture import Picture, Pixels
from penstock.pixels.pillow import write_image
from penstock.pixels.pngs import open_png
from penstock.pixels.turning import UPRIGHT, orientation_of, upright

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

UNBOUNDED = ImageBounds()
"""For images of our own: any size, but not any number of scans and chunks."""


def _by_pillow(form: str, data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=(form,))


def _open_avif(data: bytes) -> Image.Image:
    image, code_points = _by_pillow("avif", data), avif_code_points(data, UNBOUNDED)
    if code_points and "icc_profile" not in image.info:
        image.info["cicp"] = code_points
    return image


OPENERS: dict[str, Callable[[bytes], Image.Image]] = {
    "png": open_png,
    "jpeg": open_jpeg,
    "avif": _open_avif,
    **{form: partial(_by_pillow, form) for form in ("webp", "gif", "tiff", "bmp")},
}

DECODER: ContextVar[Callable[[bytes, ImageHeader], Picture] | None] = ContextVar("decoder", default=None)
"""Decodes images in the place of this thread, once their headers have passed. Raises ImageDecodeFailed."""


def decode(data: bytes, bounds: ImageBounds = UNBOUNDED) -> Picture:
    """Decode an image: the EXIF orientation is applied, palettes and CMYK are expanded, 16 bits are reduced to 8, and
    what a colour profile, or a PNG in cICP or gAMA, says of the values is converted to sRGB. No metadata survives. Its
    `notes` tell which of these were done. Raises what `headers.probe` raises."""
    header = probe(data, bounds)
    decoder = DECODER.get()
    picture = decode_here(data, header.format) if decoder is None else decoder(data, header)
    picture = replace(picture, notes=in_order((*picture.notes, *_notes_of_header(header, picture))))
    note(*picture.notes)
    return picture


def decode_here(data: bytes, form: str) -> Picture:
    """Decode an image of this format in this thread. Raises ImageDecodeFailed."""
    with _opened(data, form) as image:
        notes = _notes_of(image)
        rgb, alpha, is_grey = _parts_of(image, data, form)
        return Picture(np.asarray(rgb), alpha, is_grey, notes)


def decode_to(data: bytes, form: str, into: memoryview) -> tuple[int, int, bool, bool, int]:
    """Decode an image into a buffer of bytes: `rgb`, then `alpha` where there is one.

    Returns width, height, whether there is an alpha, `grey`, and `notes` as bits. Raises ImageDecodeFailed.
    """
    with _opened(data, form) as image:
        notes = _notes_of(image)
        rgb, alpha, is_grey = _parts_of(image, data, form, into)
        width, height = rgb.size if isinstance(rgb, Image.Image) else rgb.shape[1::-1]
        if isinstance(rgb, Image.Image):
            write_image(rgb, into)
        elif not np.may_share_memory(rgb, into):
            into[: rgb.size] = _bytes_of(rgb)
        if alpha is not None:
            into[3 * alpha.size : 4 * alpha.size] = _bytes_of(alpha)
        return width, height, alpha is not None, is_grey, bits_of(notes)


def picture_in(pixels: Any, width: int, height: int, has_alpha: bool, is_grey: bool, notes: int) -> Picture:
    """The picture that `decode_to` has written into a buffer. It is not copied: all arrays of the picture are views of
    one, their `base`."""
    size, base = width * height, np.frombuffer(pixels, np.uint8)
    alpha = base[3 * size : 4 * size].reshape(height, width) if has_alpha else None
    return Picture(base[: 3 * size].reshape(height, width, 3), alpha, is_grey, notes_in(notes))


@contextmanager
def _opened(data: bytes, form: str) -> Iterator[Image.Image]:
    """An image that is not loaded; what goes wrong inside of the block becomes ImageDecodeFailed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged EXIF block only warns, and is dropped anyway
            with OPENERS[form](data) as image:
                yield image
    except ImageDecodeFailed:
        raise
    except Exception as error:  # decoders of hostile bytes throw anything
        raise (truncated() if "truncated" in str(error) else broken()) from error


def _notes_of(image: Image.Image) -> tuple[Note, ...]:
    """What is done to an image that is not loaded."""
    profile = profile_note(image)
    done: dict[Note, bool] = {
        "turned": orientation_of(image) != UPRIGHT,
        "first_frame": image.format == "MPO",
    }
    return (*(note for note, is_done in done.items() if is_done), *([profile] if profile else []))


def _notes_of_header(header: ImageHeader, picture: Picture) -> Iterator[Note]:
    """What only the file tells: some of it is left out before it is opened."""
    if header.has_icc and "profile_converted" not in picture.notes:
        yield "profile_ignored"
    if header.frames > 1:
        yield "first_frame"
    if header.has_metadata:
        yield "metadata_stripped"


def _parts_of(
    image: Image.Image, data: bytes, form: str, into: memoryview | None = None
) -> tuple[Image.Image | Pixels, Pixels | None, bool]:
    """The fields of a Picture. `rgb` may be in `into` already."""
    if form == "jpeg":
        if is_plain(image):
            return jpeg_pixels(data, image.mode, into), None, False
        image = loaded(image, data)
    return parts_of(upright(image))


def _bytes_of(pixels: Pixels) -> memoryview:
    return np.ascontiguousarray(pixels).data.cast("B")
