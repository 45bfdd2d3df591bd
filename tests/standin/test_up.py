"""A whole `penstock up` with two cards that compute nothing, and `doctor` beside one."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.standin.card import Card
from tests.standin.environment import ROOT
from tests.support.nvidia_smi import NvidiaSmi
from tests.support.processes import System, up, wait_for

GOOD, SICK = "GPU-aaaa", "GPU-bbbb"
PHOTO = "data:image/jpeg;base64," + base64.b64encode((ROOT / "src/penstock/models/photo.jpg").read_bytes()).decode()
WITHIN_S = 60.0
QUICK = {
    "PENSTOCK_MODELS_SERVE": "image-scoring-v1",
    "PENSTOCK_WORKER_MAX_BATCH": "1",
    "PENSTOCK_WORKER_DEVICE_RETRY_S": "1",
    "PENSTOCK_QUEUE_MAX_CRASHES": "20",
}


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """The file with the cards that are lost."""
    return tmp_path / "lost"


@pytest.fixture
def tool(tmp_path: Path) -> NvidiaSmi:
    """The driver's tool, which lists two cards."""
    tool = NvidiaSmi(tmp_path / "bin")
    tool.lists(GOOD, SICK)
    return tool


@pytest.fixture
def host(card: Card, tool: NvidiaSmi, lost: Path) -> dict[str, str]:
    """The variables of a host with two cards."""
    return card.variables(answers=True, lostfile=lost, delay_us=2000) | tool.environment()


@pytest.fixture
def system(card: Card, host: dict[str, str], tmp_path: Path) -> Iterator[System]:
    with up(tmp_path / "data", card.python, **host, **QUICK) as running:
        yield running


def until(fact: Callable[[], Any], expected: Any) -> None:
    give_up = time.monotonic() + WITHIN_S
    while (now := fact()) != expected:
        assert time.monotonic() < give_up, now
        time.sleep(0.1)


def submit(client: httpx.Client) -> str:
    body = {"model": "image-scoring-v1", "input": {"image_url": PHOTO}, "reuse": False}
    return str(client.post("/v1/tasks", json=body).raise_for_status().json()["task_id"])


def states(client: httpx.Client) -> dict[str, str]:
    return {worker["device"]: worker["state"] for worker in client.get("/v1/workers").json()["data"]}


def clocks(system: System) -> set[str]:
    """The devices of which the clock is shown."""
    return {labels["device"] for labels, _ in system.metrics().get("penstock_gpu_clock_hertz", [])}


def test_when_one_card_is_lost_every_task_ends_on_the_other(system: System, lost: Path) -> None:
    with system.client() as client:
        until(lambda: states(client), {"cuda:0": "READY", "cuda:1": "READY"})
        shown = clocks(system)
        tasks = [submit(client) for _ in range(20)]
        lost.write_text(SICK)
        ended = [wait_for(client, task) for task in tasks]
        # A worker notices that its card is lost when a task runs there.
        until(lambda: submit(client) and states(client), {"cuda:0": "READY", "cuda:1": "DOWN"})
        warnings = client.get("/readyz").raise_for_status().json()["warnings"]

        assert shown == {"cuda:0", "cuda:1"}
        assert {task["execution"]["device"] for task in ended} <= {"cuda:0", "cuda:1"}
        assert len(warnings) == 1
        assert "CUDA failure 100" in warnings[0]

        lost.unlink()
        until(lambda: states(client), {"cuda:0": "READY", "cuda:1": "READY"})


@pytest.mark.at_length
def test_the_health_of_a_card_that_was_lost_at_the_start_is_shown_when_it_is_back(
    card: Card, host: dict[str, str], tool: NvidiaSmi, tmp_path: Path
) -> None:
    tool.answers(f"0, {GOOD}, 15360, Disabled\n1, [GPU is lost], [GPU is lost], [GPU is lost]\n")
    with up(tmp_path / "data", card.python, **host, **QUICK) as system, system.client() as client:
        until(lambda: states(client), {"cuda:0": "READY", "cuda:1": "DOWN"})
        tool.lists(GOOD, SICK)
        until(lambda: states(client), {"cuda:0": "READY", "cuda:1": "READY"})

        until(lambda: clocks(system), {"cuda:0", "cuda:1"})


def test_doctor_refuses_a_card_that_computes_nothing(card: Card, tmp_path: Path) -> None:
    tool = NvidiaSmi(tmp_path / "bin")
    tool.lists(GOOD)
    done = subprocess.run(
        [card.python, "-m", "penstock", "doctor", "--json"],
        env=os.environ | card.variables() | tool.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {finding["check"]: finding for finding in map(json.loads, done.stdout.splitlines())}["device"]

    assert (found["state"], "the device computes wrong values" in found["found"]) == ("fail", True), found
