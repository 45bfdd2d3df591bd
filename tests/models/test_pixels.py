"""Pixels of 8 bits into and out of the graphs: the same levels, bit for bit, as a program around the network makes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto
from PIL import Image

from penstock.models.base import as_tile
from tests.support.networks import with_weights
from tools.convert import pixels
from tools.convert.graph import Graph, Storage, Value

Array = NDArray[Any]
Run = Callable[[Array], list[Array]]

GENERAL, GENERAL_CUDA = "superres-x4.general.onnx", "superres-x4.general.cuda.onnx"
NIMA = "image-scoring-v1.nima.onnx"


def levels(planes: Array) -> Array:
    """(n, 3, height, width) of 0..1 in fp32 as pixels of 8 bits: the rounding that the graphs must have."""
    scaled = np.clip(planes, 0, 1)
    scaled *= 255
    scaled += 0.5
    return scaled.astype(np.uint8).transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def written(load_whole: Callable[[bytes], Run]) -> Run:
    """Runs the end of a graph alone."""
    graph = Graph("end", storage=Storage.FP32)
    pixels.write(graph, "planes")
    shape = ("batch", 3, "height", "width")
    outputs = [Value("upscaled", ("batch", "height", "width", 3), TensorProto.UINT8), Value("total", ("batch",))]
    return load_whole(graph.seal([Value("planes", shape)], outputs, about=""))


@pytest.fixture(scope="session")
def whole(load_whole: Callable[[bytes], Run], models: Path) -> Callable[[str], Run]:
    return lambda file: load_whole(with_weights(models / file))


@pytest.fixture(scope="session")
def crops(photos: Mapping[str, Image.Image]) -> Array:
    """Crops of photos, noise, and noise in black and white, in which networks overshoot."""
    random = np.random.default_rng(7)
    noise = random.integers(0, 256, (72, 104, 3), np.uint8)
    hard = np.repeat((random.random((72, 104, 1)) > 0.5) * np.uint8(255), 3, axis=2)
    return np.stack([*(np.asarray(p.crop((100, 60, 204, 132))) for p in photos.values()), noise, hard])


@settings(max_examples=200)
@given(arrays(np.float32, (1, 3, 3, 7), elements=st.floats(-2, 3, width=32)))
def test_any_values_become_the_levels_that_numpy_makes(written: Run, planes: Array) -> None:
    assert (written(planes)[0] == levels(planes)).all()


def test_values_at_and_beside_every_step_between_two_levels_fall_on_the_same_side(written: Run) -> None:
    steps = (np.arange(-2, 258, dtype=np.float64)[:, None] + (0, 0.5)).ravel() / 255
    exact = steps.astype(np.float32)
    planes = [exact, np.nextafter(exact, np.float32(9)), np.nextafter(exact, np.float32(-9))]
    extremes = np.float32([0.0, -0.0, 1e-45, 3.4e38, -3.4e38, 1e30, 1, 0.5] * 65)

    batch = np.stack([np.resize(values, (3, 20, 26)) for values in (*planes, extremes)])

    np.testing.assert_array_equal(written(batch)[0], levels(batch))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_shows_in_the_sum_of_its_image_and_in_no_other(written: Run, value: float) -> None:
    batch = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    batch[1, 2, 17, 40] = value

    _, totals = written(batch)

    assert np.isfinite(totals).tolist() == [True, False, True]
    assert totals[0] == pytest.approx(batch[0].sum(), rel=1e-4)


def test_a_file_that_enlarges_gives_the_levels_of_its_network(
    enlarging: dict[str, Any], whole: Callable[[str], Run], shipped: Callable[[str], Run], crops: Array
) -> None:
    upscaled, totals = whole(enlarging["file"])(crops)

    expected = levels(shipped(enlarging["file"])(np.stack([as_tile(crop) for crop in crops]))[0])
    assert upscaled.dtype == np.uint8
    np.testing.assert_array_equal(upscaled, expected)
    assert np.isfinite(totals).all()


def test_a_score_is_that_of_its_network(
    whole: Callable[[str], Run], shipped: Callable[[str], Run], crops: Array
) -> None:
    images = np.stack([np.resize(crop, (224, 224, 3)) for crop in crops])

    ours = whole(NIMA)(images)

    theirs = shipped(NIMA)(np.stack([as_tile(image) for image in images]))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.at_length
def test_the_graphs_for_a_cpu_and_for_cuda_have_the_same_values(shipped: Callable[[str], Run], crops: Array) -> None:
    planes = np.stack([as_tile(crop) for crop in crops])

    (on_cpu,), (on_cuda,) = (shipped(file)(planes) for file in (GENERAL, GENERAL_CUDA))

    assert np.abs(on_cpu - on_cuda).max() <= 1e-4
