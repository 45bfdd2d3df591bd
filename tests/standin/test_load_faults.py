"""Cards and hosts on which nothing can run: one line that says why, and no start of the process again and again."""

import pytest

from tests.standin.card import Card
from tests.support.lengths import at_length

LOAD = """
import json
from penstock.core.device import Device
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import manifest

device = Device(name="cuda:0", kind="cuda", threads=1, sides=(128, 192), batches=(1, 2), precision="auto")
try:
    open_session(manifest("cuda")["superres-x4", "general"], device)
    print(json.dumps("loaded"))
except Exception as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
"""

UNUSABLE = [
    ({"without": ("libcuda.so.1",)}, "libcuda.so.1 is missing: the NVIDIA driver is not visible here"),
    ({"without": ("libcudnn.so.9",)}, "libcudnn.so is missing: install cuDNN 9"),
    ({"getcount": 35}, "the NVIDIA driver is older than CUDA 13 needs, which is 580 (CUDA failure 35"),
    ({"launch": 209, "cc": 70}, "8.9, 9.0, 12.0; this card, stand-in, has compute capability 7.0"),
    ({"without": ("libcublas.so.13",)}, "libcublas.so.13 is missing: install the libraries of CUDA 13"),
    ({"getcount": 100}, "this process sees no GPU (CUDA failure 100"),
    ({"getcount": 803}, "of different versions: restart the machine (CUDA failure 803"),
    ({"launch": 222}, "the NVIDIA driver is older than CUDA 13 needs"),
]
SHORT = 4
"""How many of them the short form tries."""


@pytest.mark.parametrize(("faults", "cause"), [*UNUSABLE[:SHORT], *at_length(*UNUSABLE[SHORT:])], ids=str)
def test_what_no_start_mends_is_a_matter_of_configuration_whose_cause_is_in_the_line(
    card: Card, faults: dict[str, object], cause: str
) -> None:
    said = card.run(LOAD, **faults)  # type: ignore[arg-type]

    assert said.startswith("ConfigurationError: superres-x4.general.cuda.onnx ")
    assert cause in said
    assert "\n" not in said
    assert "onnxruntime_src" not in said


@pytest.mark.parametrize("status", [*at_length(2, 46), 802])  # full, exclusive, not initialized yet
def test_what_may_pass_is_worth_another_start(card: Card, status: int) -> None:
    assert card.run(LOAD, getcount=status).startswith("DeviceBroken: ")


def test_the_process_knows_its_card_and_the_versions_around_it(card: Card) -> None:
    program = """
import json, msgspec
from penstock.core.device import Device
from penstock.models.onnxruntime.identity import card_identity
from penstock.models.onnxruntime.session import Session, manifest
before = card_identity()
Session(manifest("cuda")["superres-x4", "clean"],
        Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,)))
card = card_identity()
print(json.dumps([before, msgspec.to_builtins(card), card.has_code]))
"""
    before, known, has_code = card.run(program, cc=89, mem=24, driver=13010, cudnn=92801)

    assert before is None
    assert known | {"driver": ""} == {
        "name": "stand-in",
        "capability": "8.9",
        "memory_bytes": 24 * 2**30,
        "driver": "",
        "driver_serves": "13.1",
        "cuda": "13.0",
        "cudnn": "9.28.1",
    }
    assert has_code
