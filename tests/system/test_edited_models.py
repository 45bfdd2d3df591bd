"""A model of the operator's own that was edited gives no results of before, and gives what its card says."""

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.models.digests import results_digest
from penstock.models.superres import SuperResolution
from penstock.settings import clean_environment
from tests.support.processes import System, up, wait_for

PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"

SOURCE = """
import numpy as np
from constant_helper import OFFSET
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work, model_runner

class Constant(BaseModelRunner[Params]):
    files = ("weight.txt",)

    def load_model(self, device):
        self.weight = int(self.read_file("weight.txt"))

    def prepare(self, source, params):
        return Work([np.zeros(1, np.float32)])

    def infer(self, tiles, work):
        return list(tiles)

    def postprocess(self, work, params, output):
        return Product(data={"answer": self.weight + OFFSET + 0})

@model_runner("constant-v1")
class Honest(Constant):
    card = Card(title="Gives data", produces="data")

@model_runner("table-v1")
class Table(Constant):
    def postprocess(self, work, params, output):
        return Product(file=b"a,b", content_type="text/csv; charset=utf-8", extension="csv")

@model_runner("boastful-v1")
class Boastful(Constant):
    card = Card(title="Gives data too", produces="image")

@model_runner("empty-v1")
class Empty(Constant):
    card = Card(title="Gives nothing", produces="data")

    def postprocess(self, work, params, output):
        return Product()
"""


ENVIRON = {
    "GPU_IDS": "cpu",
    "PENSTOCK_MODELS_MODULES": "constant_model",
    "PENSTOCK_MODELS_SERVE": "constant-v1,boastful-v1,table-v1,empty-v1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def submitted(running: System, source: Path, output: Path, model: str) -> str:
    """What the command says on a run from the shell."""
    argv = [sys.executable, "-m", "penstock", "submit", source, "-o", output, "--model", model]
    key = {"PENSTOCK_URL": running.url, "PENSTOCK_API_KEY": running.api_key}
    done = subprocess.run([str(part) for part in argv], env=clean_environment() | key, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def answer_of(client: httpx.Client, model: str = "constant-v1") -> dict[str, Any]:
    url = f"data:image/jpeg;base64,{base64.b64encode(PHOTO.read_bytes()).decode()}"
    submitted = client.post("/v1/tasks", json={"model": model, "input": {"image_url": url}})
    assert submitted.status_code == 202, submitted.text
    return wait_for(client, submitted.json()["task_id"], "SUCCESS", "FAILED")


def test_an_edited_model_runs_again_where_an_unchanged_one_gives_its_result_of_before(tmp_path: Path) -> None:
    module, weight, helper = (tmp_path / name for name in ("constant_model.py", "weight.txt", "constant_helper.py"))
    environ = ENVIRON | {"PYTHONPATH": str(tmp_path)}
    module.write_text(SOURCE)
    weight.write_text("1")
    helper.write_text("OFFSET = 0")
    seen = []
    for edit in (
        None,
        lambda: module.write_text(SOURCE.replace("+ 0", "+ 10")),
        lambda: weight.write_text("2"),
        lambda: helper.write_text("OFFSET = 100"),
    ):
        if edit:
            edit()
        with up(tmp_path / "data", **environ) as running, running.client() as client:
            first, second = answer_of(client), answer_of(client)
            boastful, empty = answer_of(client, "boastful-v1"), answer_of(client, "empty-v1")
        seen.append((first["result"]["data"]["answer"], first["reuse"], second["reuse"]))

    assert seen == [(1, "miss", "hit"), (11, "miss", "hit"), (12, "miss", "hit"), (112, "miss", "hit")]
    assert boastful["error"]["code"] == "model_result_invalid"
    assert boastful["error"]["message"] == "the model returned no file, and its card says that it produces an image"
    assert empty["error"]["message"] == "the model returned a Product without a file and without data"
    assert len(boastful["attempts"]) == len(empty["attempts"]) == 1


def test_a_model_that_says_nothing_of_its_results_has_them_named_by_their_type(tmp_path: Path) -> None:
    (tmp_path / "constant_model.py").write_text(SOURCE)
    (tmp_path / "weight.txt").write_text("1")
    (tmp_path / "constant_helper.py").write_text("OFFSET = 0")
    environ = ENVIRON | {"PYTHONPATH": str(tmp_path)}
    with up(tmp_path / "data", **environ) as running:
        printed = [submitted(running, PHOTO, tmp_path / "out", "table-v1") for _ in range(2)]

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.csv"]
    assert (tmp_path / "out/photo.csv").read_bytes() == b"a,b"
    assert "1 done" in printed[0]
    assert "skipped" in printed[1]


def test_the_digest_of_a_built_in_model_is_that_of_its_version_and_its_files() -> None:
    assert results_digest(SuperResolution) == SuperResolution.digest()


def test_a_file_that_a_runner_does_not_list_cannot_be_read() -> None:
    with pytest.raises(Exception, match="not in the runner's `files`"):
        SuperResolution.read_file("secret.txt")
