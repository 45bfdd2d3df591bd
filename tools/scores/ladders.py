"""`python -m tools.scores.ladders`: does a score put worse copies of a photo below better ones?

Prints for each kind of damage the mean score over the photos at each level, from none to the worst, and Spearman's
correlation of level and score, in the mean and of the photo that it is worst for: 1 is in order. With the folder of
OpenCV's model (`examples/quality` of Debian's package opencv-doc) and opencv-contrib-python-headless, BRISQUE too, as
100 minus its own score.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from penstock.conformance.local_model import loaded
from penstock.models.scoring import ImageScoring
from penstock.settings import Settings
from penstock.worker.devices import cpu
from tools.variants.damage import as_jpeg, noisy
from tools.variants.photos import CACHE, PHOTOS

from .images import blurred, damaged, score

LONGEST_PX = 512

Damage = Callable[[Image.Image], Image.Image]
Score = Callable[[Image.Image], Awaitable[float]]


def reduced(image: Image.Image, *, times: int) -> Image.Image:
    """Returns the image reduced so many times, and enlarged again."""
    small = image.resize((image.width // times, image.height // times), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


LADDERS: dict[str, list[Damage]] = {
    "blur of 0.8, 1.5, 2.5, 4 px": [partial(blurred, radius=radius) for radius in (0.8, 1.5, 2.5, 4)],
    "noise of 5, 10, 20, 35 levels": [
        partial(damaged, damage=partial(noisy, sigma=sigma)) for sigma in (5, 10, 20, 35)
    ],
    "JPEG of 60, 30, 15, 7": [
        partial(damaged, damage=partial(as_jpeg, quality=quality)) for quality in (60, 30, 15, 7)
    ],
    "reduced to ½, ⅓, ¼": [partial(reduced, times=times) for times in (2, 3, 4)],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.scores.ladders", description=__doc__)
    parser.add_argument("--brisque", type=Path, metavar="DIR", help="the folder of OpenCV's model")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="keeps the packages [%(default)s]")
    options = parser.parse_args()
    photos = [photo.image(options.cache) for photo in PHOTOS]
    for photo in photos:
        photo.thumbnail((LONGEST_PX, LONGEST_PX))
    print("| score | damage | means | SRCC | worst |\n| --- | --- | --- | --- | --- |")
    asyncio.run(compare(photos, options.brisque))


async def compare(photos: list[Image.Image], brisque_model: Path | None) -> None:
    async with loaded(ImageScoring, Settings(), cpu()) as model:
        await table("image-scoring-v1", photos, partial(score, model))
    if brisque_model is not None:
        await table("BRISQUE", photos, brisque(brisque_model))


async def table(name: str, photos: list[Image.Image], measure: Score) -> None:
    for damage, levels in LADDERS.items():
        copies = [[photo, *(level(photo) for level in levels)] for photo in photos]
        scores = np.array([[await measure(copy) for copy in row] for row in copies])
        orders = [spearmanr(range(len(row)), -row).statistic for row in scores]
        means = " ".join(f"{mean:.1f}" for mean in scores.mean(axis=0))
        print(f"| {name} | {damage} | {means} | {np.mean(orders):.2f} | {min(orders):.2f} |", flush=True)


def brisque(folder: Path) -> Score:
    """Returns OpenCV's BRISQUE, turned round so that more is better."""
    import cv2

    model = cv2.quality.QualityBRISQUE_create(
        str(folder / "brisque_model_live.yml"), str(folder / "brisque_range_live.yml")
    )

    async def measure(image: Image.Image) -> float:
        return 100 - float(model.compute(np.ascontiguousarray(np.asarray(image)[..., ::-1]))[0])

    return measure


if __name__ == "__main__":
    main()
