"""What only a CUDA device can show: the provider that is really used, and pixels against the CPU."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.errors import ConfigurationError
from penstock.runners.onnx import Session, manifest
from penstock.settings import WorkerSettings
from penstock.worker.devices import Placement, cpu, placements

pytestmark = pytest.mark.gpu
PHOTO = Path(__file__).parents[2] / "src/penstock/samples/photo.jpg"


@pytest.fixture(scope="module")
def gpu() -> Placement:
    """The first GPU, made the only one this process sees."""
    try:
        (place,) = placements(WorkerSettings(gpu_ids="0"))
    except ConfigurationError as reason:
        pytest.skip(str(reason))
    os.environ.update(place.environment)
    return place


@pytest.mark.parametrize(("model", "variant"), sorted(manifest()))
def test_a_gpu_gives_the_pixels_and_scores_of_the_cpu(gpu: Placement, model: str, variant: str) -> None:
    side = 224 if model == "image-scoring-v1" else 128
    image = Image.open(PHOTO).convert("RGB").resize((side, side))
    tiles = np.asarray(image, np.float32).transpose(2, 0, 1)[None].repeat(2, axis=0) / 255

    on_gpu = Session(manifest()[model, variant], gpu.device).run(tiles)
    on_cpu = Session(manifest()[model, variant], cpu()).run(tiles)

    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        assert np.abs(ours - theirs).max() < (0.02 if model == "image-scoring-v1" else 1 / 255)
