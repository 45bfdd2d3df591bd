"""A whole `penstock up` with two cards that compute nothing."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.standin.card import Card
from tests.standin.environment import ROOT
from tests.support.nvidia_smi import NvidiaSmi
from tests.support.processes import System, up, wait_for

GOOD, SICK = "GPU-aaaa", "GPU-bbbb"
PHOTO = "data:image/jpeg;base64," + base64.b64encode((ROOT / "src/penstock/models/photo.jpg").read_bytes()).decode()


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """The file with the cards that are lost."""
    return tmp_path / "lost"


@pytest.fixture
def system(card: Card, tmp_path: Path, lost: Path) -> Iterator[System]:
    tool = NvidiaSmi(tmp_path / "bin")
    tool.lists(GOOD, SICK)
    one_small_model = {"PENSTOCK_MODELS_SERVE": "image-scoring-v1", "PENSTOCK_WORKER_MAX_BATCH": "1"}
    variables = card.variables(lostfile=lost) | tool.environment() | one_small_model
    with up(tmp_path / "data", card.python, **variables) as running:
        yield running


def submit(client: httpx.Client) -> str:
    body = {"model": "image-scoring-v1", "input": {"image_url": PHOTO}, "reuse": False}
    return str(client.post("/v1/tasks", json=body).raise_for_status().json()["task_id"])


def test_a_task_runs_on_a_card(system: System) -> None:
    with system.client() as client:
        done = wait_for(client, submit(client))

    assert done["execution"]["device"] in ("cuda:0", "cuda:1")
