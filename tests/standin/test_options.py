"""Options of the CUDA provider: what they change in a run, and that a choice is made once for a card.

Times mean nothing here: which candidate wins is tested in tests/models/test_options.py.
"""

from pathlib import Path

import pytest

from tests.standin.card import Card

LOAD = """
import json
from loguru import logger
from penstock.core.device import Device
from penstock.models.onnxruntime.golden import batch_of
from penstock.models.onnxruntime.options import CANDIDATES, options_of
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.counts import counts, difference

lines = []
logger.remove()
logger.add(lambda line: lines.append([line.record["message"], dict(line.record["extra"])]))

def card(**more):
    return Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,), **more)

GENERAL, CLEAN = (manifest("cuda")["superres-x4", variant] for variant in ("general", "clean"))

def run(session):
    session.run(batch_of("scene", 128, 128))
    before = counts()
    session.run(batch_of("scene", 128, 128))
    return difference(before)
"""


@pytest.mark.parametrize("options", ["fuse_conv_bias", "fuse_conv_bias, prefer_nhwc"])
def test_fused_biases_need_no_pass_of_their_own(card: Card, options: str) -> None:
    program = f"""
plain, fused = (open_session(CLEAN, card(cuda_options=text)) for text in ("none", "{options}"))
print(json.dumps([run(plain), run(fused)]))
"""
    plain, fused = card.run(LOAD + program, answers=True)

    assert plain["added_biases"] > 0
    assert fused["added_biases"] == 0
    assert fused["tensor_core_runs"] + fused["other_runs"] == plain["tensor_core_runs"] + plain["other_runs"]


@pytest.mark.at_length
def test_every_candidate_runs_every_file_wholly_on_the_card(card: Card) -> None:
    program = """
files = [*manifest("cuda").values(), half(GENERAL)]
shapes = {file.file: [(224, 224) if file.scale == 1 else (128, 128)] for file in files}
ran = []
for file in files:
    for names in CANDIDATES:
        session = Session(file, card(), shapes[file.file], options_of(names))
        session.run(batch_of("scene", *shapes[file.file][0]))
        ran.append(session.provider)
print(json.dumps(ran))
"""
    assert card.run(LOAD + program) == ["CUDAExecutionProvider"] * 20


def test_a_choice_is_made_at_the_first_start_on_a_card_and_kept(card: Card, tmp_path: Path) -> None:
    program = f"""
session = open_session(CLEAN, card(cuda_options="auto", cache_dir={str(tmp_path)!r}))
print(json.dumps([run(session)["added_biases"], lines, counts()["plans"]]))
"""
    first, again, elsewhere = (card.run(LOAD + program, answers=True, cc=cc) for cc in (86, 86, 89))

    measured = [extra for message, extra in first[1] if message == "options of CUDA measured"]
    assert len(measured) == 1
    assert len(measured[0]["times_ms"]) == 4
    assert (first[0] == 0) == ("fuse_conv_bias" in measured[0]["chosen"])
    assert again[0] == first[0]
    assert [message for message, _ in again[1]] == []
    assert again[2] < first[2]
    assert [message for message, _ in elsewhere[1]] == ["options of CUDA measured"]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_fp16_is_measured_and_the_fp32_file_that_is_not_served_is_not(card: Card, tmp_path: Path) -> None:
    program = f"""
device = card(cuda_options="auto", cache_dir={str(tmp_path)!r}, precision="auto")
file = open_session(GENERAL, device).file.file
print(json.dumps([file, [extra["file"] for message, extra in lines if "measured" in message]]))
"""
    file, measured = card.run(LOAD + program, answers=True)

    assert measured == [file] == ["superres-x4.general.fp16.onnx"]
