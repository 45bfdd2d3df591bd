"""A worker process that gives no sign of life is killed, replaced and counted; whoever only slept is not."""

import base64
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from penstock.core.task import State
from penstock.settings import Settings, environment_of
from penstock.store import Store
from tests.support import hanging_model, slow_model
from tests.support.processes import Process, System, up, wait_for
from tests.support.workers import ended, submit_image, until

PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"

LEASE_S = 1
"""A worker counts as hung after three times as long."""

SILENT_S = 3 * LEASE_S + 2


@contextmanager
def system(data_dir: Path, **environ: str) -> Iterator[System]:
    usual = {
        "GPU_IDS": "cpu",
        "PENSTOCK_QUEUE_LEASE_S": str(LEASE_S),
        "PENSTOCK_MODELS_MODULES": "tests.support.hanging_model,tests.support.slow_model",
        "PENSTOCK_MODELS_SERVE": f"{hanging_model.MODEL},{slow_model.MODEL}",
    }
    with up(data_dir, **usual | environ) as running:
        yield running


def submit(client: httpx.Client, model: str, **params: float) -> str:
    url = f"data:image/jpeg;base64,{base64.b64encode(PHOTO.read_bytes()).decode()}"
    asked = {"model": model, "params": params, "input": {"image_url": url}, "reuse": False}
    answer = client.post("/v1/tasks", json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def counted(running: System, name: str, **labels: str) -> float:
    """What the parent of all has counted."""
    wanted = {"process": "parent"} | labels
    rows = running.metrics().get(name, [])
    return sum(value for labels, value in rows if wanted.items() <= labels.items())


def await_count(running: System, expected: float, name: str, **labels: str) -> None:
    until = time.monotonic() + 60
    while counted(running, name, **labels) != expected:
        assert time.monotonic() < until, (name, labels, running.metrics().get(name))
        time.sleep(0.1)


def test_a_frozen_worker_is_replaced_and_its_task_goes_on_elsewhere(tmp_path: Path) -> None:
    with system(tmp_path) as running, running.client() as client:
        assert counted(running, "penstock_workers_hung_total") == 0
        frozen = running.process.child("worker-process")
        os.kill(frozen, signal.SIGSTOP)
        task = wait_for(client, submit(client, slow_model.MODEL))

        assert running.process.child("worker-process") != frozen
        assert not Path(f"/proc/{frozen}").exists()
        assert task["status"] == "SUCCESS"
        await_count(running, 1, "penstock_workers_hung_total", child="worker-cpu")
        await_count(running, 1, "penstock_process_restarts_total", child="worker-cpu")


@pytest.mark.at_length
def test_a_call_that_holds_the_interpreter_ends_its_worker_and_at_last_its_task(tmp_path: Path) -> None:
    with system(tmp_path, PENSTOCK_QUEUE_MAX_CRASHES="2") as running, running.client() as client:
        task = wait_for(client, submit(client, hanging_model.MODEL), "FAILED")
        other = wait_for(client, submit(client, slow_model.MODEL))

        assert task["error"]["code"] == "poison_input"
        assert [attempt["outcome"] for attempt in task["attempts"]] == ["lost", "lost"]
        assert other["status"] == "SUCCESS"
        assert counted(running, "penstock_workers_hung_total", child="worker-cpu") == 2


@pytest.mark.at_length
def test_what_a_killed_worker_leaves_behind_is_counted(tmp_path: Path) -> None:
    with system(tmp_path, PENSTOCK_QUEUE_MAX_CRASHES="1") as running, running.client() as client:
        task_id = submit(client, slow_model.MODEL, tile_s=600)
        wait_for(client, task_id, "RUNNING")
        os.kill(running.process.child("worker-process"), signal.SIGKILL)
        task = wait_for(client, task_id, "FAILED")

        assert task["error"]["code"] == "poison_input"
        await_count(running, 1, "penstock_process_restarts_total", child="worker-cpu")
        reclaimed = [
            (labels["status"], value) for labels, value in running.metrics()["penstock_leases_reclaimed_total"]
        ]
        ended = [
            (labels["model"], labels["code"])
            for labels, value in running.metrics()["penstock_tasks_finished_total"]
            if labels["status"] == "FAILED"
        ]
        assert reclaimed == [("FAILED", 1)]
        assert ended == [(slow_model.MODEL, "poison_input")]
        assert counted(running, "penstock_workers_hung_total") == 0


async def test_a_worker_whose_parent_is_killed_ends_when_it_has_finished_its_task(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    """Its heartbeat finds out while the task runs, after the kernel has told it."""
    environ = environment_of(settings) | {
        "PENSTOCK_WORKER_GPU_IDS": "cpu",
        "PENSTOCK_QUEUE_LEASE_S": "3",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
        "PENSTOCK_MODELS_SERVE": slow_model.MODEL,
        "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
    }
    parent = Process(["worker"], environ, tmp_path / "worker.log")
    try:
        task_id = await submit_image(store, slow_model.MODEL, {"tile_s": 4.0})
        await until(partial(is_on_the_device, store, task_id), within_s=60)
        worker = parent.child("worker-process")
    finally:
        parent.stop(signal.SIGKILL)
    task = await ended(store, task_id)

    assert (task.state, [attempt.outcome for attempt in task.attempts]) == (State.SUCCESS, ["complete"])
    assert "the parent is gone" in parent.log.read_text()
    await until(partial(has_ended, worker))


async def is_on_the_device(store: Store, task_id: str) -> bool:
    return (await store.tasks.get(task_id, "default")).stage == "infer"


def has_ended(pid: int) -> bool:
    """Whoever it is left to may not have looked yet how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.at_length
def test_a_machine_that_slept_finds_no_hung_worker(tmp_path: Path) -> None:
    with system(tmp_path) as running, running.client() as client:
        worker = running.process.child("worker-process")
        for pid in (worker, running.process.popen.pid):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(SILENT_S)
        os.kill(running.process.popen.pid, signal.SIGCONT)
        time.sleep(0.5)
        os.kill(worker, signal.SIGCONT)

        wait_for(client, submit(client, slow_model.MODEL))
        assert running.process.child("worker-process") == worker
        assert counted(running, "penstock_workers_hung_total") == 0


@pytest.mark.at_length
def test_a_worker_that_never_ends_loading_is_started_anew(tmp_path: Path) -> None:
    environ = {hanging_model.FIRST_LOAD: str(tmp_path / "loaded"), "PENSTOCK_WORKER_START_S": "6"}
    with system(tmp_path, **environ) as running, running.client() as client:
        wait_for(client, submit(client, slow_model.MODEL))

        assert counted(running, "penstock_workers_hung_total", child="worker-cpu") >= 1
