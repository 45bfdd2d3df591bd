"""The checks that a device passes before it serves."""

import pytest

from tests.standin.card import Card, ProgramFailed

LOAD = """
import json
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import manifest
from tests.standin.answers import DEVICE

print(json.dumps(open_session(manifest("cuda")["superres-x4", "general"], DEVICE).file.precision))
"""


def test_a_card_that_computes_nothing_does_not_serve(card: Card) -> None:
    with pytest.raises(ProgramFailed, match="the device computes wrong values"):
        card.run(LOAD)


def test_a_card_that_gives_the_stored_answers_serves_in_fp16(card: Card) -> None:
    assert card.run(LOAD, answers=True) == "fp16"


def test_a_card_that_has_no_plan_for_fp16_serves_in_fp32(card: Card) -> None:
    assert card.run(LOAD, answers=True, noplan="half") == "fp32"
