"""Small images of the kinds that people send, as files: what the contact sheet is drawn of."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image

from .photos import PHONE, PHOTOS, SCIKIT_IMAGE

SIDE_PX = 104
LIES_ON_ITS_SIDE = 6
"""The orientation that a phone held upright writes (Exif 2.32, tag 0x0112)."""


@dataclass(frozen=True)
class Input:
    """One row of the sheet."""

    title: str
    file: bytes


def inputs(cache: Path) -> list[Input]:
    """Returns the rows; `cache` keeps the packages of the photos."""
    photos = {photo.name: photo for photo in PHOTOS}
    people = square(photos["astronaut"].image(cache), left=112, top=10, side=208)
    foliage = square(photos["china"].image(cache), left=536, top=140, side=SIDE_PX)
    page = square(Image.open(SCIKIT_IMAGE / "page.png"), left=60, top=60, side=SIDE_PX)
    return [
        Input("People: a JPEG of quality 80", written(people, "JPEG", quality=80)),
        Input("Text: a scanned page, PNG", written(page, "PNG")),
        Input("Foliage: as the camera saved it", written(foliage, "PNG")),
        Input("A logo with transparency, PNG", written(logo(), "PNG")),
        Input("A phone's photo: on its side, in Display P3, a JPEG of quality 50", phone()),
    ]


def square(image: Image.Image, *, left: int, top: int, side: int) -> Image.Image:
    """Returns a part of an image in SIDE_PX."""
    part = image.crop((left, top, left + side, top + side))
    return part if side == SIDE_PX else part.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)


def logo() -> Image.Image:
    """Returns the middle of matplotlib's, where a letter joins the disc."""
    whole = Image.open(Path(matplotlib.get_data_path(), "sample_data", "logo2.png")).convert("RGBA")
    return square(whole, left=255, top=0, side=130)


def phone() -> bytes:
    """Returns a part of a photo as a phone would send it small: its pixels lie on their side as in the original file,
    and its colours are those of the profile in it."""
    original = Image.open(io.BytesIO(PHONE.read_bytes()))
    exif = Image.Exif()
    exif[0x0112] = LIES_ON_ITS_SIDE
    part = square(original, left=190, top=20, side=4 * SIDE_PX)
    return written(part, "JPEG", quality=50, icc_profile=original.info["icc_profile"], exif=exif)


def written(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
