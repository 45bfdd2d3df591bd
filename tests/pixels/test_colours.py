"""Colours: what a file says of its values decides what they are in sRGB, and which of them are transparent."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from penstock.pixels.decoding import UNBOUNDED, decode
from penstock.pixels.picture import Picture, PixelForm
from tests.pixels.pngs import png
from tests.pixels.profiles import matrix_profile

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def curve(values: NDArray[np.floating], gamma: float) -> NDArray[np.floating]:
    """What 0..1 of this gamma is in sRGB, 0..255, by the formula of IEC 61966-2-1."""
    light = values**gamma
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def grey_profile(gamma: float) -> bytes:
    """An ICC profile of one channel with this gamma, and no more than a reader needs."""
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, 5) + b"grey\0" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"none\0\0\0\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"kTRC": b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + bytes(2),
    }
    begin = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for kind, data in tags.items():
        table += struct.pack(">4sII", kind, begin + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", begin + len(body), bytes(4), 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "LA", "16 bits"])
def test_a_grey_image_with_a_profile_is_converted_and_stays_grey(form: str, gamma: float) -> None:
    profile = grey_profile(gamma)
    image = Image.fromarray(GREYS)
    if form == "16 bits":
        data = saved(Image.fromarray(GREYS.astype(np.uint16) * 257), "PNG", icc_profile=profile)
    elif form == "LA":
        image.putalpha(200)
        data = saved(image, "PNG", icc_profile=profile)
    else:
        data = saved(image, form, icc_profile=profile, **({"quality": 100} if form == "JPEG" else {}))

    picture = decode(data)

    assert picture.grey
    assert np.abs(picture.rgb[..., 0] - curve(GREYS / 255, gamma)).max() <= (3 if form == "JPEG" else 1.5)
    assert (picture.rgb[..., :1] == picture.rgb).all()


def test_a_profile_of_three_channels_says_nothing_of_a_grey_image() -> None:
    picture = decode(saved(Image.fromarray(GREYS), "PNG", icc_profile=SRGB))

    assert np.array_equal(picture.rgb[..., 0], GREYS)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_has_no_opacity_at_any_depth(bits: int) -> None:
    values = np.arange(64).reshape(8, 8) % 2**bits
    key = 1

    picture = decode(png(values, bits, {b"tRNS": struct.pack(">H", key)}))

    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, values == key)
    assert set(np.unique(picture.alpha)) == {0, 255}


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_of_a_png_is_that_colour_alone(bits: int) -> None:
    """Of 16 bits, neighbours with the same upper bytes stay opaque."""
    step = 257 if bits == 16 else 1
    values = np.full((4, 6, 3), 100 * step, np.uint16)
    values[0, 0] += np.array([1, 0, 0], np.uint16)
    values[1, 2] = 7 * step
    key = (100 * step,) * 3

    picture = decode(png(values, bits, {b"tRNS": struct.pack(">3H", *key)}))

    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, (values == key).all(axis=2))


def test_a_transparent_colour_of_sixteen_bits_is_turned_with_its_image() -> None:
    values = np.arange(24, dtype=np.uint16).reshape(2, 12).repeat(3).reshape(2, 12, 3) * 1000
    turned = Image.Exif()
    turned[0x0112] = 6

    picture = decode(png(values, 16, {b"tRNS": struct.pack(">3H", 3000, 3000, 3000), b"eXIf": turned.tobytes()[6:]}))

    assert picture.rgb.shape == (12, 2, 3)
    assert picture.alpha is not None
    assert np.argwhere(picture.alpha == 0).tolist() == [[3, 1]]


@pytest.mark.parametrize("wanted", [PixelForm(), PixelForm(is_deep=True), PixelForm(keeps_colours=True)])
def test_greys_with_an_alpha_of_sixteen_bits_are_grey(wanted: PixelForm) -> None:
    values = np.random.default_rng(5).integers(0, 65_536, (6, 8, 2), np.uint16)
    profile = matrix_profile(1.8, is_grey=True)

    plain = decode(png(values, 16), UNBOUNDED, wanted)
    converted = decode(png(values, 16, {b"iCCP": b"p\0\0" + zlib.compress(profile)}), UNBOUNDED, wanted)

    white = np.iinfo(plain.rgb.dtype).max
    assert plain.grey
    assert converted.grey
    assert np.abs(plain.rgb[..., 1] / white - values[..., 0] / 65_535).max() < 1.01 / 255
    assert plain.alpha is not None
    assert np.abs(plain.alpha / white - values[..., 1] / 65_535).max() < 1.01 / 255
    if wanted.keeps_colours:
        assert (converted.profile, converted.notes) == (profile, ())
    else:
        assert converted.notes == ("profile_converted",)
        assert converted.rgb.mean() > plain.rgb.mean() + 5 / 255 * white


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF"])
def test_a_palette_of_greys_is_grey(form: str) -> None:
    indices = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) // 8, "P")

    def saved(palette: bytes, **options: object) -> bytes:
        out = io.BytesIO()
        image = indices.copy()
        image.putpalette(palette)
        image.save(out, form, **options)
        return out.getvalue()

    greys = bytes(level for n in range(8) for level in (30 * n,) * 3)
    picture = decode(saved(greys))

    assert picture.grey
    assert np.array_equal(picture.rgb[:, 0, 0], 30 * np.arange(8))
    assert not decode(saved(greys[:-1] + b"\7")).grey
    if form != "TIFF":
        clear = decode(saved(greys, transparency=2))
        assert clear.grey
        assert clear.alpha is not None
        assert (clear.alpha[2] == 0).all()
        assert (clear.alpha[3] == 255).all()
    if form == "PNG":
        tinted = decode(saved(greys, icc_profile=matrix_profile(1.8)))
        assert (tinted.grey, tinted.notes) == (False, ("profile_converted",))


def test_cmyk_without_a_profile_is_what_a_press_prints() -> None:
    """No ink of a press is as bright as a screen's cyan, magenta or green."""
    inks = {"cyan": (255, 0, 0, 0), "magenta": (0, 255, 0, 0), "green": (255, 0, 255, 0), "paper": (0, 0, 0, 0)}

    made = {
        name: decode(saved(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100)).rgb[4, 4] for name, ink in inks.items()
    }

    assert made["paper"].min() >= 250
    assert made["cyan"][0] < 60
    assert 120 <= made["cyan"][1] <= 190
    assert made["magenta"][0] < 240
    assert made["green"][1] < 190


GAMMAS = [(100_000, 1.0), (55_556, 1.8), (40_000, 2.5)]


@pytest.mark.parametrize(("number", "gamma"), GAMMAS)
@pytest.mark.parametrize("is_grey", [True, False], ids=["grey", "colour"])
def test_the_gamma_of_a_png_is_honoured(number: int, gamma: float, is_grey: bool) -> None:
    values = GREYS if is_grey else np.dstack([GREYS, GREYS[::-1], GREYS.T])

    picture = decode(png(values, 8, {b"gAMA": struct.pack(">I", number)}))

    wanted = curve(values / 255, gamma)
    assert np.abs(picture.rgb - (wanted[..., None] if is_grey else wanted)).max() <= 1


@pytest.mark.parametrize(
    "chunks",
    [
        {b"gAMA": struct.pack(">I", 45_455)},
        {b"gAMA": struct.pack(">I", 100_000), b"sRGB": b"\0"},
        {b"gAMA": struct.pack(">I", 0)},
        {b"gAMA": b"\0\1"},
        {b"cHRM": bytes(32)},
        {b"cICP": bytes([1, 13, 0, 1])},
        {b"cICP": bytes([200, 200, 9, 1])},
    ],
    ids=["usual gamma", "sRGB before gamma", "no gamma", "half a gamma", "no colours", "cICP of sRGB", "unknown cICP"],
)
def test_what_says_srgb_or_nothing_changes_no_value(chunks: dict[bytes, bytes]) -> None:
    values = np.dstack([GREYS, GREYS[::-1], GREYS.T])

    assert np.array_equal(decode(png(values, 8, chunks)).rgb, values)


ADOBE_TO_XYZ = [
    [0.5767309, 0.1855540, 0.1881852],
    [0.2973769, 0.6273491, 0.0752741],
    [0.0270343, 0.0706872, 0.9911085],
]
XYZ_TO_SRGB = [
    [3.2404542, -1.5371385, -0.4985314],
    [-0.9692660, 1.8760108, 0.0415560],
    [0.0556434, -0.2040259, 1.0572252],
]
"""As Bruce Lindbloom publishes them."""


def test_primaries_of_a_png_are_honoured() -> None:
    """Adobe RGB (1998) as cHRM and gAMA, with colours that sRGB has too."""
    numbers = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    values = np.array([[[128, 128, 128], [200, 180, 120], [90, 140, 100]]], np.uint8)

    made = decode(png(values, 8, {b"gAMA": struct.pack(">I", 45_470), b"cHRM": struct.pack(">8I", *numbers)})).rgb

    light = (values / 255) ** 2.2 @ np.array(ADOBE_TO_XYZ).T @ np.array(XYZ_TO_SRGB).T
    assert np.abs(made - curve(light, 1.0)).max() <= 3


def decoded(values: list[tuple[int, int, int]], *code_points: int) -> Picture:
    return decode(png(np.array([values], np.uint8), 8, {b"cICP": bytes(code_points)}))


def test_a_wide_gamut_by_code_points_keeps_greys_and_widens_colours() -> None:
    picture = decoded([(128, 128, 128), (200, 100, 100)], 12, 13, 0, 1)

    assert np.abs(picture.rgb[0, 0].astype(int) - 128).max() <= 1
    assert picture.rgb[0, 1, 0] > 205
    assert picture.rgb[0, 1, 1] < 100


def test_a_page_of_high_dynamic_range_is_white() -> None:
    """203 nits are 58 % of a PQ signal, and 75 % of one of HLG (ITU-R BT.2408, table 1)."""
    pq, hlg = round(0.58 * 255), round(0.75 * 255)

    assert decoded([(pq, pq, pq)], 9, 16, 0, 1).rgb.min() >= 250
    assert decoded([(hlg, hlg, hlg)], 9, 18, 0, 1).rgb.min() >= 250
    assert decoded([(0, 0, 0)], 9, 16, 0, 1).rgb.max() == 0


def test_code_points_count_before_a_profile() -> None:
    values = np.dstack([GREYS, GREYS, GREYS])
    info_chunks = {b"cICP": bytes([1, 8, 0, 1]), b"gAMA": struct.pack(">I", 45_455)}

    assert np.abs(decode(png(values, 8, info_chunks)).rgb - curve(values / 255, 1.0)).max() <= 1


def test_narrow_range_is_widened() -> None:
    assert decoded([(16, 16, 16), (235, 235, 235)], 1, 13, 0, 0).rgb[0, :, 0].tolist() == [0, 255]
