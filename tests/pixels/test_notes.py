"""Notes tell what was done to an image, and nothing that was not."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from penstock.pixels.decoding import decode
from penstock.pixels.headers import ImageBounds
from penstock.pixels.notes import NOTES, OF_DECODING, Note, bits_of, in_order, notes_in
from penstock.settings import LimitSettings
from tests.pixels.pngs import png

COLOURS = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
IMAGE = Image.fromarray(COLOURS)
FIRST_FRAME = ImageBounds.of(LimitSettings(animations="first_frame"))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LINES = PngImagePlugin.PngInfo()
LINES.add_text("Comment", "of somebody")


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def saved(form: str, image: Image.Image = IMAGE, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


CASES: dict[str, tuple[bytes, tuple[Note, ...]]] = {
    **{f"plain {form}": (saved(form), ()) for form in ("PNG", "JPEG", "WEBP")},
    **{
        f"turned {form}": (saved(form, exif=turned(6)), ("turned", "metadata_stripped"))
        for form in ("PNG", "JPEG", "WEBP")
    },
    "upright": (saved("JPEG", exif=turned(1)), ("metadata_stripped",)),
    "an orientation that is none": (saved("JPEG", exif=turned(9)), ("metadata_stripped",)),
    **{
        f"profile in {form}": (saved(form, icc_profile=PROFILE), ("profile_converted",))
        for form in ("PNG", "JPEG", "WEBP")
    },
    "profile that cannot be read": (saved("JPEG", icc_profile=b"none"), ("profile_ignored",)),
    "profile of colours in greys": (saved("PNG", IMAGE.convert("L"), icc_profile=PROFILE), ("profile_ignored",)),
    "profile that is too long": (saved("PNG", icc_profile=bytes(2_000_000)), ("profile_ignored",)),
    "gamma": (png(COLOURS, 8, {b"gAMA": struct.pack(">I", 100_000)}), ("profile_converted",)),
    "gamma of sRGB": (png(COLOURS, 8, {b"gAMA": struct.pack(">I", 45_455)}), ()),
    "text in a PNG": (saved("PNG", pnginfo=LINES), ("metadata_stripped",)),
    "comment in a JPEG": (saved("JPEG", comment=b"of somebody"), ("metadata_stripped",)),
    "XMP in a WebP": (saved("WEBP", xmp=b"<x:xmpmeta/>"), ("metadata_stripped",)),
    "photo with a preview": (saved("MPO", save_all=True, append_images=[IMAGE]), ("first_frame",)),
    "animated PNG": (saved("PNG", save_all=True, append_images=[IMAGE.rotate(180)]), ("first_frame",)),
    "animated WebP": (saved("WEBP", save_all=True, append_images=[IMAGE.rotate(180)]), ("first_frame",)),
    "CMYK without a profile": (saved("JPEG", IMAGE.convert("CMYK")), ()),
}


@pytest.mark.parametrize("name", CASES)
def test_notes_tell_what_was_done(name: str) -> None:
    data, notes = CASES[name]

    assert decode(data, FIRST_FRAME).notes == notes


def test_notes_pass_as_bits_and_unknown_bits_are_no_notes() -> None:
    for place, note in enumerate(OF_DECODING):
        assert bits_of([note]) == 1 << place
    assert notes_in(bits_of(OF_DECODING)) == OF_DECODING
    assert bits_of(OF_DECODING) < 256


def test_a_decoder_cannot_note_what_is_not_of_decoding() -> None:
    assert notes_in(2**32 - 1) == OF_DECODING
    assert {*NOTES} - {*OF_DECODING} == {"recomputed_in_fp32", "below_min_gain"}


def test_notes_are_told_once_in_their_order() -> None:
    assert in_order(["metadata_stripped", "turned", "turned"]) == ("turned", "metadata_stripped")
