"""Tasks that take three leases, through real processes: a cancel or a freeze costs no later attempt."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.drive import data_uri, image
from tests.support.processes import System, up, wait_for
from tests.support.slow_model import MODEL

LEASE_S = 1.0
TILE_S = 0.5
TILES = int(3 * LEASE_S / TILE_S)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker with short leases."""
    environ = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_MODELS_SERVE": MODEL,
        "PENSTOCK_QUEUE_LEASE_S": str(LEASE_S),
    }
    with up(tmp_path_factory.mktemp("up"), **environ) as running:
        yield running


def submit(client: httpx.Client) -> str:
    """A task of three leases."""
    body = {
        "model": MODEL,
        "input": {"image_url": data_uri(image())},
        "params": {"tiles": TILES, "tile_s": TILE_S},
        "reuse": False,
    }
    return str(client.post("/v1/tasks", json=body).raise_for_status().json()["task_id"])


def on_the_device(client: httpx.Client, task_id: str) -> None:
    """Wait until a part of the task has run."""
    while not wait_for(client, task_id, "RUNNING")["progress"]:
        time.sleep(0.02)


def cancel_and_retry(client: httpx.Client, task_id: str) -> None:
    client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()
    client.post(f"/v1/tasks/{task_id}/retry").raise_for_status()


def outcomes(task: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in task["attempts"]]


def test_a_task_that_is_canceled_and_retried_at_once_ends_with_its_second_attempt(system: System) -> None:
    with system.client() as client:
        task_id = submit(client)
        on_the_device(client, task_id)
        cancel_and_retry(client, task_id)
        task = wait_for(client, task_id)

    assert outcomes(task) == ["cancel", "complete"]
    assert task["result"]["data"] == {"tiles": TILES}


def test_a_cancel_and_a_retry_cost_the_tasks_beside_it_nothing(system: System) -> None:
    with system.client() as client:
        task_id, *others = [submit(client) for _ in range(3)]
        on_the_device(client, task_id)
        cancel_and_retry(client, task_id)
        tasks = [wait_for(client, each) for each in (task_id, *others)]

    assert [outcomes(task) for task in tasks] == [["cancel", "complete"], ["complete"], ["complete"]]


def test_a_task_whose_worker_was_frozen_ends_with_its_second_attempt(system: System) -> None:
    """The worker lives on, with an attempt whose lease is lost."""
    with system.client() as client:
        task_id = submit(client)
        on_the_device(client, task_id)
        worker = system.process.child("worker-process")
        os.kill(worker, signal.SIGSTOP)
        wait_for(client, task_id, "PENDING")
        os.kill(worker, signal.SIGCONT)
        task = wait_for(client, task_id)

    assert outcomes(task) == ["lost", "complete"]
    assert system.process.child("worker-process") == worker
