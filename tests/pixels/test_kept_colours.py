"""Colours that are kept: the values are those of the file, and a profile in the result says what they are."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from penstock.core.device import Device
from penstock.core.request import Format, OutputOptions
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.pixels.decoding import UNBOUNDED, decode
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture, PixelForm
from penstock.settings import LimitSettings
from tests.pixels.pngs import png
from tests.pixels.profiles import matrix_profile

KEPT, DEEP_KEPT = PixelForm(keeps_colours=True), PixelForm(is_deep=True, keeps_colours=True)
P3, GREY = matrix_profile(2.2, primaries="P3"), matrix_profile(1.8, is_grey=True)
SRGB, EXACTLY = ImageCms.createProfile("sRGB"), ImageCms.Flags.NOOPTIMIZE
COLOURS = np.random.default_rng(4).integers(0, 256, (16, 20, 3), np.uint16)


def profiled(profile: bytes) -> dict[bytes, bytes]:
    return {b"iCCP": b"p\0\0" + zlib.compress(profile)}


def kept(data: bytes, wanted: PixelForm = KEPT) -> Picture:
    return decode(data, UNBOUNDED, wanted)


def profile_in(file: bytes) -> bytes | None:
    profile: bytes | None = Image.open(io.BytesIO(file)).info.get("icc_profile")
    return profile


@pytest.mark.parametrize("form", ["webp", "avif"])
def test_a_profile_of_greys_becomes_one_of_colours_where_a_format_has_no_greys(form: Format) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(8, axis=0)
    picture = kept(png(ramp.astype(np.uint16), 8, profiled(GREY)))
    assert picture.profile == GREY

    file = Image.open(io.BytesIO(encode(picture, OutputOptions(format=form, quality=100))))

    profile = file.info["icc_profile"]
    meant = ImageCms.profileToProfile(
        Image.fromarray(ramp), ImageCms.ImageCmsProfile(io.BytesIO(GREY)), SRGB, outputMode="RGB", flags=EXACTLY
    )
    seen = ImageCms.profileToProfile(
        file.convert("RGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB, flags=EXACTLY
    )
    assert profile[16:20] == b"RGB "
    assert np.abs(np.asarray(meant).astype(int) - np.asarray(seen)).max() <= 4


SAYING: dict[str, dict[bytes, bytes]] = {
    "a profile": profiled(P3),
    "P3 in cICP": {b"cICP": bytes([12, 13, 0, 1])},
    "BT.2020 in cICP": {b"cICP": bytes([9, 1, 0, 1])},
    "linear light": {b"gAMA": struct.pack(">I", 100_000)},
    "gamma and primaries": {
        b"gAMA": struct.pack(">I", 45_455),
        b"cHRM": struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000),
    },
}


@pytest.mark.parametrize("says", SAYING)
@pytest.mark.parametrize("bits", [8, 16])
def test_values_stay_and_with_the_profile_they_mean_what_they_did(says: str, bits: int) -> None:
    values = COLOURS if bits == 8 else COLOURS * 257
    data = png(values, bits, SAYING[says])

    picture = kept(data, DEEP_KEPT)

    assert np.array_equal(picture.rgb, values)
    assert picture.profile is not None
    eight_bits = Picture(COLOURS.astype(np.uint8), profile=picture.profile)
    assert np.abs(decode(encode(eight_bits, OutputOptions())).rgb.astype(int) - decode(data).rgb).max() <= 3


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_every_format_carries_the_profile(form: Format) -> None:
    file = encode(kept(png(COLOURS, 8, profiled(P3))), OutputOptions(format=form))

    assert profile_in(file) == P3


@pytest.mark.parametrize("chunks", [profiled(GREY), {b"gAMA": struct.pack(">I", 100_000)}], ids=["profile", "gAMA"])
@pytest.mark.parametrize("channels", [1, 2])
def test_grey_stays_grey_with_its_own_meaning(chunks: dict[bytes, bytes], channels: int) -> None:
    data = png(COLOURS[..., :channels], 8, chunks)

    picture = kept(data)
    made = decode(encode(picture, OutputOptions()))

    assert picture.grey
    assert np.array_equal(picture.rgb[..., 0], COLOURS[..., 0])
    assert made.grey
    assert np.abs(made.rgb.astype(int) - decode(data).rgb).max() <= 3


@pytest.mark.parametrize(
    ("values", "chunks"),
    [
        (COLOURS, {}),
        (COLOURS, {b"cICP": bytes([9, 16, 0, 1])}),
        (COLOURS, profiled(GREY)),
        (COLOURS, profiled(b"no profile")),
        (COLOURS[..., :1], profiled(P3)),
    ],
    ids=["nothing", "high dynamic range", "a profile of greys", "no profile", "grey with a profile of colours"],
)
@pytest.mark.parametrize("is_deep", [False, True])
def test_what_no_profile_can_say_becomes_srgb_as_ever(
    values: NDArray[np.uint16], chunks: dict[bytes, bytes], is_deep: bool
) -> None:
    data = png(values * 257, 16, chunks)

    picture = kept(data, PixelForm(is_deep=is_deep, keeps_colours=True))

    assert picture.profile is None
    assert np.array_equal(picture.rgb, decode(data, UNBOUNDED, PixelForm(is_deep=is_deep)).rgb)


def test_inks_become_colours_whatever_is_asked_for() -> None:
    out = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(out, "JPEG")

    assert np.array_equal(kept(out.getvalue()).rgb, decode(out.getvalue()).rgb)
    assert kept(out.getvalue()).profile is None


@pytest.mark.parametrize("output", [OutputOptions(color="keep"), OutputOptions(color="keep", bits=16)], ids=["8", "16"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_an_enlarged_picture_of_a_wide_gamut_has_its_profile_and_its_values(form: str, output: OutputOptions) -> None:
    green, source = (30, 220, 60), io.BytesIO()
    Image.new("RGB", (16, 12), green).save(source, form, icc_profile=P3)
    runner, params = SuperResolution(LimitSettings()), SuperresParams(variant="clean")
    runner.load_model(Device(name="cpu", kind="cpu", threads=2, sides=(64,), any_side_to=384, batches=(1,)))
    work = runner.prepare(source.getvalue(), params, output)
    for index in range(work.count):
        work.accept(index, runner.infer(work.tile(index)[None], work)[0])

    file = runner.postprocess(work, params, output).file

    assert file is not None
    assert profile_in(file) == P3
    assert np.abs(kept(file).rgb.mean(axis=(0, 1)) - green).max() <= 6
    assert np.abs(decode(file).rgb.mean(axis=(0, 1)) - decode(source.getvalue()).rgb.mean(axis=(0, 1))).max() <= 6
