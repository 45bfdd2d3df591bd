"""`grid` of image-scoring-v1: scores of the parts of an image; and what an aesthetic score does not measure."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageFilter

from penstock.core.request import OutputOptions
from penstock.models.scoring import MOST_CELLS, Cells, ImageScoring, ScoringParams, cells_of, parts
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu

Score = Callable[..., dict[str, object]]


@pytest.fixture(scope="module")
def scored() -> Score:
    runner = ImageScoring(LimitSettings())
    runner.load_model(cpu(2))

    def run(image: Image.Image, grid: int = 1) -> dict[str, object]:
        file = io.BytesIO()
        image.save(file, "PNG")
        params = ScoringParams(grid=grid)
        work = runner.prepare(file.getvalue(), params)
        assert work.device_size is not None
        assert work.device_size <= runner.device_size(*image.size, params)
        for index, output in enumerate(runner.infer(np.stack([work.tile(i) for i in range(work.count)]), work)):
            work.accept(index, output)
        data = runner.postprocess(work, params, OutputOptions()).data
        assert data is not None
        return data

    return run


def photo(name: str) -> Image.Image:
    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def test_each_local_score_is_that_of_the_part_alone(scored: Score) -> None:
    image = photo("motorcycle_left.png")  # 741 x 500

    data = scored(image, 3)

    edges = [0, 247, 494, 741]
    alone = [
        [scored(image.crop((left, top, right, top + 250)))["score"] for left, right in itertools.pairwise(edges)]
        for top in (0, 250)
    ]
    assert data["grid"] == [pytest.approx(row, abs=1e-4) for row in alone]
    assert data["score"] == scored(image)["score"]


def test_without_a_grid_there_are_no_local_scores(scored: Score) -> None:
    assert scored(photo("coffee.png")).keys() == {"score", "distribution"}


def test_an_image_too_small_for_parts_is_its_only_part(scored: Score) -> None:
    data = scored(photo("coffee.png").resize((300, 200)), 4)

    assert data["grid"] == [[data["score"]]]


@pytest.mark.parametrize("size", [(1, 1), (223, 5000), (448, 449), (5000, 3000)])
def test_the_parts_are_the_whole_image_and_none_is_smaller_than_the_network_sees(size: tuple[int, int]) -> None:
    height, width = size
    image = np.arange(height * width, dtype=np.uint32).astype(np.uint8).reshape(height, width)
    image = np.repeat(image[..., None], 3, axis=2)

    for grid in range(1, MOST_CELLS + 1):
        cells = cells_of(height, width, grid)
        made = [part.shape[:2] for part in parts(image, cells)]
        assert max(cells.rows, cells.columns) <= grid
        if cells == Cells(1, 1):
            assert made == []
            continue
        assert sum(h * w for h, w in made) == height * width
        assert len(made) == cells.rows * cells.columns
        assert min(h for h, _ in made) >= min(224, height)
        assert min(w for _, w in made) >= min(224, width)


@pytest.mark.parametrize(("name", "radius"), [("cell.png", 8), ("text.png", 6), ("moon.png", 8)])
def test_a_blurred_image_may_score_higher_than_the_sharp_one(scored: Score, name: str, radius: int) -> None:
    """Which is no fault of the code: people rated whether they like a photo. The text cannot be read any more."""
    sharp = photo(name)

    assert scored(sharp.filter(ImageFilter.GaussianBlur(radius)))["score"] > scored(sharp)["score"]  # type: ignore[operator]


@pytest.mark.parametrize("name", ["astronaut.png", "camera.png", "coffee.png"])
def test_more_blur_may_score_higher_than_less(scored: Score, name: str) -> None:
    less, more = (photo(name).filter(ImageFilter.GaussianBlur(radius)) for radius in (2, 4))

    assert scored(photo(name))["score"] > scored(more)["score"] > scored(less)["score"]  # type: ignore[operator]
