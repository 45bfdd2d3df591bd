"""image-scoring-v1 computes what Keras 2.1.6 computed, and tells spoiled photos from good ones."""

import io
from collections.abc import Callable, Mapping

import h5py
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from penstock.models import scoring
from tools.convert import recipes
from tools.convert.graph import Storage

Array = NDArray[np.float32]
Double = NDArray[np.float64]
Run = Callable[[Array], list[Array]]
Photos = Mapping[str, Image.Image]

NIMA = "image-scoring-v1.nima.onnx"
SIDE_PX = 224


@pytest.fixture(scope="session")
def score(shipped: Callable[[str], Run]) -> Callable[[Image.Image], float]:
    return lambda image: float(shipped(NIMA)(batch(nearest(image)))[0][0])


@pytest.fixture(scope="session")
def references(photos: Photos, original: Callable[[str], dict[str, bytes]]) -> Mapping[str, tuple[float, Double]]:
    """Score and distribution of each photo, by the plain numpy MobileNet below."""
    with h5py.File(io.BytesIO(original(NIMA)["hdf5"])) as file:
        distributions = {name: keras_mobilenet(file, nearest(image)) for name, image in photos.items()}
    return {name: (float(p @ np.arange(1, 11)), p) for name, p in distributions.items()}


@pytest.mark.at_length
@pytest.mark.registry
def test_the_graph_computes_what_plain_numpy_computes_from_the_keras_weights(
    load: Callable[[bytes], Run],
    original: Callable[[str], dict[str, bytes]],
    photos: Photos,
    references: Mapping[str, tuple[float, Double]],
) -> None:
    recipe = recipes.RECIPES[NIMA]
    run = load(recipe.convert(original(NIMA), storage=Storage.FP32, about=""))

    for name, (expected_score, expected_distribution) in references.items():
        score, distribution = run(batch(nearest(photos[name])))
        assert abs(score[0] - expected_score) <= 1e-4, name
        assert np.abs(distribution[0] - expected_distribution).max() <= 1e-5, name


@pytest.mark.at_length
@pytest.mark.registry
def test_halving_the_stored_weights_moves_a_score_by_less_than_a_hundredth(
    score: Callable[[Image.Image], float],
    photos: Photos,
    references: Mapping[str, tuple[float, Double]],
) -> None:
    for name, (expected_score, _) in references.items():
        assert abs(score(photos[name]) - expected_score) < 0.01, name


def test_a_score_is_the_mean_of_its_distribution(shipped: Callable[[str], Run], photos: Photos) -> None:
    for photo in photos.values():
        score, distribution = shipped(NIMA)(batch(nearest(photo)))
        assert distribution.shape == (1, 10)
        assert distribution.sum() == pytest.approx(1, abs=1e-5)
        assert score[0] == pytest.approx(float(distribution[0] @ np.arange(1, 11)), abs=1e-4)


@pytest.mark.parametrize("side_px", [(300, 200), (224, 224), (97, 641)])
def test_the_runner_resizes_as_the_network_was_trained(photos: Photos, side_px: tuple[int, int]) -> None:
    for photo in photos.values():
        image = photo.resize(side_px)
        np.testing.assert_array_equal(scoring.nearest(np.asarray(image), SIDE_PX), np.asarray(nearest(image)))


def test_an_image_scores_the_same_alone_and_in_a_batch(
    shipped: Callable[[str], Run], score: Callable[[Image.Image], float], photos: Photos
) -> None:
    scores, distributions = shipped(NIMA)(np.concatenate([batch(nearest(photo)) for photo in photos.values()]))

    assert distributions.shape == (len(photos), 10)
    assert scores == pytest.approx([score(photo) for photo in photos.values()], abs=1e-5)


@pytest.mark.parametrize("distortion", ["blurred", "noisy", "squeezed"])
def test_spoiling_photos_lowers_their_score(
    distortion: str, score: Callable[[Image.Image], float], photos: Photos
) -> None:
    spoil = {"blurred": blurred, "noisy": noisy, "squeezed": squeezed}[distortion]

    losses = [score(photo) - score(spoil(photo)) for photo in photos.values()]

    assert np.mean(losses) > 0.2


# -- the other implementation: channels last, normalisation not folded, double precision --------------


def keras_mobilenet(file: h5py.File, image: Image.Image) -> Double:
    """The ten rating bins of a 224x224 image, layer by layer as Keras 2.1.6 runs this network."""

    def weights(layer: str, name: str) -> Double:
        return np.asarray(file[f"{layer}/{layer}/{name}:0"], np.float64)

    def normalised_relu6(features: Double, layer: str) -> Double:
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (weights(layer, name) for name in names)
        return np.clip(gamma * (features - mean) / np.sqrt(variance + 0.001) + beta, 0, 6)

    features = np.asarray(image, np.float64) / 127.5 - 1
    patches = padded_patches(features, stride=2)
    convolved = np.einsum("yxcij,ijco->yxo", patches, weights("conv1", "kernel"), optimize=True)
    features = normalised_relu6(convolved, "conv1_bn")
    for block, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), start=1):
        depthwise = weights(f"conv_dw_{block}", "depthwise_kernel")[..., 0]
        patches = padded_patches(features, stride=stride)
        features = normalised_relu6(np.einsum("yxcij,ijc->yxc", patches, depthwise), f"conv_dw_{block}_bn")
        pointwise = weights(f"conv_pw_{block}", "kernel")[0, 0]
        features = normalised_relu6(features @ pointwise, f"conv_pw_{block}_bn")
    logits = features.mean(axis=(0, 1)) @ weights("dense_1", "kernel") + weights("dense_1", "bias")
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def padded_patches(features: Double, *, stride: int) -> Double:
    """3x3 patches after ZeroPadding2D((1, 1)), which is what Keras 2.1.6 put before its convolutions."""
    padded = np.pad(features, ((1, 1), (1, 1), (0, 0)))
    patches: Double = sliding_window_view(padded, (3, 3), axis=(0, 1))
    return patches[::stride, ::stride]


# -- photos -------------------------------------------------------------------------------------------


def batch(image: Image.Image) -> Array:
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None] / np.float32(255)


def nearest(image: Image.Image) -> Image.Image:
    """224x224, each pixel from floor((2i+1) * size / 448)."""

    def picked(size: int) -> list[int]:
        return [(2 * i + 1) * size // (2 * SIDE_PX) for i in range(SIDE_PX)]

    return Image.fromarray(np.asarray(image)[np.ix_(picked(image.height), picked(image.width))])


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(2.5))


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(7).normal(0, 20, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def squeezed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=7)
    return Image.open(file).convert("RGB")
