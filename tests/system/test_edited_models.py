"""A model of the operator's own that was edited gives no results of before, and gives what its card says."""

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.models.digests import results_digest
from penstock.models.superres import SuperResolution
from tests.support.processes import up, wait_for

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
        return Product(data={"answer": self.weight + OFFSET})

@model_runner("constant-v1")
class Honest(Constant):
    card = Card(title="Gives data", produces="data")

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
    "PENSTOCK_MODELS_SERVE": "constant-v1,boastful-v1,empty-v1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def answer_of(client: httpx.Client, model: str = "constant-v1") -> dict[str, Any]:
    url = f"data:image/jpeg;base64,{base64.b64encode(PHOTO.read_bytes()).decode()}"
    submitted = client.post("/v1/tasks", json={"model": model, "input": {"image_url": url}})
    assert submitted.status_code == 202, submitted.text
    return wait_for(client, submitted.json()["task_id"], "SUCCESS", "FAILED")


@pytest.mark.at_length
def test_an_edited_model_runs_again_where_an_unchanged_one_gives_its_result_of_before(tmp_path: Path) -> None:
    """Here what it imports is edited; `tests/unit/test_loading.py` has every other edit."""
    (tmp_path / "constant_model.py").write_text(SOURCE)
    (tmp_path / "weight.txt").write_text("1")
    seen = []
    for offset in (0, 100):
        (tmp_path / "constant_helper.py").write_text(f"OFFSET = {offset}")
        with up(tmp_path / "data", PYTHONPATH=str(tmp_path), **ENVIRON) as running, running.client() as client:
            first, second = answer_of(client), answer_of(client)
            boastful, empty = answer_of(client, "boastful-v1"), answer_of(client, "empty-v1")
        seen.append((first["result"]["data"]["answer"], first["reuse"], second["reuse"]))

    assert seen == [(1, "miss", "hit"), (101, "miss", "hit")]
    assert boastful["error"]["code"] == "model_result_invalid"
    assert boastful["error"]["message"] == "the model returned no file, and its card says that it produces an image"
    assert empty["error"]["message"] == "the model returned a Product without a file and without data"
    assert len(boastful["attempts"]) == len(empty["attempts"]) == 1


def test_the_digest_of_a_built_in_model_is_that_of_its_version_and_its_files() -> None:
    assert results_digest(SuperResolution) == SuperResolution.digest()


def test_a_file_that_a_runner_does_not_list_cannot_be_read() -> None:
    with pytest.raises(Exception, match="not in the runner's `files`"):
        SuperResolution.read_file("secret.txt")
