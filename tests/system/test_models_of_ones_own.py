"""The commands around a model of one's own: `penstock models new` and `check`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import penstock

LEAKY = """
import numpy as np
from penstock.models.base import BaseModelRunner, Card
from penstock.models.registry import model_runner

@model_runner("leaky-v1")
class Leaky(BaseModelRunner):
    card = Card(title="Keeps everything", produces="data")
    kept = []

    def prepare(self, input_data):
        return len(input_data["image"])

    def infer(self, tensor):
        self.kept.append(np.ones(400_000))
        return tensor

    def postprocess(self, output):
        return {"bytes": output}
"""


@pytest.mark.at_length
def test_a_new_model_comes_with_a_test_that_passes_and_keeps_the_contract(tmp_path: Path) -> None:
    written = penstock(tmp_path, "models", "new", "sharpness-v1")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert written.returncode == 0, written.stderr
    assert sorted(path.name for path in tmp_path.glob("*.py")) == ["sharpness_v1.py", "test_sharpness_v1.py"]
    assert "penstock up --models sharpness_v1.py --reload" in written.stdout
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout


def test_a_new_model_is_not_written_over_another(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("mine")

    refused = penstock(tmp_path, "models", "new", "mine")

    assert refused.returncode == 1
    assert "test_mine.py exists already; nothing was written" in refused.stderr
    assert not (tmp_path / "mine.py").exists()


def test_a_name_that_no_model_can_have_is_refused(tmp_path: Path) -> None:
    assert "'a@2' is no name for a model" in penstock(tmp_path, "models", "new", "a@2").stderr


def test_a_check_that_fails_is_a_row_of_80_columns_and_an_exit_status(tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)

    table = penstock(tmp_path, "models", "check", "leaky.py:Leaky", COLUMNS="80")

    assert table.returncode == 1
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert table.stdout.splitlines()[-1].endswith("1 of 11 checks failed")
    assert "MB with each run" in table.stdout


def test_a_model_that_cannot_be_checked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_package")

    refused = penstock(tmp_path, "models", "check", "broken.py")

    assert refused.returncode == 78
    assert refused.stderr.count("\n") == 1
    assert "No module named 'no_such_package' (broken.py:1)" in refused.stderr


@pytest.mark.at_length
def test_a_model_is_checked_by_the_name_of_its_module_or_its_own(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "leaky.py").write_text(LEAKY)

    by_module = penstock(tmp_path, "models", "check", "own.leaky", "--json")
    by_name = penstock(tmp_path, "models", "check", "leaky-v1", "--json", PENSTOCK_MODELS_MODULES="own.leaky")

    for done in (by_module, by_name):
        verdicts = {row["check"]: row["verdict"] for row in map(json.loads, done.stdout.splitlines())}
        assert [check for check, verdict in verdicts.items() if verdict == "fail"] == ["memory"], done.stderr
        assert done.returncode == 1
