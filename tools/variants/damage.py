"""What happens to photos before they are enlarged."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def noisy(image: Pixels, *, sigma: float) -> Pixels:
    """Returns the image with normal noise of so many levels, the same in each run."""
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.rint(image + noise).clip(0, 255).astype(np.uint8)


def as_jpeg(image: Pixels, *, quality: int) -> Pixels:
    """Returns what a JPEG of this quality keeps of the image."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


DAMAGE: dict[str, Callable[[Pixels], Pixels]] = {
    "clean": lambda image: image,
    "noise of 10 levels": partial(noisy, sigma=10),
    "JPEG of quality 75": partial(as_jpeg, quality=75),
    "JPEG of quality 40": partial(as_jpeg, quality=40),
}
