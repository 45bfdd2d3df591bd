"""A device that is lost, at the start or later: the other workers and the API go on, it is told of, and tried again.

The devices are called CUDA devices, by a driver of this test; the model on them needs no GPU.
"""

import base64
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.local.deaths import EXIT_CONFIGURATION
from tests.support import lost_model
from tests.support.nvidia_smi import NvidiaSmi, install_gpu_runtime
from tests.support.processes import Process, System, up, wait_for
from tests.support.redis_server import RedisProcess

pytestmark = pytest.mark.at_length

PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"
ROWS = ["0, GPU-aaaa, 81559, Disabled\n", "1, GPU-bbbb, 81559, Disabled\n"]
BOTH_READY = {"cuda:0": "READY", "cuda:1": "READY"}
WITHIN_S = 60.0
SILENT_S = 60.0
"""As long as the driver has."""


class Host:
    """A host with two GPUs, which are lost and come back as the test says."""

    def __init__(self, directory: Path) -> None:
        self._lost = directory / "lost"
        self._lost.mkdir()
        self._tool = NvidiaSmi(directory / "bin")
        install_gpu_runtime(directory)
        self.lists(*ROWS)
        self.environ = self._tool.environment() | {
            "PYTHONPATH": str(directory),
            "GPU_IDS": "auto",
            "PENSTOCK_MODELS_MODULES": "tests.support.lost_model",
            "PENSTOCK_MODELS_SERVE": lost_model.MODEL,
            "PENSTOCK_WORKER_DEVICE_RETRY_S": "1",
            "PENSTOCK_QUEUE_MAX_CRASHES": "20",
            lost_model.LOST: str(self._lost),
        }

    def lose(self, *devices: str) -> None:
        """Lets each of these devices fail, in runs and when a model is loaded."""
        for device in devices:
            (self._lost / device).touch()

    def mend(self, *devices: str) -> None:
        for device in devices:
            (self._lost / device).unlink()

    def lists(self, *rows: str) -> None:
        """What the driver says from now on."""
        self._tool.answers("".join(rows))

    def is_silent(self) -> None:
        """The driver gives no answer for long."""
        self._tool.answers(after_s=SILENT_S)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@contextmanager
def running(host: Host, data_dir: Path) -> Iterator[tuple[System, httpx.Client]]:
    with up(data_dir, **host.environ) as system, system.client() as client:
        yield system, client


def until(fact: Callable[[], Any], expected: Any) -> None:
    give_up = time.monotonic() + WITHIN_S
    while (now := fact()) != expected:
        assert time.monotonic() < give_up, now
        time.sleep(0.1)


def states(client: httpx.Client) -> dict[str, str]:
    return {worker["device"]: worker["state"] for worker in client.get("/v1/workers").json()["data"]}


def down(system: System) -> dict[str, float]:
    return {labels["device"]: value for labels, value in system.metrics()["penstock_worker_device_down"]}


def submit(client: httpx.Client) -> str:
    url = f"data:image/jpeg;base64,{base64.b64encode(PHOTO.read_bytes()).decode()}"
    asked = {"model": lost_model.MODEL, "input": {"image_url": url}, "reuse": False}
    answer = client.post("/v1/tasks", json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def test_a_gpu_is_lost_at_the_start_and_later_and_the_other_and_the_api_go_on(host: Host, tmp_path: Path) -> None:
    host.lists(ROWS[0], "1, [GPU is lost], [GPU is lost], [GPU is lost]\n")
    with running(host, tmp_path / "data") as (system, client):
        until(lambda: states(client), {"cuda:0": "READY", "cuda:1": "DOWN"})
        assert "GPU is lost" in client.get("/readyz").json()["warnings"][0]
        host.lists(*ROWS)
        until(lambda: states(client), BOTH_READY)

        every_task_ends_while_one_gpu_is_lost(host, system, client)

        host.lose("cuda:0")
        last = submit(client)
        until(lambda: states(client), {"cuda:0": "DOWN", "cuda:1": "DOWN"})
        assert client.get("/readyz").json()["workers"] == 0
        assert system.process.popen.poll() is None

        host.mend("cuda:0", "cuda:1")
        until(lambda: states(client), BOTH_READY)
        assert wait_for(client, last)["status"] == "SUCCESS"
        assert down(system) == {"cuda:0": 0, "cuda:1": 0}
        assert client.get("/readyz").json()["warnings"] == []


def every_task_ends_while_one_gpu_is_lost(host: Host, system: System, client: httpx.Client) -> None:
    tasks = [submit(client) for _ in range(10)]
    host.lose("cuda:1")

    def states_under_load() -> dict[str, str]:
        tasks.append(submit(client))  # a worker without tasks does not notice that its device is lost
        return states(client)

    until(states_under_load, {"cuda:0": "READY", "cuda:1": "DOWN"})
    for task in tasks:
        assert wait_for(client, task)["status"] == "SUCCESS"
    shown = next(w for w in client.get("/v1/workers").json()["data"] if w["state"] == "DOWN")
    ready = client.get("/readyz").json()

    assert lost_model.NO_DEVICE in shown["reason"]
    assert (ready["workers"], len(ready["warnings"])) == (1, 1)
    assert ready["warnings"][0].startswith(f"device cuda:1 of {shown['host']} is down: ")
    assert lost_model.NO_DEVICE in ready["warnings"][0]
    assert down(system) == {"cuda:0": 0, "cuda:1": 1}
    assert "device down" in system.process.log.read_text()


@pytest.mark.at_length
def test_a_server_that_finds_no_gpu_that_works_does_not_start(host: Host, tmp_path: Path) -> None:
    host.lose("cuda:0", "cuda:1")
    process = Process(["up", "--port", "0", "--data-dir", str(tmp_path / "data")], host.environ, tmp_path / "log")

    assert process.popen.wait(WITHIN_S) == EXIT_CONFIGURATION
    assert lost_model.NO_DEVICE in (tmp_path / "log").read_text()


@pytest.mark.at_length
def test_a_wrong_setting_with_which_no_worker_can_run_is_the_last_line(host: Host, tmp_path: Path) -> None:
    environ = host.environ | {"PENSTOCK_MODELS_SERVE": "nonsense", "PENSTOCK_TELEMETRY_METRICS_PORT": "0"}
    process = Process(["worker"], environ, tmp_path / "log")
    status = process.popen.wait(WITHIN_S)
    *before, last = (tmp_path / "log").read_text().splitlines()

    assert status == EXIT_CONFIGURATION
    assert last.startswith("penstock: no worker can run: models.serve: there is no model nonsense; known are ")
    assert sum("is started again later" in line for line in before) == 1, "of the first of two, and not of the last"


def test_a_stop_does_not_wait_for_a_driver_that_gives_no_answer(host: Host, tmp_path: Path) -> None:
    host.is_silent()
    started = time.monotonic()
    process = Process(["worker"], host.environ, tmp_path / "log")
    threads = Path(f"/proc/{process.popen.pid}/task")
    until(lambda: any(children.read_text() for children in threads.glob("*/children")), True)
    status = process.stop()

    assert status == 0
    assert time.monotonic() - started < SILENT_S / 2


@pytest.mark.at_length
def test_workers_end_only_when_the_last_of_them_is_lost(host: Host, own_redis: RedisProcess, tmp_path: Path) -> None:
    host.lose("cuda:1")
    environ = host.environ | {
        "REDIS_URL": own_redis.url,
        "PENSTOCK_STORAGE_DIRECTORY": str(tmp_path / "objects"),
        "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
    }
    process = Process(["worker"], environ, tmp_path / "log")
    until(lambda: "worker ready" in (tmp_path / "log").read_text(), True)
    until(lambda: "device down" in (tmp_path / "log").read_text(), True)
    assert process.popen.poll() is None
    host.lose("cuda:0")
    os.kill(next(pid for pid in process.children() if b"cuda:0" in Path(f"/proc/{pid}/cmdline").read_bytes()), 9)

    assert process.popen.wait(WITHIN_S) == EXIT_CONFIGURATION
