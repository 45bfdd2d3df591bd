"""Faults that real images have shown, each with its file and what is right; docs/explanation/images.md lists them."""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from penstock.api.replicate.versions import params_in
from penstock.core.output import OutputOptions
from penstock.core.task import Priority
from penstock.errors import ImageAnimated, ImageDecodeFailed, ImageTooLarge, InvalidRequest, UnsupportedImageFormat
from penstock.intake.inline import bytes_of, refuse_bare_base64
from penstock.intake.requests import OutputRequest
from penstock.models.base import Work
from penstock.models.scoring import ImageScoring, ScoringParams
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.tiling import Ladder, TiledImage
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode
from penstock.pixels.filling import filled
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import PixelForm
from penstock.settings import LimitSettings
from penstock.worker.batcher.backlog import Backlog
from penstock.worker.batcher.device_work import DeviceWork
from penstock.worker.devices import cpu
from tests.pixels.pngs import chunk, png, unfiltered
from tests.pixels.shown import read
from tests.support.drive import scan_bomb
from tests.support.published import models_of
from tests.support.repeating_superres import RepeatingSuperResolution

BOUNDS = ImageBounds.of(LimitSettings())
RED = (220, 40, 40)


def given(name: str) -> bytes:
    return (Path(__file__).parent / "inputs" / name).read_bytes()


def raw(name: str) -> np.ndarray:
    """The values as they are stored."""
    return np.asarray(Image.open(io.BytesIO(given(name)))).astype(int)


def upscaler() -> RepeatingSuperResolution:
    runner = RepeatingSuperResolution(LimitSettings())
    runner.load_model(cpu(1))
    return runner


def test_p1_a_jpeg_of_six_hundred_more_scans_is_refused_by_its_header() -> None:
    bomb = scan_bomb(600)
    assert len(bomb) < 200_000

    with pytest.raises(ImageTooLarge, match="more than 100 scans"):
        probe(bomb, BOUNDS)


def test_p2_a_photo_with_a_preview_behind_it_is_a_jpeg_and_an_animation_is_named_as_one() -> None:
    picture = decode(given("mpo-preview.jpg"), BOUNDS)
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])

    assert picture.rgb.shape == (64, 96, 3)
    assert np.array_equal(picture.rgb, raw("mpo-preview.jpg"))
    with pytest.raises(ImageAnimated):
        probe(out.getvalue(), BOUNDS)


def test_p3_text_that_inflates_to_two_megabytes_does_not_decide() -> None:
    picture = decode(given("png-ztxt-2mb.png"), BOUNDS)

    with_large_profile = png(picture.rgb.astype(np.uint16), 8, {b"iCCP": b"p\0\0" + zlib.compress(bytes(2_000_000))})
    again = decode(with_large_profile, BOUNDS)

    assert picture.notes == ("metadata_stripped",)
    assert np.array_equal(again.rgb, picture.rgb)
    assert again.notes == ("profile_ignored",)


@pytest.mark.parametrize("name", ["grey2-trns.png", "grey16-trns.png"])
def test_p4_a_transparent_grey_is_transparent_at_two_bits_and_at_sixteen(name: str) -> None:
    data = given(name)
    bits, (key,) = data[24], struct.unpack_from(">H", data, data.index(b"tRNS") + 4)
    values = raw(name) if bits == 16 else raw(name) // 85

    picture = decode(data, BOUNDS)

    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.where(values == key, 0, 255))
    assert {0, 255} == set(np.unique(picture.alpha))


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_p5_greys_with_a_profile_are_converted_and_stay_grey(form: str) -> None:
    name = f"grey-g18-icc.{form}"

    picture = decode(given(name), BOUNDS)

    lighter = (picture.rgb[..., 0] - raw(name)).mean()
    assert picture.grey
    assert 10 < lighter < 16
    assert picture.notes == ("profile_converted",)


@pytest.mark.parametrize("name", ["alpha-hidden-black.png", "palette-trns.png"])
def test_p6_what_is_hidden_has_the_colour_of_what_is_seen_beside_it(name: str) -> None:
    picture = decode(given(name), BOUNDS)
    assert picture.alpha is not None
    seen = picture.alpha > 0
    beside = np.asarray(Image.fromarray(seen).filter(ImageFilter.MaxFilter(3))) & ~seen
    assert np.abs(picture.rgb[beside].astype(int) - RED).max() > 100

    around = filled(picture.rgb, picture.alpha)

    assert np.array_equal(around[seen], picture.rgb[seen])
    assert np.abs(around[beside].astype(int) - RED).max() < 25


def test_p7_tiles_have_the_shape_of_the_image_and_a_small_one_is_mirrored_on_all_four_sides() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (45, 33, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")

    on_cpu = upscaler().prepare(out.getvalue(), SuperresParams())
    on_gpu = TiledImage(noise, Ladder(((64, 64),), 16), scale=4, lane="", context=None).tile(0)

    assert (on_cpu.count, on_cpu.shape) == (1, (45, 33, 3))
    assert np.array_equal(on_gpu, np.pad(noise, ((9, 10), (15, 16), (0, 0)), mode="symmetric"))


def test_p8_the_words_of_other_upscalers_are_taken_and_what_cannot_be_done_is_refused_by_name() -> None:
    (superres,) = (model for model in models_of() if model.name == "superres-x4")

    assert params_in(superres, {"scale": 4, "face_enhance": False}) == {"scale": 4}
    with pytest.raises(InvalidRequest, match="leave it out, or give false") as refused:
        params_in(superres, {"scale": 4, "face_enhance": True})
    assert str(refused.value.param).endswith(".face_enhance")


HEADS = ("image/jpg", "application/octet-stream", "image/png;charset=utf-8", "image/png;name=a.png", "")


def test_p9_a_data_uri_that_browsers_take_is_taken() -> None:
    data = given("palette-trns.png")
    text = base64.b64encode(data).decode()
    bodies = (text, text.rstrip("="), text[:40] + "\r\n " + text[40:], base64.urlsafe_b64encode(data).decode())

    for head in HEADS:
        for body in bodies:
            assert bytes_of(f"data:{head};base64,{body}", 1000) == data
    assert bytes_of("data:image/png," + "".join(f"%{byte:02x}" for byte in data), 1000) == data
    with pytest.raises(InvalidRequest, match="this is base64"):
        refuse_bare_base64(text)


def test_p10_what_was_really_decoded_counts() -> None:
    data = given("jpeg-no-eoi.jpg")
    header = struct.pack(">IIBBBBB", 20, 2000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * 61))
    three_rows = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")

    assert decode(data, BOUNDS).notes == ()
    for truncated in (data[: len(data) // 2], data[: len(data) // 2] + b"\xff\xd9", three_rows):
        with pytest.raises(ImageDecodeFailed, match="the image is truncated"):
            decode(truncated, BOUNDS)
        assert decode(truncated, ImageBounds(takes_truncated=True)).notes == ("truncated",)


def test_p11_a_wrong_checksum_of_a_text_is_forgiven_and_one_of_the_pixels_is_not() -> None:
    data = given("png-text-bad-crc.png")
    at = data.index(b"IDAT") + 4

    assert decode(data, BOUNDS).rgb.size
    with pytest.raises(ImageDecodeFailed):
        decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], BOUNDS)


@pytest.mark.parametrize("size", [(2, 9000), (9000, 2), (1, 1), (700, 3)])
def test_p12_what_the_device_will_compute_is_what_is_counted(size: tuple[int, int]) -> None:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "PNG")
    params = SuperresParams()

    work = upscaler().prepare(out.getvalue(), params)

    computed = work.count * work.shape[0] * work.shape[1]
    assert SuperResolution.device_size(*size, params) == max(1, round(computed / 1000))
    assert computed <= 1.3 * 8 * max(8, *size)


def test_p13_inks_without_a_profile_are_not_neon() -> None:
    green = decode(given("cmyk.jpg"), BOUNDS).rgb[..., 1].mean()

    assert 155 < green < 161


def test_p14_sixteen_bits_come_out_where_they_went_in_and_grey_stays_grey() -> None:
    wanted, output = PixelForm(is_deep=True), OutputOptions(bits=16)
    ramp = np.linspace(20_000, 24_000, 600).astype(np.uint16)[None].repeat(2, axis=0)
    greys, colours = png(np.dstack([ramp, ramp]), 16), png(np.dstack([ramp, ramp // 2, ramp]), 16)

    for data, channels in ((greys, 2), (colours, 3)):
        picture = decode(data, BOUNDS, wanted)
        written = unfiltered(encode(picture, output))
        assert written.shape == (2, 600, channels)
        assert np.array_equal(written[..., 0], ramp)
        assert len(np.unique(written[..., 0])) > 256
    assert decode(greys, BOUNDS).grey
    assert read(encode(decode(greys, BOUNDS), OutputOptions()))[0].ndim == 2


@pytest.mark.parametrize(("form", "least"), [("WEBP", 17), ("PNG", 14), ("JPEG", 10)])
def test_p15_what_decoders_take_is_what_a_task_is_expected_to_take(form: str, least: int) -> None:
    out = io.BytesIO()
    Image.new("RGB", (400, 300)).save(out, form)

    needed = ImageScoring(LimitSettings()).memory_needed(out.getvalue(), ScoringParams())

    assert needed >= least * 400 * 300


def test_p16_jpg_is_jpeg_and_an_error_says_what_a_file_is_and_what_is_taken() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)

    assert OutputRequest(format="jpg").options.format == "jpeg"
    with pytest.raises(UnsupportedImageFormat, match=r"image/heic .*send an image as PNG, JPEG, WebP, AVIF, TIFF, GIF"):
        probe(heic, BOUNDS)
    for form in ("AVIF", "GIF", "TIFF", "BMP"):
        out = io.BytesIO()
        Image.new("RGB", (8, 8)).save(out, form)
        assert probe(out.getvalue(), BOUNDS).format == form.lower()


async def test_p17_a_task_of_one_tile_does_not_wait_for_a_hundred_and_two() -> None:
    def job(tiles: int) -> DeviceWork:
        work: Any = Work([np.zeros(1, np.float32)] * tiles)
        return DeviceWork(upscaler(), work, Priority.NORMAL, lambda done, total: None)

    backlog, large, small = Backlog((1,), "test", 20), job(102), job(1)
    backlog.add(large)
    leads = [backlog.choose(())[0].task]
    backlog.add(small)
    leads += [backlog.choose(())[0].task for _ in range(102)]

    assert leads[1] is small
    assert leads.count(large) == 102
