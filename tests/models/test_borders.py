"""Borders: what is made at the edge of an image, in one tile or many, on a CPU and with the shapes of a GPU."""

from importlib import resources

import numpy as np
import pytest
from PIL import Image

from penstock.core.device import GPU_SHAPES
from penstock.models.onnxruntime.session import Session, manifest
from penstock.models.tiling import Ladder, TiledImage, Tiling, tiling_on
from penstock.pixels.picture import Pixels
from penstock.worker.devices import cpu

VARIANT = "clean"
FILE = manifest()["superres-x4", VARIANT]
SIZES = [(1, 1), (1, 40), (40, 1), (3, 5), (7, 8), (8, 8), (8, 9), (31, 33), (64, 64), (97, 50), (20, 390), (390, 8)]
"""Height and width: smaller than the least tile, exactly it, odd ones, and longer than the longest tile of a CPU."""


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(FILE, cpu())


def photo(height: int, width: int) -> Pixels:
    with resources.as_file(resources.files("penstock.models") / "photo.jpg") as path:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(pixels)


def whole(session: Session, rgb: Pixels) -> Pixels:
    """The image through the network at once; one that is too small with its mirror image around."""
    height, width = rgb.shape[:2]
    margins = [((8 - side) // 2, 8 - side - (8 - side) // 2) if side < 8 else (0, 0) for side in (height, width)]
    (top, _), (left, _) = margins
    made: Pixels = session.run(np.pad(rgb, (*margins, (0, 0)), mode="symmetric")[None])[0][0]
    return made[4 * top : 4 * (top + height), 4 * left : 4 * (left + width)]


def in_tiles(session: Session, rgb: Pixels, tiling: Tiling) -> Pixels:
    work = TiledImage(rgb, tiling, scale=4, lane=VARIANT, context=None)
    for index in range(work.count):
        pixels, totals = session.run(work.tile(index)[None])
        work.accept(index, (pixels[0], totals[0]))
    return work.canvas.pixels


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_on_a_cpu_an_image_of_any_size_is_what_the_network_makes_of_the_whole(
    session: Session, size: tuple[int, int]
) -> None:
    rgb = photo(*size)

    made = in_tiles(session, rgb, tiling_on(cpu(), FILE.overlap_px))

    assert np.abs(made.astype(int) - whole(session, rgb)).max() <= 1


def test_with_the_shapes_of_a_gpu_a_small_image_differs_near_its_borders_alone(session: Session) -> None:
    reach = 4 * FILE.overlap_px
    rgb = photo(100, 90)

    apart = np.abs(in_tiles(session, rgb, Ladder(GPU_SHAPES, FILE.overlap_px)).astype(int) - whole(session, rgb))

    assert apart[reach:-reach, reach:-reach].max() <= 1
    assert 2 < apart.max() <= 16
    assert (apart > 2).any(axis=2).mean() < 0.01


@pytest.mark.parametrize("size", [(128, 300), (200, 140)], ids=str)
def test_with_the_shapes_of_a_gpu_an_image_larger_than_its_tiles_is_what_the_network_makes_of_the_whole(
    session: Session, size: tuple[int, int]
) -> None:
    rgb = photo(*size)

    made = in_tiles(session, rgb, Ladder(((128, 128),), FILE.overlap_px))

    assert np.abs(made.astype(int) - whole(session, rgb)).max() <= 1
