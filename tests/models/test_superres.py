"""superres-x4 computes what its ncnn originals compute, and enlarges photos better than bicubic does."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Run = Callable[[Array], list[Array]]
Photos = Mapping[str, Image.Image]
Pairs = list[tuple[Image.Image, Image.Image]]  # large, and the same reduced

GENERAL = "superres-x4.general.onnx"
CLEAN = "superres-x4.clean.onnx"
BEST = "superres-x4.best.onnx"
SCALE = 4
LARGE_PX = 512  # of the photo that is reduced to LARGE_PX / SCALE and has to be won back
SHAVE_PX = 4  # as is usual: the outermost pixels lack neighbours


@pytest.mark.registry
@pytest.mark.parametrize("file", [GENERAL, CLEAN, pytest.param(BEST, marks=pytest.mark.at_length)])
def test_it_computes_what_ncnn_computes(
    file: str,
    shipped: Callable[[str], Run],
    photos: Photos,
    original: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    tile = batch(photos["chelsea.png"].crop((140, 80, 268, 176)))

    upscaled = shipped(file)(tile)[0]
    reference = run_ncnn(original(file), tile[0], tmp_path)

    assert upscaled.shape == (1, 3, 4 * 96, 4 * 128)
    assert np.abs(upscaled[0] - reference.clip(0, 1)).max() <= 1e-5


@pytest.mark.parametrize("file", [GENERAL, CLEAN])
def test_an_image_comes_out_the_same_alone_and_in_a_batch(
    file: str, shipped: Callable[[str], Run], photos: Photos
) -> None:
    tiles = np.concatenate([batch(photo.crop((100, 50, 164, 98))) for photo in photos.values()])

    together = shipped(file)(tiles)[0]
    alone = np.concatenate([shipped(file)(tile[None])[0] for tile in tiles])

    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("file", [GENERAL, CLEAN, BEST])
def test_a_single_pixel_can_be_enlarged(file: str, shipped: Callable[[str], Run]) -> None:
    (upscaled,) = shipped(file)(np.full((1, 3, 1, 1), 0.5, np.float32))

    assert upscaled.shape == (1, 3, 4, 4)
    assert ((upscaled >= 0) & (upscaled <= 1)).all()


def test_tiles_that_overlap_as_the_manifest_says_leave_no_seam(
    enlarging: dict[str, Any], shipped: Callable[[str], Run], photos: Photos
) -> None:
    run = shipped(enlarging["file"])
    image = batch(photos["coffee.png"].crop((150, 80, 310, 144)))
    seam, overlap = 80, enlarging["overlap_px"]

    whole = run(image)[0]
    left = run(image[..., : seam + overlap])[0][..., : SCALE * seam]
    right = run(image[..., seam - overlap :])[0][..., SCALE * overlap :]

    levels = 255 * np.abs(np.concatenate([left, right], axis=3) - whole)
    assert levels.max() < (5 if enlarging["file"] == BEST else 0.1)
    assert (levels > 1.5).mean() < 0.005


def test_general_has_more_of_the_structure_of_real_photos_than_bicubic(
    shipped: Callable[[str], Run], photos: Photos
) -> None:
    pairs = reduced(photos)

    assert gain(similarity, shipped(GENERAL), pairs) > 0.005


@pytest.mark.at_length
def test_general_gains_on_bicubic_where_the_photo_was_a_jpeg(shipped: Callable[[str], Run], photos: Photos) -> None:
    pairs = [(large, as_jpeg(small, quality=75)) for large, small in reduced(photos)]

    assert gain(similarity, shipped(GENERAL), pairs) > 0.01


@pytest.mark.at_length
def test_clean_is_nearer_to_real_photos_than_bicubic_by_more_than_a_decibel(
    shipped: Callable[[str], Run], photos: Photos
) -> None:
    pairs = reduced(photos)

    assert gain(decibels, shipped(CLEAN), pairs) > 1


# -- the other implementation -------------------------------------------------------------------------


def run_ncnn(files: dict[str, bytes], image: Array, folder: Path) -> Array:
    """The original weights in the original runtime, in plain fp32."""
    import ncnn  # takes half a second with skimage, in each process that collects the tests

    paths = {name: folder / f"net.{name}" for name in files}
    for name, path in paths.items():
        path.write_bytes(files[name])
    net = ncnn.Net()
    net.opt.num_threads = 2
    net.opt.use_winograd_convolution = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(paths["param"])) == 0
    assert net.load_model(str(paths["bin"])) == 0
    contiguous = np.ascontiguousarray(image)
    # A Mat does not keep its array alive: the clone must be made while `contiguous` still lives.
    source = ncnn.Mat(contiguous).clone()
    extractor = net.create_extractor()
    assert extractor.input("data", source) == 0
    status, result = extractor.extract("output")
    assert status == 0
    return np.array(result)


# -- photos -------------------------------------------------------------------------------------------


def batch(image: Image.Image) -> Array:
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None] / np.float32(255)


def reduced(photos: Photos) -> Pairs:
    """Each photo's middle, large, and the same reduced to a quarter."""
    pairs = []
    for photo in photos.values():
        width, height = (min(side, LARGE_PX) // SCALE * SCALE for side in photo.size)
        left, top = (photo.width - width) // 2, (photo.height - height) // 2
        large = photo.crop((left, top, left + width, top + height))
        pairs.append((large, large.resize((width // SCALE, height // SCALE), Image.Resampling.BICUBIC)))
    return pairs


def as_jpeg(image: Image.Image, *, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def bicubic(small: Image.Image) -> Array:
    return batch(small.resize((SCALE * small.width, SCALE * small.height), Image.Resampling.BICUBIC))


def pixels(upscaled: Array) -> NDArray[np.uint8]:
    """As a viewer gets them: 8 bits, without the border."""
    rounded: NDArray[np.uint8] = np.rint(upscaled[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    return rounded[SHAVE_PX:-SHAVE_PX, SHAVE_PX:-SHAVE_PX]


def gain(measure: Callable[[Image.Image, Array], float], run: Run, pairs: Pairs) -> float:
    """How much better than bicubic the model is by this measure, on average over the photos."""
    return float(
        np.mean([measure(large, run(batch(small))[0]) - measure(large, bicubic(small)) for large, small in pairs])
    )


def similarity(large: Image.Image, upscaled: Array) -> float:
    """SSIM of the brightness."""
    from skimage.color import rgb2ycbcr  # see `run_ncnn`
    from skimage.metrics import structural_similarity

    wanted, got = (rgb2ycbcr(image)[..., 0] for image in (pixels(batch(large)), pixels(upscaled)))
    return float(
        structural_similarity(
            wanted, got, data_range=219, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def decibels(large: Image.Image, upscaled: Array) -> float:
    from skimage.metrics import peak_signal_noise_ratio  # see `run_ncnn`

    return float(peak_signal_noise_ratio(pixels(batch(large)), pixels(upscaled)))
