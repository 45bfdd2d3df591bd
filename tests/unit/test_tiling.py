"""Tiles cover an image once, keep their distance from their own edges, and join without a seam."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.device import CPU_SIDES
from penstock.core.sizes import tiled_area
from penstock.errors import InvalidOutput
from penstock.models.base import Params
from penstock.models.scoring import ImageScoring
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.tiling import Ladder, Span, TiledImage, spans
from penstock.worker.devices import cpu

SHAPES = cpu(1).shapes


@given(
    length=st.integers(1, 5000), tile=st.sampled_from([96, 128, 256, 384, 512]), overlap=st.sampled_from([0, 16, 32])
)
def test_spans_cover_an_axis_once_and_keep_away_from_tile_edges(length: int, tile: int, overlap: int) -> None:
    row = spans(length, tile, overlap)

    assert (row[0].low, row[-1].high) == (0, length)
    for span in row:
        assert span.start <= span.low < span.high <= span.start + tile
    for left, right in pairwise(row):
        assert left.high == right.low
        assert left.start + tile - left.high >= overlap
        assert right.low - right.start >= overlap


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), overlap=st.sampled_from([16, 32]))
@settings(max_examples=50)
def test_no_other_shape_would_compute_fewer_pixels(height: int, width: int, overlap: int) -> None:
    chosen = Ladder(SHAPES, overlap).plan(height, width)

    assert (chosen.height, chosen.width) in SHAPES
    for h, w in SHAPES:
        if (height <= h or h > 2 * overlap) and (width <= w or w > 2 * overlap):
            assert chosen.area <= len(spans(height, h, overlap)) * len(spans(width, w, overlap)) * h * w


def test_a_small_image_is_one_tile() -> None:
    chosen = Ladder(SHAPES, 32).plan(100, 120)

    assert chosen.rows == (Span(0, 0, 100),)
    assert chosen.columns == (Span(0, 0, 120),)


def box_blur_x2(image: np.ndarray, radius: int) -> np.ndarray:
    """A stand-in network: each output pixel depends on `radius` input pixels around it, then every pixel twice."""
    padded = np.pad(image.astype(np.float32), ((radius, radius), (radius, radius), (0, 0)))
    n = 2 * radius + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (n, n), axis=(0, 1))
    return (windows.mean(axis=(3, 4)) + 0.5).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize(("height", "width"), [(200, 310), (97, 131), (64, 64), (128, 400)])
def test_tiled_equals_untiled_where_no_padding_is_seen(height: int, width: int) -> None:
    radius = 4
    rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    expected = box_blur_x2(rgb, radius)
    ladder = Ladder(((64, 64), (64, 96), (96, 96)), radius)

    work = TiledImage(rgb, ladder, scale=2, lane="", context=None)
    for index in reversed(range(work.count)):
        work.accept(index, (box_blur_x2(work.tile(index), radius), 0.0))

    inner = slice(2 * radius, -2 * radius)
    assert work.count > 1 or height <= 64
    assert np.abs(work.canvas.pixels.astype(int) - expected)[inner, inner].max() <= 1


@pytest.mark.parametrize(
    "output",
    [
        (np.zeros((128, 128, 3), np.uint8), np.nan),
        (np.zeros((128, 128, 3), np.uint8), -np.inf),
        (np.zeros((64, 64, 3), np.uint8), 0.0),
        (np.zeros((3, 128, 128), np.uint8), 0.0),
        (np.zeros((128, 128, 3), np.float32), 0.0),
    ],
    ids=["no number", "infinite", "size", "planes", "type"],
)
def test_an_output_that_cannot_be_an_image_is_refused(output: tuple[np.ndarray, float]) -> None:
    work = TiledImage(np.zeros((64, 64, 3), np.uint8), Ladder(((64, 64),), 0), scale=2, lane="", context=None)

    with pytest.raises(InvalidOutput):
        work.accept(0, output)


@given(height=st.integers(1, 90), width=st.integers(1, 90), shape=st.sampled_from([(32, 96), (96, 32), (64, 64)]))
@settings(max_examples=50)
def test_a_tile_is_written_in_place_with_its_edges_mirrored(height: int, width: int, shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    work = TiledImage(rgb, Ladder((shape,), 4), scale=1, lane="", context=None)
    batch = np.zeros((2, *work.shape), work.dtype)

    for index in range(work.count):
        work.write_tile(index, batch[1])
        row, column = work._spots[index]
        crop = rgb[row.start : row.start + shape[0], column.start : column.start + shape[1]]
        missing = [(0, tile - there) for tile, there in zip(shape, crop.shape[:2], strict=True)]

        assert (batch[1] == np.pad(crop, (*missing, (0, 0)), mode="symmetric")).all()
        assert (batch[1] == work.tile(index)).all()
    assert not batch[0].any()


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), overlap=st.sampled_from([16, 32]))
@settings(max_examples=50)
def test_the_size_of_an_image_is_that_of_the_tiles_which_a_cpu_cuts(height: int, width: int, overlap: int) -> None:
    assert tiled_area(height, width, CPU_SIDES, overlap) == Ladder(SHAPES, overlap).plan(height, width).area


@pytest.mark.parametrize(("width", "height", "times"), [(4, 30_000, 19), (30_000, 4, 19), (2000, 2000, 1)])
def test_a_thin_image_counts_what_is_padded(width: int, height: int, times: int) -> None:
    counted = SuperResolution.device_size(width, height, SuperresParams()) * 1000 / (width * height)

    assert times <= counted < times + 1


def test_a_score_is_as_large_whatever_the_photo() -> None:
    sizes = {ImageScoring.device_size(*size, Params()) for size in ((1, 1), (224, 224), (8000, 6000))}

    assert sizes == {50}


def test_the_tool_that_measures_the_memory_of_a_task_draws_and_encodes_one() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tools.memory", "--megapixels", "0.05"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert "0.05 MP (0 MB) to 896 x 896 px" in finished.stdout
