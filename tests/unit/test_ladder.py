"""The tiles of a GPU: few shapes, few pixels in vain, and batches that an 8 GB card can hold."""

import math

import numpy as np
import pytest

from penstock.core.device import GPU_SHAPES, TENSORRT_SIDES, Device, batches_of
from penstock.worker.batcher.costs import Costs
from penstock.worker.batcher.device_work import BatchKey
from tools.ladder import OVERLAPS, computed, mixed, search

SIZES = (1, 2, 4, 8)


def gpu(**more: object) -> Device:
    return Device(name="cuda:0", kind="cuda", threads=1, batches=SIZES, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("seed", range(3))
def test_mixed_images_compute_at_most_135_pixels_for_each_100_that_they_have(seed: int, overlap: int) -> None:
    images = mixed(150, seed)

    each = [computed(GPU_SHAPES, image, overlap) for image in images]

    assert np.average(each, weights=[height * width for height, width in images]) <= 1.35
    assert np.mean(each) <= 1.35
    assert max(each) < 2.1


def test_the_shapes_are_few_and_none_is_for_upright_or_lying_images_alone() -> None:
    assert len(set(GPU_SHAPES)) == len(GPU_SHAPES) <= 16
    assert {(width, height) for height, width in GPU_SHAPES} == set(GPU_SHAPES)
    assert sum(len(gpu().batches_of((*shape, 3))) for shape in GPU_SHAPES) <= 40


def test_the_mixed_images_are_the_same_each_time_and_have_01_to_10_megapixels() -> None:
    images = mixed(150, seed=0)

    assert images == mixed(150, seed=0) != mixed(150, seed=1)
    assert all(0.99e5 < height * width < 1.01e7 for height, width in images)
    assert 50 < sum(height > width for height, width in images) < 100


@pytest.mark.at_length
def test_the_shapes_are_those_that_the_search_finds() -> None:
    *_, found = search(len(GPU_SHAPES), step=32)

    assert sorted(found) == sorted(GPU_SHAPES)


@pytest.mark.parametrize("shape", GPU_SHAPES)
def test_a_batch_has_no_more_pixels_than_eight_tiles_of_512(shape: tuple[int, int]) -> None:
    sizes = gpu(rectangles=GPU_SHAPES).batches_of((*shape, 3))

    assert sizes == SIZES[: len(sizes)]
    assert sizes[-1] * math.prod(shape) <= 8 * 512**2
    assert len(sizes) == len(SIZES) or SIZES[len(sizes)] * math.prod(shape) > 8 * 512**2


def test_a_tile_that_is_larger_than_a_whole_batch_runs_alone() -> None:
    assert batches_of(SIZES, (3, 4000, 4000)) == (1,)
    assert batches_of((2, 4), (3, 4000, 4000)) == (2,)


def test_the_scheduler_takes_no_more_tiles_than_a_batch_of_their_shape_holds() -> None:
    costs = Costs(SIZES)
    large, small = BatchKey("m", "", (864, 864, 3)), BatchKey("m", "", (128, 128, 3))

    assert (costs.most(large), costs.best(large, 9)) == (2, 2)
    assert (costs.most(small), costs.best(small, 9)) == (8, 8)
    assert costs.forbid(large, 2) == 1
    assert costs.most(large) == 1


def test_a_device_has_the_rectangles_that_it_is_given_else_squares() -> None:
    assert gpu(rectangles=GPU_SHAPES, sides=TENSORRT_SIDES).shapes == GPU_SHAPES
    assert gpu(sides=TENSORRT_SIDES).shapes == tuple((side, side) for side in TENSORRT_SIDES)
