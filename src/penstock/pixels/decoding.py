"""Decodes images: many formats outside, one plain form of pixels inside.

Inputs are untrusted: no other format is ever tried, `headers` has held what the file says to its bounds before anything
is decoded, and whatever a decoder raises becomes an error with a code.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace
from PIL import Image

from penstock.errors import ImageDecodeFailed
from penstock.lazy_import import lazy_import
from penstock.pixels.colours import parts_of, profile_note, take_profile
from penstock.pixels.deep import deep_parts, is_deep
from penstock.pixels.elsewhere import DECODER
from penstock.pixels.headers import ImageBounds, ImageHeader, probe
from penstock.pixels.headers.header import broken, truncated, without_hole
from penstock.pixels.headers.metadata import without_metadata
from penstock.pixels.jpegs import is_plain, jpeg_pixels, loaded
from penstock.pixels.notes import Note, bits_of, in_order, note
from penstock.pixels.openers import OPENERS
from penstock.pixels.picture import USUAL, Levels, Picture, PixelForm
from penstock.pixels.pillow import write_image
from penstock.pixels.pngs import completed
from penstock.pixels.turning import UPRIGHT, orientation_of, upright

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

UNBOUNDED = ImageBounds()
"""For images of our own: any size, but not any number of scans and chunks."""

Parts: TypeAlias = "tuple[Image.Image | Levels, Levels | None, bool, bytes | None]"
"""The fields of a Picture, but for its notes."""

WrittenParts: TypeAlias = tuple[int, int, bool, bool, int, bool, int]
"""What `decode_to` returns."""


TAKEN_IN_PART = frozenset({"png", "jpeg"})
"""Of the other formats the decoders give all of the pixels, or none."""


def decode(data: bytes, bounds: ImageBounds = UNBOUNDED, wanted: PixelForm = USUAL) -> Picture:
    """Decode an image: the EXIF orientation is applied, palettes and CMYK are expanded, 16 bits are reduced to 8, and
    what a colour profile, or a PNG in cICP or gAMA, says of the values is converted to sRGB, unless pixels of another
    form are `wanted`. No metadata survives. Its `notes` tell which of these were done. Raises what `headers.probe`
    raises."""
    header = probe(data, bounds)
    picture = _whole_or_part(data, header, wanted) if bounds.takes_truncated else _decoded(data, header, wanted)
    picture = replace(picture, notes=in_order((*picture.notes, *_notes_of_header(header, picture))))
    note(*picture.notes)
    return picture


def _whole_or_part(data: bytes, header: ImageHeader, wanted: PixelForm) -> Picture:
    try:
        return _decoded(data, header, replace(wanted, takes_truncated=True))
    except ImageDecodeFailed as error:
        if header.format in TAKEN_IN_PART:
            raise
        raise ImageDecodeFailed(f"{error.detail}; only of a JPEG or PNG can a part be taken") from error


def _decoded(data: bytes, header: ImageHeader, wanted: PixelForm) -> Picture:
    decoder = DECODER.get()
    return decode_here(data, header.format, wanted) if decoder is None else decoder(data, header, wanted)


def decode_here(data: bytes, form: str, wanted: PixelForm = USUAL) -> Picture:
    """Decode an image of this format in this thread. Raises ImageDecodeFailed."""
    with _opened(data, form, wanted) as file:
        rgb, alpha, is_grey, profile = _parts_of(file, wanted)
        return Picture(np.asarray(rgb), alpha, is_grey, file.notes(profile), profile)


def decode_to(data: bytes, form: str, into: memoryview, wanted: PixelForm = USUAL) -> WrittenParts:
    """Decode an image into a buffer of bytes: `rgb`, then `alpha` where there is one, and behind the room of both the
    profile where there is one.

    Returns width, height, whether there is an alpha, `grey`, `notes` as bits, whether the samples have 16 bits, and the
    length of the profile. Raises ImageDecodeFailed.
    """
    with _opened(data, form, wanted) as file:
        rgb, alpha, is_grey, profile = _parts_of(file, wanted, into)
        width, height = rgb.size if isinstance(rgb, Image.Image) else rgb.shape[1::-1]
        if isinstance(rgb, Image.Image):
            write_image(rgb, into)
        elif not np.may_share_memory(rgb, into):
            into[: rgb.nbytes] = _bytes_of(rgb)
        sample = 1 if isinstance(rgb, Image.Image) else rgb.itemsize
        if alpha is not None:
            into[3 * sample * alpha.size : 4 * sample * alpha.size] = _bytes_of(alpha)
        behind = 4 * sample * width * height
        into[behind : behind + len(profile or b"")] = profile or b""
        return width, height, alpha is not None, is_grey, bits_of(file.notes(profile)), sample == 2, len(profile or b"")


class _OpenFile:
    """A file, and its image, which is not loaded. `refuse_missing` is called where pixels turn out to be missing."""

    def __init__(self, data: bytes, form: str, *, takes_truncated: bool) -> None:
        self.data = data
        self.form = form
        self._takes_truncated = takes_truncated
        self._is_truncated = False
        if takes_truncated and form == "png":
            self.data = completed(without_metadata(without_hole(data)), self.refuse_missing)
        self.image = OPENERS[form](self.data)
        self._notes = _notes_of(self.image)

    def refuse_missing(self) -> None:
        """Raise ImageDecodeFailed, unless a part of the image is taken: then it is noted."""
        if not self._takes_truncated:
            raise truncated()
        self._is_truncated = True

    def notes(self, profile: bytes | None) -> tuple[Note, ...]:
        """What was done to it; a profile that is kept was not converted."""
        notes = self._notes if profile is None else tuple(one for one in self._notes if one != "profile_converted")
        return (*notes, "truncated") if self._is_truncated else notes


@contextmanager
def _opened(data: bytes, form: str, wanted: PixelForm) -> Iterator[_OpenFile]:
    """An open file; what goes wrong inside of the block becomes ImageDecodeFailed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged EXIF block only warns, and is dropped anyway
            file = _OpenFile(data, form, takes_truncated=wanted.takes_truncated)
            with file.image:
                yield file
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
    if header.has_icc and picture.profile is None and "profile_converted" not in picture.notes:
        yield "profile_ignored"
    if header.frames > 1:
        yield "first_frame"
    if header.is_partial:
        yield "truncated"
    if header.has_metadata:
        yield "metadata_stripped"


def _parts_of(file: _OpenFile, wanted: PixelForm, into: memoryview | None = None) -> Parts:
    """The fields of a Picture. `rgb` may be in `into` already."""
    if wanted.is_deep and is_deep(file.data, file.form):
        return deep_parts(file.data, file.form, keeps_colours=wanted.keeps_colours)
    image = file.image
    if file.form == "jpeg":
        if is_plain(image):
            return jpeg_pixels(file.data, image.mode, file.refuse_missing, into), None, False, None
        image = loaded(image, file.data, file.refuse_missing)
    image = upright(image)
    profile = take_profile(image) if wanted.keeps_colours else None
    return *parts_of(image, profile), profile


def _bytes_of(pixels: Levels) -> memoryview:
    return np.ascontiguousarray(pixels).data.cast("B")
