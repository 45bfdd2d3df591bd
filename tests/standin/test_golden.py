"""A card that computes wrong values does not serve; one that computes right ones does, in fp16 if it can."""

import os
import subprocess

import msgspec
import pytest

from penstock.core.device import Device
from penstock.models.onnxruntime.session import manifest
from tests.standin.card import Card
from tests.support.lengths import at_length

LOAD = """
import json
from penstock.core.device import Device
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import manifest
from tests.standin.counts import counts, difference

device = Device(name="cuda:0", kind="cuda", threads=1, sides=(128, 192), batches=(1, 2), precision="auto")

def loaded(variant="general", model="superres-x4", shapes=()):
    file = manifest("cuda")[model, variant]
    try:
        return open_session(file, device, shapes).file.file
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""

CALLS = {
    "general": 'loaded("general")',
    "clean": 'loaded("clean")',
    "nima": 'loaded("nima", "image-scoring-v1", [(224, 224)])',
}


def test_a_card_that_computes_right_serves_every_model_in_fp16_where_there_is_such_a_file(card: Card) -> None:
    files = card.run(LOAD + f"print(json.dumps([{', '.join(CALLS.values())}]))", answers=True)

    assert files == ["superres-x4.general.fp16.onnx", "superres-x4.clean.onnx", "image-scoring-v1.nima.onnx"]


@pytest.mark.parametrize("variant", [*at_length("clean", "nima"), "general"])
def test_a_card_that_computes_nothing_is_refused_with_what_was_expected_and_what_came(card: Card, variant: str) -> None:
    said = card.run(LOAD + f"print(json.dumps({CALLS[variant]}))")

    file = next(f.file for (_, name), f in manifest("cuda").items() if name == variant)
    assert said.startswith(f"ConfigurationError: {file} on cuda:0 with scene: the device computes wrong values")
    assert "expected " in said
    assert "got " in said


def test_an_fp16_file_without_a_plan_leaves_fp32_and_the_log_says_why(card: Card) -> None:
    program = (
        LOAD
        + f"""
from loguru import logger
lines = []
logger.remove()
logger.add(lambda line: lines.append([line.record["message"], line.record["extra"].get("error", "")]))
print(json.dumps([{CALLS["general"]}, lines]))
"""
    )
    file, lines = card.run(program, answers=True, noplan="half")

    assert file == "superres-x4.general.cuda.onnx"
    assert [message for message, _ in lines] == ["fp16 cannot be used, fp32 is"]
    assert "CUDNN_FE failure" in lines[0][1]


def test_a_file_without_any_plan_is_a_matter_of_configuration(card: Card) -> None:
    said = card.run(LOAD + f"print(json.dumps({CALLS['general']}))", answers=True, noplan="all")

    assert said.startswith("ConfigurationError: superres-x4.general.cuda.onnx on cuda:0: CUDNN_FE failure")


@pytest.mark.parametrize("launch", [*at_length(1, 150), 500])
def test_a_card_that_is_lost_while_models_are_checked_is_lost_in_fp16_too(card: Card, launch: int) -> None:
    said = card.run(LOAD + f"print(json.dumps({CALLS['general']}))", answers=True, sticky=700, sticky_from=launch)

    assert said.startswith("DeviceBroken: superres-x4.general.cuda.onnx on cuda:0: CUD")


@pytest.mark.parametrize(
    ("faults", "line"),
    [({}, "the device computes wrong values"), ({"launch": 209, "cc": 100}, "has compute capability 10.0")],
    ids=["computes nothing", "no code"],
)
def test_a_worker_on_such_a_card_ends_with_one_line_and_the_status_of_a_wrong_setting(
    card: Card, faults: dict[str, object], line: str
) -> None:
    device = Device(name="cuda:3", kind="cuda", threads=1, sides=(128,), batches=(1,), precision="auto")
    argv = [
        card.python,
        "-m",
        "penstock",
        "worker-process",
        "--id",
        "w",
        "--device",
        msgspec.json.encode(device).decode(),
    ]

    ended = subprocess.run(
        argv, env=os.environ | card.variables(**faults), capture_output=True, text=True, timeout=120, check=False
    )

    said = [text for text in ended.stderr.splitlines() if "cuda:3" in text]
    assert ended.returncode == 78, ended.stderr
    assert len(said) == 1
    assert line in said[0]
