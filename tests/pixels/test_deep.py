"""Sixteen bits: files with so many are read with all of them, and nothing else is slower for that."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from penstock.core.request import OutputOptions
from penstock.pixels.decoding import UNBOUNDED, decode, decode_to
from penstock.pixels.elsewhere import picture_in
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture, PixelForm
from tests.pixels.pngs import png
from tests.pixels.profiles import matrix_profile
from tests.pixels.tiffs import SHORT, UNDEFINED, tiff

DEEP = PixelForm(is_deep=True)
LEVELS = np.arange(2048 * 3, dtype=np.uint16).reshape(32, 64, 3) * 10 + 7
WHITE = 65_535


def deep(data: bytes) -> Picture:
    return decode(data, UNBOUNDED, DEEP)


def profiled(values: NDArray[np.integer], profile: bytes) -> bytes:
    return png(values, 16, {b"iCCP": b"p\0\0" + zlib.compress(profile)})


def encoded(light: NDArray[np.floating]) -> NDArray[np.floating]:
    """The transfer function of sRGB, by IEC 61966-2-1."""
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_bits_of_every_form_are_read(channels: int) -> None:
    values = np.random.default_rng(channels).integers(0, WHITE + 1, (9, 13, channels), np.uint16)

    picture = deep(png(values, 16))

    assert picture.rgb.dtype == np.uint16
    assert picture.grey == (channels < 3)
    assert np.array_equal(picture.rgb, values[..., :1].repeat(3, 2) if channels < 3 else values[..., :3])
    if channels in (2, 4):
        assert picture.alpha is not None
        assert np.array_equal(picture.alpha, values[..., -1])
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_sixteen_bits_is_that_colour_alone(channels: int) -> None:
    values = LEVELS[..., :channels]
    key = values[3, 5]

    picture = deep(png(values, 16, {b"tRNS": struct.pack(f">{channels}H", *key)}))

    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, (values == key).all(axis=2))
    assert set(np.unique(picture.alpha)) == {0, WHITE}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 4])
def test_sixteen_bits_are_turned_upright_as_eight_are(orientation: int, channels: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = np.random.default_rng(8).integers(0, WHITE + 1, (5, 7, channels), np.uint16)
    data = png(values, 16, {b"eXIf": exif.tobytes().removeprefix(b"Exif\0\0")})

    picture, usual = deep(data), decode(data)

    assert picture.rgb.shape == usual.rgb.shape
    assert np.abs(picture.rgb / 257 - usual.rgb).max() <= 1
    if channels == 4:
        assert np.array_equal(np.asarray(picture.alpha) >> 8, usual.alpha)


def test_who_does_not_ask_gets_eight_bits_and_eight_bits_stay_eight() -> None:
    assert decode(png(LEVELS, 16)).rgb.dtype == np.uint8
    assert deep(png(LEVELS >> 8, 8)).rgb.dtype == np.uint8
    assert deep(encode(Picture(np.zeros((4, 4, 3), np.uint8)), OutputOptions(format="jpeg"))).rgb.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_a_child_writes_is_what_is_read_here(channels: int) -> None:
    data = png(np.random.default_rng(1).integers(0, WHITE + 1, (6, 5, channels), np.uint16), 16)
    memory = bytearray(8 * 6 * 5)

    there = picture_in(memory, *decode_to(data, "png", memoryview(memory), DEEP))

    here = deep(data)
    assert np.array_equal(there.rgb, here.rgb)
    assert there.grey == here.grey
    assert (there.alpha is None) == (here.alpha is None)
    if here.alpha is not None:
        assert np.array_equal(there.alpha, here.alpha)


# -- colours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_gradient_with_a_profile_stays_monotone_and_has_all_its_levels(channels: int) -> None:
    ramp = np.linspace(0, WHITE, 4096).astype(np.uint16).reshape(1, -1, 1).repeat(channels, 2)
    if channels == 2:
        ramp[..., 1] = WHITE

    made = deep(profiled(ramp, matrix_profile(1.8, is_grey=channels < 3))).rgb[0].astype(int)

    expected = WHITE * encoded(np.linspace(0, 1, 4096) ** 1.8)
    assert np.abs(made - expected[:, None]).max() <= (4 if channels < 3 else 16)
    assert (np.diff(made, axis=0) >= 0).all()
    assert len(np.unique(made[:, 1])) > 3500


def test_colours_of_a_wide_gamut_are_those_of_the_conversion_with_eight_bits() -> None:
    values = np.random.default_rng(4).integers(0, 256, (24, 24, 3), np.uint16) * 257
    data = profiled(values, matrix_profile(2.2, primaries="P3"))

    assert np.abs(deep(data).rgb / 257 - decode(data).rgb).max() <= 1.5


def test_a_profile_of_srgb_leaves_the_levels_within_a_thousandth() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    made = deep(profiled(LEVELS, profile)).rgb

    assert np.abs(made.astype(int) - LEVELS).max() <= 66
    assert len(np.unique(made)) > 0.95 * LEVELS.size


@pytest.mark.parametrize(
    "chunks",
    [{b"gAMA": struct.pack(">I", 100_000)}, {b"cICP": bytes([12, 13, 0, 1])}, {b"cICP": bytes([9, 16, 0, 1])}],
    ids=["linear light", "P3", "high dynamic range"],
)
def test_what_a_png_says_of_sixteen_bits_is_what_it_says_of_eight(chunks: dict[bytes, bytes]) -> None:
    data = png(LEVELS // 257 * 257, 16, chunks)

    made = deep(data).rgb

    assert np.abs(made / 257 - decode(data).rgb).max() <= 1.5
    assert len(np.unique(deep(png(LEVELS, 16, chunks)).rgb)) > 1000


@pytest.mark.parametrize("broken", [b"", b"\0" * 200, b"RGB XYZ " * 40, matrix_profile(2.2)[:200]])
def test_a_profile_that_cannot_be_read_is_none(broken: bytes) -> None:
    assert np.array_equal(deep(profiled(LEVELS, broken)).rgb, LEVELS)


def test_a_profile_with_tables_of_colours_is_applied_with_eight_bits() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()

    assert np.array_equal(deep(profiled(LEVELS, lab)).rgb, LEVELS), "it is for no RGB"


TIFF_FORMS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "big-endian": {"order": ">"},
    "differences": {"is_packed": True},
    "big-endian differences": {"order": ">", "is_packed": True},
    "tiles": {"tile": 16},
    "tiles of differences": {"tile": 16, "is_packed": True},
}


@pytest.mark.parametrize("form", TIFF_FORMS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_all_bits_of_a_tiff_are_read(channels: int, form: str) -> None:
    values = np.random.default_rng(channels).integers(0, WHITE + 1, (21, 37, channels), np.uint16)
    further = {338: (SHORT, struct.pack(TIFF_FORMS[form].get("order", "<") + "H", 2))} if channels == 4 else {}
    data = tiff(values, further, **TIFF_FORMS[form])

    picture, of_8_bits = deep(data), decode(data)

    assert picture.grey == (channels == 1)
    assert np.array_equal(picture.rgb, values.repeat(3, 2) if channels == 1 else values[..., :3])
    assert (picture.alpha is not None) == (channels == 4)
    assert picture.alpha is None or np.array_equal(picture.alpha, values[..., 3])
    assert np.abs(of_8_bits.rgb - picture.rgb / 257).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bits_of_a_tiff_are_turned_and_its_profile_is_applied(orientation: int) -> None:
    profile = matrix_profile(1.8, primaries="P3")
    stored = png(LEVELS, 16, {b"iCCP": b"p\0\0" + zlib.compress(profile), b"eXIf": exif_of(orientation)})
    tags = {274: (SHORT, struct.pack("<H", orientation)), 34675: (UNDEFINED, profile)}

    there, here = deep(tiff(LEVELS, tags, is_packed=True)), deep(stored)

    assert np.array_equal(there.rgb, here.rgb)
    assert set(there.notes) == set(here.notes) - {"metadata_stripped"}


def test_a_negative_and_an_alpha_that_was_multiplied_are_read_as_they_are_seen() -> None:
    random = np.random.default_rng(3)
    alpha, colours = random.integers(1, 65_536, (6, 8, 1), np.uint16), random.integers(0, 65_536, (6, 8, 3), np.uint16)
    multiplied = (colours.astype(np.uint64) * alpha // WHITE).astype(np.uint16)

    negative = deep(tiff(colours[..., :1], photometric=0))
    picture = deep(tiff(np.dstack([multiplied, alpha]), {338: (SHORT, struct.pack("<H", 1))}))

    assert np.array_equal(negative.rgb[..., 0], WHITE - colours[..., 0])
    apart = np.abs(picture.rgb.astype(int) - colours) * (alpha / WHITE)
    assert apart.max() <= 1.5


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")
