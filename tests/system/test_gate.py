"""Output checks, scores and comparisons over HTTP, with real processes."""

import io
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.declared import folder_of, noise
from tests.support.drive import data_uri
from tests.support.processes import System, penstock, up, wait_for
from tests.worker.test_output_checks import file_of, squared

pytestmark = pytest.mark.at_length

PHOTO = (resources.files("penstock.models") / "photo.jpg").read_bytes()
TOML = 'kind = "image-to-image"\n[output]\nscale = 2\n[input]\nresize = "none"\n'
WISHES = {"variant": "clean", "post": {"score": True, "min_gain": 9}, "compare": True}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A server whose model `square` gives no numbers for what is white, and numbers for all else."""
    place = tmp_path_factory.mktemp("server")
    folder_of(place / "models" / "square", TOML, squared(half=False, gain=1.845e19))
    with up(place, GPU_IDS="cpu") as system:
        yield system


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    with system.client() as client:
        yield client


def submitted(client: httpx.Client, model: str, image: bytes, **params: Any) -> str:
    body = {"model": model, "input": {"image_url": data_uri(image)}, "params": params}
    answer = client.post("/v1/tasks", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def test_an_image_whose_output_is_no_number_fails_alone(client: httpx.Client, system: System) -> None:
    images = [noise(30, 40, seed) // 2 for seed in range(5)]
    images[2][3, 3] = 255

    tasks = [submitted(client, "square", file_of(rgb)) for rgb in images]
    views = [wait_for(client, task, "SUCCESS", "FAILED") for task in tasks]

    assert [view["status"] for view in views] == ["SUCCESS", "SUCCESS", "FAILED", "SUCCESS", "SUCCESS"]
    assert views[2]["error"]["code"] == "invalid_output"
    assert "not numbers" in views[2]["error"]["message"]
    assert len(views[2]["attempts"]) == 1
    counted = [(labels["outcome"], value) for labels, value in system.metrics()["penstock_outputs_invalid_total"]]
    assert counted == [("failed", 1.0)]


def test_scores_and_a_comparison_come_with_the_result(client: httpx.Client) -> None:
    view = wait_for(client, submitted(client, "superres-x4", PHOTO, **WISHES))

    result = view["result"]
    score = result["data"]["score"]
    assert score["gain"] == pytest.approx(score["after"] - score["before"], abs=1e-4)
    assert score["below_min_gain"] is True
    assert result["notes"] == ["below_min_gain"]
    files = {file["name"]: client.get(file["url"]).content for file in result["files"]}
    assert [*files] == ["result.png", "before.png", "after.png", "side_by_side.png"]
    assert files["after.png"] == files["result.png"]
    expected = Image.open(io.BytesIO(PHOTO)).resize((900, 600), Image.Resampling.BICUBIC)
    before = np.asarray(Image.open(io.BytesIO(files["before.png"]))).astype(int)
    assert np.abs(before - np.asarray(expected)).max() <= 1
    assert Image.open(io.BytesIO(files["side_by_side.png"])).size == (1800, 600)


def test_the_command_line_asks_for_the_same(system: System, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    options = ["--param", "variant=clean", "--param", 'post={"score": true}', "--param", "compare=true", "--json"]

    ended = penstock(
        tmp_path, "submit", *options, "photo.jpg", PENSTOCK_URL=system.url, PENSTOCK_API_KEY=system.api_key
    )

    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["data"]["score"]["after"] > 1, said
    names = {path.name for path in tmp_path.rglob("*.png")}
    assert names == {"photo.png", "photo.before.png", "photo.after.png", "photo.side_by_side.png"}
