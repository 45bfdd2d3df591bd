"""Images in, damaged, and their scores."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from penstock.conformance.local_model import LocalModel
from penstock.models.scoring import ScoringParams


def blurred(image: Image.Image, *, radius: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def damaged(image: Image.Image, *, damage: Callable[[Any], Any]) -> Image.Image:
    return Image.fromarray(damage(np.asarray(image)))


async def score(model: LocalModel, image: Image.Image) -> float:
    file = io.BytesIO()
    image.save(file, "PNG")
    run = await model.run(file.getvalue(), ScoringParams())
    assert run.product.data is not None
    return float(run.product.data["score"])
