"""The example of each built-in model in the catalogue is what the model answers."""

import numpy as np
import pytest

from penstock.core.model import SMALL_PHOTO
from penstock.core.request import OutputOptions
from penstock.intake.inline import bytes_of
from penstock.models.scoring import ImageScoring, ScoringParams
from penstock.models.superres import SuperResolution
from penstock.pixels.headers import ImageBounds, probe
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu

PHOTO = bytes_of(SMALL_PHOTO, 1000)


def test_the_example_of_the_score_is_the_answer_for_the_photo_in_its_request() -> None:
    assert ImageScoring.example is not None
    assert ImageScoring.example.input == {"image_url": SMALL_PHOTO}
    runner = ImageScoring(LimitSettings())
    runner.load_model(cpu(1))
    work = runner.prepare(PHOTO, ScoringParams())
    work.accept(0, runner.infer(np.stack([work.tile(0)]), work)[0])

    answer = runner.postprocess(work, ScoringParams(), OutputOptions()).data

    shown = ImageScoring.example.data
    assert answer is not None
    assert shown is not None
    assert shown.keys() == answer.keys()
    assert shown["score"] == pytest.approx(answer["score"], abs=2e-3)
    assert shown["distribution"] == pytest.approx(answer["distribution"], abs=1e-3)


def test_the_example_of_the_upscaler_is_a_request_that_it_takes() -> None:
    example = SuperResolution.example
    assert example is not None

    params = SuperResolution.params(**example.params)

    header = probe(PHOTO, ImageBounds())
    assert SuperResolution.output_size(header.width, header.height, params) == (4 * header.width, 4 * header.height)
