"""Tiles cover an image once, keep their distance from their own edges, and join without a seam."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.device import CPU_TILE_PX, GPU_SHAPES
from penstock.core.sizes import TileSides
from penstock.errors import InvalidOutput
from penstock.models.scoring import ImageScoring, ScoringParams
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.tiling import AnyShape, Ladder, Span, TiledImage, spans, tiling_on
from penstock.worker.devices import cpu

SHAPES = GPU_SHAPES


@given(
    length=st.integers(1, 5000), tile=st.sampled_from([96, 128, 256, 384, 512]), overlap=st.sampled_from([0, 16, 32])
)
def test_spans_cover_an_axis_once_and_keep_away_from_tile_edges(length: int, tile: int, overlap: int) -> None:
    row = spans(length, tile, overlap)

    assert (row[0].low, row[-1].high) == (0, length)
    for span in row:
        assert span.start <= span.low < span.high <= span.start + tile
        assert tile > length or 0 <= span.start <= length - tile
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


def test_a_small_image_lies_in_the_middle_of_its_tile() -> None:
    chosen = Ladder(SHAPES, 32).plan(100, 121)

    assert (chosen.height, chosen.width) == (128, 128)
    assert chosen.rows == (Span(-14, 0, 100),)
    assert chosen.columns == (Span(-3, 0, 121),)


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), overlap=st.sampled_from([0, 16, 32]))
def test_where_any_shape_will_do_tiles_are_flush_with_the_image_and_overlap_no_more_than_they_must(
    height: int, width: int, overlap: int
) -> None:
    chosen = tiling_on(cpu(1), overlap).plan(height, width)

    for length, side, row in ((height, chosen.height, chosen.rows), (width, chosen.width, chosen.columns)):
        least = -(-(length - 2 * overlap) // (CPU_TILE_PX - 2 * overlap))
        assert len(row) == max(1, least)
        assert side <= CPU_TILE_PX
        if len(row) == 1:
            assert side == max(8, length)
        else:
            assert side * len(row) - 2 * overlap * (len(row) - 1) - length < len(row)


def test_tiles_that_are_still_too_large_soon_become_as_small_as_they_can() -> None:
    """Each try is a run that fails."""
    tiling: AnyShape | None = AnyShape(TileSides(longest=384, overlap_px=32))
    sides = []
    while tiling is not None:
        plan = tiling.plan(3000, 3000)
        sides.append(plan.height)
        tiling = tiling.below(plan.height * plan.width)

    assert len(sides) <= 10
    assert sides[-1] == 65


@given(area=st.integers(1, 400 * 400), overlap=st.sampled_from([0, 16, 32]), multiple=st.sampled_from([1, 8, 32]))
def test_smaller_tiles_have_fewer_pixels_than_those_that_were_too_large(area: int, overlap: int, multiple: int) -> None:
    smaller = AnyShape(TileSides(longest=384, overlap_px=overlap, multiple=multiple)).below(area)

    if smaller is None:
        assert (2 * overlap + multiple) ** 2 >= area or not overlap
    else:
        plan = smaller.plan(3000, 2000)
        assert plan.height * plan.width < area
        assert plan.height % multiple == plan.width % multiple == 0


@given(longest=st.integers(96, 4096), height=st.integers(1, 900), width=st.integers(1, 900))
def test_of_the_shapes_of_a_gpu_those_are_taken_that_are_no_longer_than_was_asked_for(
    longest: int, height: int, width: int
) -> None:
    ladder = Ladder(((64, 64), (64, 128), (128, 128), (128, 192), (192, 192), (384, 384)), 32)

    plan = ladder.up_to(longest).plan(height, width)

    assert max(plan.height, plan.width) <= max(longest, 128)  # none with a side up to 96 is wider than the overlaps
    assert min(plan.height, plan.width) > 64


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
def test_a_tile_is_written_in_place_and_a_small_image_mirrored_around(
    height: int, width: int, shape: tuple[int, int]
) -> None:
    rgb = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    work = TiledImage(rgb, Ladder((shape,), 4), scale=1, lane="", context=None)
    batch = np.zeros((2, *work.shape), work.dtype)

    for index in range(work.count):
        work.write_tile(index, batch[1])
        row, column = work._spots[index]
        (top, crop_rows), (left, crop_columns) = (
            (max(0, -at), slice(max(0, at), at + side))
            for at, side in zip((row.start, column.start), shape, strict=True)
        )
        crop = rgb[crop_rows, crop_columns]
        around = [(top, shape[0] - top - crop.shape[0]), (left, shape[1] - left - crop.shape[1]), (0, 0)]

        assert (batch[1] == np.pad(crop, around, mode="symmetric")).all()
        assert (batch[1] == work.tile(index)).all()
    assert not batch[0].any()


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), overlap=st.sampled_from([16, 32]))
@settings(max_examples=50)
def test_the_size_of_an_image_is_that_of_the_tiles_which_a_cpu_cuts(height: int, width: int, overlap: int) -> None:
    sides = TileSides(longest=CPU_TILE_PX, overlap_px=overlap)

    assert sides.computed(height) * sides.computed(width) == tiling_on(cpu(1), overlap).plan(height, width).area


@given(length=st.integers(1, 3000), overlap=st.sampled_from([0, 16, 32]))
def test_of_fixed_sides_those_are_taken_that_compute_the_least(length: int, overlap: int) -> None:
    fixed = (64, 96, 128, 384)
    row = Ladder(tuple((8, side) for side in fixed), overlap).plan(8, length)

    assert TileSides(fixed=fixed, overlap_px=overlap).computed(length) == row.width * len(row.columns)


@pytest.mark.parametrize(("width", "height", "times"), [(4, 30_000, 2), (30_000, 4, 2), (2000, 2000, 1)])
def test_a_thin_image_counts_what_is_padded(width: int, height: int, times: int) -> None:
    counted = SuperResolution.device_size(width, height, SuperresParams()) * 1000 / (width * height)

    assert times <= counted < times + 1


def test_a_score_is_as_large_whatever_the_photo() -> None:
    sizes = {ImageScoring.device_size(*size, ScoringParams()) for size in ((1, 1), (224, 224), (8000, 6000))}

    assert sizes == {50}


@pytest.mark.at_length
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
