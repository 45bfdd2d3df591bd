"""Which arithmetic a model gets. The CPU runs an fp16 file in fp32 (tests/models/test_half.py emulates it), so that
here the decision is tested, not the arithmetic."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from loguru import logger
from msgspec.structs import replace
from numpy.typing import NDArray

from penstock.models.onnxruntime.precision import better, check_images, largest_difference, open_session
from penstock.models.onnxruntime.session import Session, half, manifest
from penstock.worker.devices import cpu

GENERAL = manifest()["superres-x4", "general"]
PLAIN = replace(cpu(2), streams=1)

Tiles = NDArray[np.uint8]


@pytest.fixture(scope="module")
def plain() -> Session:
    return Session(GENERAL, PLAIN)


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}")
    yield lines
    logger.remove(number)


def test_fp16_is_used_where_it_is_within_its_tolerance_and_that_is_said(said: list[str]) -> None:
    session = open_session(GENERAL, replace(PLAIN, precision="auto"))

    assert session.file.precision == "fp16"
    assert "fp16 is used" in said[-1]
    assert "difference" in said[-1]


def test_fp16_beyond_its_tolerance_is_refused_and_that_is_said(plain: Session, said: list[str]) -> None:
    twin = half(GENERAL)
    assert twin is not None

    session = better(plain, replace(twin, tolerance=1e-6), PLAIN)

    assert session is plain
    assert "too far" in said[-1]


def test_an_fp16_file_that_cannot_be_loaded_leaves_fp32(plain: Session, said: list[str]) -> None:
    twin = half(GENERAL)
    assert twin is not None

    assert better(plain, replace(twin, sha256="0" * 64), PLAIN) is plain
    assert "cannot be used" in said[-1]


@pytest.mark.parametrize("variant", [("superres-x4", "clean"), ("image-scoring-v1", "nima")])
def test_a_model_without_such_a_file_stays_fp32(variant: tuple[str, str]) -> None:
    file = manifest()[variant]
    shapes = [(224, 224)] if variant[1] == "nima" else ()

    assert open_session(file, replace(PLAIN, precision="auto"), shapes).file is file


def test_who_asks_for_fp32_gets_it() -> None:
    assert open_session(GENERAL, replace(PLAIN, precision="fp32")).file is GENERAL


def test_values_that_are_no_numbers_are_infinitely_far_away(plain: Session) -> None:
    class Broken(Session):
        def run(self, tiles: Tiles, *, owner: object = None) -> list[NDArray[Any]]:
            upscaled, totals = super().run(tiles)
            return [upscaled, totals * np.nan]

    assert largest_difference(plain, plain, (64, 64)) == 0.0
    assert largest_difference(plain, Broken(GENERAL, PLAIN), (64, 64)) == np.inf


def test_a_difference_is_counted_in_levels_whichever_is_brighter(plain: Session) -> None:
    class Brighter(Session):
        def run(self, tiles: Tiles, *, owner: object = None) -> list[NDArray[Any]]:
            upscaled, totals = super().run(tiles)
            return [upscaled + (upscaled < 255).astype(np.uint8), totals]

    brighter = Brighter(GENERAL, PLAIN)

    assert largest_difference(plain, brighter, (64, 64)) == largest_difference(brighter, plain, (64, 64)) == 1 / 255


@pytest.mark.parametrize("shape", [(64, 64), (128, 192), (512, 512)])
def test_the_check_images_are_a_photo_and_hard_patterns_in_any_size(shape: tuple[int, int]) -> None:
    images = check_images(*shape)

    assert images.shape == (4, *shape, 3)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert len(np.unique(images[0])) > 100
    assert all(set(np.unique(image)) == {0, 255} for image in images[1:])
