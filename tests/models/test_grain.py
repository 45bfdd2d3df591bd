"""`denoise`: what the network took for noise comes back, as much of it as a client asks for."""

import io
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from penstock.core.request import OutputOptions
from penstock.core.sizes import TileSides
from penstock.models.grain import with_grain
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.tiling import AnyShape, TiledImage
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu

Pixels = NDArray[np.uint8]

LARGE_PX = 384


@pytest.fixture(scope="module")
def runner() -> SuperResolution:
    made = SuperResolution(LimitSettings())
    made.load_model(cpu(2))
    return made


@pytest.fixture(scope="module")
def originals(photos: Mapping[str, Image.Image]) -> list[Image.Image]:
    return [photos[name].crop((80, 0, 80 + LARGE_PX, 280)) for name in ("chelsea.png", "coffee.png")]


def reduced(image: Image.Image) -> Pixels:
    return np.asarray(image.resize((image.width // 4, image.height // 4), Image.Resampling.BICUBIC))


def noisy(image: Pixels, *, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.rint(image + noise).clip(0, 255).astype(np.uint8)


def enlarged(runner: SuperResolution, image: Pixels, denoise: float) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    params = SuperresParams(denoise=denoise)
    work = runner.prepare(file.getvalue(), params)
    for index in range(work.count):
        (output,) = runner.infer(work.tile(index)[None], work)
        work.accept(index, output)
    product = runner.postprocess(work, params, OutputOptions(format="png"))
    assert isinstance(product.file, bytes)
    return np.asarray(Image.open(io.BytesIO(product.file)))


def likeness(image: Pixels, original: Image.Image) -> float:
    from skimage.metrics import structural_similarity  # it loads SciPy: see test_alpha.py

    wanted = np.asarray(original)[: len(image)]
    return float(structural_similarity(image, wanted, channel_axis=2, gaussian_weights=True, sigma=1.5))


def off(image: Pixels, source: Pixels) -> float:
    """How far an enlarged image, reduced again, is from its source, in levels."""
    height, width = source.shape[:2]
    return float(np.abs(image.reshape(height, 4, width, 4, 3).mean((1, 3)) - source).mean())


def test_a_photo_without_noise_is_nearer_to_the_original_with_half_of_it(
    runner: SuperResolution, originals: list[Image.Image]
) -> None:
    gains = [
        likeness(enlarged(runner, reduced(one), 0.5), one) - likeness(enlarged(runner, reduced(one), 1), one)
        for one in originals
    ]

    assert min(gains) > 0.005


def test_noise_comes_back_with_it(runner: SuperResolution, originals: list[Image.Image]) -> None:
    """So that a noisy photo is farther from the original with all of its grain."""
    source = noisy(reduced(originals[1]), sigma=10)
    none, half, all_of_it = (enlarged(runner, source, denoise) for denoise in (1, 0.5, 0))

    assert off(none, source) > off(half, source) > off(all_of_it, source)
    assert likeness(none, originals[1]) > likeness(half, originals[1]) > likeness(all_of_it, originals[1])


def test_without_a_word_nothing_is_added(runner: SuperResolution, originals: list[Image.Image]) -> None:
    work = runner.prepare(png(reduced(originals[0])), SuperresParams())

    assert isinstance(work, TiledImage)
    assert work.finish is None


def png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_image_that_lacks_nothing_stays_as_it_is(dtype: type[np.unsignedinteger], scale: int) -> None:
    source = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (9, 7, 3), dtype, endpoint=True)
    same = source.repeat(scale, axis=0).repeat(scale, axis=1)

    np.testing.assert_array_equal(with_grain(source, same, 1.0), same)


def test_what_it_lacks_everywhere_is_added_everywhere() -> None:
    source, grey = np.full((6, 5, 3), 140, np.uint8), np.full((24, 20, 3), 100, np.uint8)

    assert set(with_grain(source, grey, 0.5).ravel()) == {120}
    assert set(with_grain(source, grey, 1.0).ravel()) == {140}
    assert set(with_grain(source - 140, grey, 1.0).ravel()) == {0}


def test_grain_is_interpolated_as_pillow_does(originals: list[Image.Image]) -> None:
    """But for its rounding: Pillow's bicubic kernel has the same a = -0.5."""
    source = reduced(originals[0])
    blank = np.zeros((source.shape[0] * 4, source.shape[1] * 4, 3), np.uint8)

    ours = with_grain(source, blank, 1.0)

    theirs = np.asarray(Image.fromarray(source).resize(blank.shape[1::-1], Image.Resampling.BICUBIC))
    inner = np.abs(ours.astype(int) - theirs)[8:-8, 8:-8]
    assert inner.max() <= 1


def test_tiles_show_no_seam_of_it_and_smaller_tiles_have_it_too(originals: list[Image.Image]) -> None:
    source = reduced(originals[0])

    def joined(longest: int, *, is_split: bool = False) -> Pixels:
        work: TiledImage | None = TiledImage(
            source, AnyShape(TileSides(longest=longest, overlap_px=4)), scale=4, lane="", context=None
        )
        assert work is not None
        work.finish = lambda tile, pixels: with_grain(tile, pixels, 1.0)
        if is_split:
            work = work.split_smaller(3 * 40 * 40)
        assert work is not None
        for index in range(work.count):
            smooth = work.tile(index) // 2
            work.accept(index, (smooth.repeat(4, axis=0).repeat(4, axis=1), 0.0))
        return np.asarray(Image.open(io.BytesIO(work.canvas.encode(OutputOptions(format="png")))))

    whole = joined(384)

    np.testing.assert_array_equal(joined(40), whole)
    np.testing.assert_array_equal(joined(384, is_split=True), whole)
