"""The model with an ONNX file in docs/tutorials/your-own-model.md, on a card."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.standin.card import Card, ProgramFailed
from tests.standin.environment import ROOT

TUTORIAL = ROOT / "docs" / "tutorials" / "your-own-model.md"
NETWORK = ROOT / "src" / "penstock" / "weights" / "image-scoring-v1.nima.onnx"

LOAD = """
import json, sys
sys.path.insert(0, {directory})
from my_networks import MyScore
from penstock.core.device import Device
from penstock.settings import LimitSettings

model = MyScore(LimitSettings())
model.load_model(Device(name="cuda:0", kind="cuda", threads=1, batches=(1,)))
print(json.dumps(model.session.get_providers()[0]))
"""


@pytest.fixture
def load(tmp_path: Path) -> str:
    """A program that loads the model, and prints the provider that runs it."""
    texts = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    (tmp_path / "my_networks.py").write_text(next(text for text in texts if text.startswith("# my_networks.py")))
    shutil.copy(NETWORK, tmp_path / "my-network.onnx")
    return LOAD.format(directory=json.dumps(str(tmp_path)))


def test_a_model_of_ones_own_runs_on_the_card(card: Card, load: str) -> None:
    assert card.run(load) == "CUDAExecutionProvider"


def test_it_does_not_run_on_the_cpu_in_silence_where_the_card_cannot_be_used(card: Card, load: str) -> None:
    with pytest.raises(ProgramFailed, match="fallback to CPU EP has been explicitly disabled"):
        card.run(load, without=("libcublas.so.13",))
