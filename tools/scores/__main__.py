"""`python -m tools.scores`: what image-scoring-v1 makes of images that are damaged.

A row for each photo, for two pages of text, and for two scientific images; below them how many score higher damaged.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from penstock.conformance.local_model import loaded
from penstock.models.scoring import ImageScoring
from penstock.settings import Settings
from penstock.worker.devices import cpu
from tools.variants.damage import as_jpeg, noisy
from tools.variants.photos import CACHE, PHOTOS, SCIKIT_IMAGE

from .images import blurred, damaged, score

OTHERS = {"a page": "page.png", "text": "text.png", "a cell": "cell.png", "the moon": "moon.png"}


COLUMNS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "blurred by 2 px": partial(blurred, radius=2),
    "by 4 px": partial(blurred, radius=4),
    "by 8 px": partial(blurred, radius=8),
    "noise of 20 levels": partial(damaged, damage=partial(noisy, sigma=20)),
    "JPEG of quality 10": partial(damaged, damage=partial(as_jpeg, quality=10)),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.scores", description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="keeps the packages [%(default)s]")
    images = {photo.name: photo.image(parser.parse_args().cache) for photo in PHOTOS}
    images |= {name: Image.open(SCIKIT_IMAGE / file).convert("RGB") for name, file in OTHERS.items()}
    scores = asyncio.run(scored(images))
    print("| | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1))
    for name, row in scores.items():
        print(f"| {name} | " + " | ".join(f"{score:.2f}" for score in row) + " |")
    table = np.array(list(scores.values()))
    higher = (table[:, 1:] > table[:, :1]).sum(axis=0)
    print(f"| higher than as it is, of {len(table)} | | " + " | ".join(map(str, higher)) + " |")


async def scored(images: dict[str, Image.Image]) -> dict[str, list[float]]:
    async with loaded(ImageScoring, Settings(), cpu()) as model:
        return {
            name: [await score(model, damage(image)) for damage in COLUMNS.values()] for name, image in images.items()
        }


if __name__ == "__main__":
    main()
