"""The tests that wait for a GPU, as far as a card that computes nothing can pass them."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.standin.card import Card
from tests.standin.environment import ROOT
from tests.support.nvidia_smi import NvidiaSmi

OF_VALUES = "pixels or tf32 or tolerance or cuda_graph or tensorrt or 00000000"
"""Those that compare values, need TensorRT, or name a card that is not there."""


@pytest.mark.parametrize(
    "which",
    [
        "placed or page_locked",
        pytest.param("tests", marks=pytest.mark.at_length),
    ],
    ids=["some", "all"],
)
def test_the_tests_for_a_gpu_run_on_one(card: Card, tmp_path: Path, which: str) -> None:
    tool = NvidiaSmi(tmp_path / "bin")
    tool.lists("GPU-aaaa")
    chosen = ["-m", "gpu", "-k", f"({which}) and not ({OF_VALUES})"]
    done = subprocess.run(
        [card.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu/test_gpu.py", *chosen],
        env=os.environ | card.variables() | tool.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
