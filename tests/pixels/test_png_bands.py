"""PNG files that are written row by row."""

import io
import struct
import tracemalloc
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from penstock.core.request import OutputOptions
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode, encoded
from penstock.pixels.picture import Picture
from penstock.pixels.png import deflate
from penstock.pixels.png.stream import PngStream, png_of
from penstock.pixels.resampling import resize, resized_rows
from penstock.pixels.row_canvas import RowCanvas
from tests.pixels.pngs import chunks, unfiltered

PNG = OutputOptions()
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
SIZES = [(1, 1), (1, 300), (300, 1), (67, 129), (3000, 5)]


@pytest.fixture(params=["isal", "zlib"])
def compressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(deflate, "isal_zlib", None)


def samples(height: int, width: int, channels: int, bits: int = 8) -> NDArray[np.unsignedinteger]:
    """Smooth on the left, noise on the right, and flat below, so that several filters are chosen."""
    made = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.arange(1, channels + 1)
    noise = np.random.default_rng(7).integers(0, 2**bits, made.shape)
    made[:, width // 2 :] = noise[:, width // 2 :]
    made[2 * height // 3 :] = 200
    return (made % 2**bits).astype(np.uint16 if bits == 16 else np.uint8)


def written(pixels: NDArray[np.unsignedinteger], rows: int, **options: object) -> bytes:
    height, width, channels = pixels.shape
    stream = PngStream(width, height, channels=channels, bits=8 * pixels.itemsize, **options)
    return png_of((pixels[top : top + rows] for top in range(0, height, rows)), stream)


@pytest.mark.usefixtures("compressor")
@pytest.mark.parametrize("channels", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_pillow_reads_the_same_pixels(channels: int, size: tuple[int, int]) -> None:
    pixels = samples(*size, channels)
    image = Image.open(io.BytesIO(written(pixels, 7)))
    assert image.mode == MODES[channels]
    assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


@pytest.mark.usefixtures("compressor")
@pytest.mark.parametrize("channels", MODES)
def test_all_16_bits_of_a_sample_are_in_the_file(channels: int) -> None:
    pixels = samples(40, 33, channels, bits=16)
    assert (unfiltered(written(pixels, 64)) == pixels).all()


@pytest.mark.parametrize("size", [(150, 40), (90, 4000)])
def test_the_pixels_are_the_same_however_the_rows_come(size: tuple[int, int]) -> None:
    pixels = samples(*size, 3)
    for rows in (1, 5, 64, 65, 1000):
        assert (np.asarray(Image.open(io.BytesIO(written(pixels, rows)))) == pixels).all()


def test_most_of_a_large_file_is_there_before_its_last_rows_are() -> None:
    pixels = samples(2000, 500, 3)
    pixels[:] = np.random.default_rng(3).integers(0, 256, pixels.shape)
    stream = PngStream(500, 2000, channels=3)
    first = stream.write(pixels[:1000])
    assert first.startswith(b"\x89PNG")
    rest = stream.write(pixels[1000:]) + stream.finish()
    assert 0.7 < len(first) / len(rest) < 1.4


def test_other_chunks_stand_between_the_header_and_the_pixels() -> None:
    file = written(samples(20, 30, 3), 20, chunks=[(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))])
    assert [kind for kind, _ in chunks(file)][:3] == [b"IHDR", b"pHYs", b"IDAT"]
    assert Image.open(io.BytesIO(file)).info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_density_is_in_the_file() -> None:
    for picture in (Picture(samples(20, 30, 3)), Picture(samples(20, 30, 3), samples(20, 30, 1)[..., 0])):
        for background in (None, "#123456"):
            image = Image.open(io.BytesIO(encode(picture, OutputOptions(dpi=240, background=background))))
            assert image.info["dpi"] == pytest.approx((240, 240), abs=0.1)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_a_picture_comes_back_as_it_was(grey: bool, has_alpha: bool) -> None:
    rgb, alpha = samples(200, 90, 3), samples(200, 90, 1)[..., 0]
    if grey:
        rgb = rgb[..., :1].repeat(3, axis=2)
    back = decode(encode(Picture(rgb, alpha if has_alpha else None, grey), PNG))
    assert (back.rgb == rgb).all()
    assert back.grey is grey
    assert (back.alpha == alpha).all() if has_alpha else back.alpha is None


@pytest.mark.parametrize("mode", [*MODES.values(), "P", "1"])
def test_an_image_of_pillow_in_any_mode_is_written(mode: str) -> None:
    image = Image.fromarray(samples(70, 50, 3)).convert(mode)
    back = Image.open(io.BytesIO(encoded(image, PNG)))
    if mode in MODES.values():
        assert back.mode == mode
    assert (np.asarray(back.convert("RGB")) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("what", ["flat", "lines"])
def test_a_filter_is_chosen_that_suits_what_is_drawn(what: str) -> None:
    # Lines of noise are best forecast by the row above: each is there 64 times.
    lines = np.random.default_rng(5).integers(0, 256, (4, 500, 3), np.uint8).repeat(64, axis=0)
    pixels = lines if what == "lines" else np.full((256, 500, 3), 30, np.uint8)
    assert len(written(pixels, 256)) < pixels.nbytes / (10 if what == "lines" else 100)


@settings(max_examples=60)
@given(
    width=st.integers(1, 90), height=st.integers(1, 300), order=st.randoms(use_true_random=False),
    rows=st.integers(1, 100), columns=st.integers(1, 60), twice=st.booleans(),
)  # fmt: skip
def test_rows_are_taken_in_order_however_the_parts_come(
    width: int, height: int, order: Random, rows: int, columns: int, twice: bool
) -> None:
    pixels = samples(height, width, 3)
    parts = [(left, top) for top in range(0, height, rows) for left in range(0, width, columns)]
    order.shuffle(parts)
    canvas, taken = RowCanvas(width, height), []
    for left, top in [*parts, *(parts if twice else [])]:
        canvas.put(left, top, pixels[top : top + rows, left : left + columns])
        taken += [band.copy() for band in canvas.take(most_bytes=3 * width * 7)]
    while canvas.taken < canvas.complete:
        taken += [band.copy() for band in canvas.take(most_bytes=2**20)]
    assert (np.concatenate(taken) == pixels).all()


def test_rows_are_not_complete_while_a_part_of_them_is_missing() -> None:
    canvas, part = RowCanvas(30, 100), np.zeros((50, 10, 3), np.uint8)
    for left in (20, 0, 0):
        canvas.put(left, 0, part)
    assert canvas.complete == 0
    canvas.put(10, 0, part[:20])
    assert canvas.complete == 20


def test_rows_that_were_taken_have_no_memory() -> None:
    band = np.zeros((200, 1000, 3), np.uint8)

    def writes_all() -> None:
        canvas = RowCanvas(1000, 20_000)
        for top in range(0, 20_000, 200):
            canvas.put(0, top, band)
            while canvas.taken < canvas.complete:
                assert sum(len(rows) for rows in canvas.take(2**18)) > 0

    tracemalloc.start()
    writes_all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * band.nbytes  # of 60 MB


@pytest.mark.parametrize(
    ("size", "scale"), [((37, 53), 4), ((80, 41), 0.5), ((3, 200), 8), ((90, 90), 3), ((99, 31), 2.5)]
)
def test_an_alpha_is_resampled_in_parts_as_in_one(size: tuple[int, int], scale: float) -> None:
    alpha = np.random.default_rng(9).integers(0, 256, size, np.uint8)
    height, width = (max(1, round(side * scale)) for side in size)
    parts = [resized_rows(alpha, width, height, range(top, min(height, top + 7))) for top in range(0, height, 7)]
    apart = np.abs(np.concatenate(parts).astype(int) - resize(alpha, width, height))
    assert apart.max() <= (
        scale in (3, 2.5)
    )  # in binary these have no end, and a level in a thousand is rounded otherwise
    assert (apart > 0).mean() < 0.001
