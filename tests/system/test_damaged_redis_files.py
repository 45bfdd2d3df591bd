"""`penstock up` on an append-only file of Redis that a disk has damaged: R10 of the scenarios."""

import subprocess
from pathlib import Path

import pytest

from penstock.local.deaths import EXIT_CONFIGURATION
from penstock.local.redis_server import find_server
from tests.support.drive import data_uri, image
from tests.support.processes import Process, System, up, wait_for

ENVIRON = {
    "GPU_IDS": "cpu",
    "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
    "PENSTOCK_MODELS_SERVE": "noop-v1",
    "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
}


def ended_task(system: System) -> str:
    with system.client() as client:
        task = {"model": "noop-v1", "input": {"image_url": data_uri(image())}, "reuse": False}
        task_id = client.post("/v1/tasks", json=task).raise_for_status().json()["task_id"]
        assert wait_for(client, task_id)["status"] == "SUCCESS"
    return str(task_id)


def two_ended_tasks(data: Path) -> tuple[str, int, str]:
    """Two tasks, and where in the file of commands those of the second begin."""
    with up(data, **ENVIRON) as system:
        before = ended_task(system)
        at = commands_of(data).stat().st_size
        return before, at, ended_task(system)


def commands_of(data: Path) -> Path:
    """The file with what came since the last rewrite."""
    (file,) = (data / "redis/appendonlydir").glob("*.incr.aof")
    return file


def looks(system: System, *tasks: str) -> list[int]:
    with system.client() as client:
        return [client.get(f"/v1/tasks/{task}").status_code for task in tasks]


def test_a_damaged_file_is_the_last_line_and_what_stands_before_the_damage_can_be_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    before, at, after = two_ended_tasks(data)
    whole = commands_of(data).read_bytes()
    at = whole.index(b"\r\n*", at) + 2
    commands_of(data).write_bytes(whole[:at] + b"+" + whole[at + 1 :])

    refused = Process(["up", "--port", "0", "--data-dir", str(data)], ENVIRON, tmp_path / "log")
    status = refused.popen.wait(60)
    last = (tmp_path / "log").read_text().splitlines()[-1]
    (manifest,) = (data / "redis/appendonlydir").glob("*.manifest")
    # The program of the server checks files when it has this name.
    checks = ["redis-check-aof", "--fix", str(manifest)]
    subprocess.run(checks, executable=find_server(), input=b"y\n", check=True, capture_output=True)

    assert status == EXIT_CONFIGURATION
    assert last.startswith("penstock: redis cannot run: Bad file format reading the append only file ")
    assert last.endswith(f"(its files are in {data}/redis)")
    with up(data, **ENVIRON) as system:
        assert looks(system, before, after) == [200, 404]


@pytest.mark.at_length
def test_a_file_whose_end_is_missing_is_read_up_to_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    before, at, after = two_ended_tasks(data)
    whole = commands_of(data).read_bytes()
    commands_of(data).write_bytes(whole[: whole.index(b"\r\n*", at) + 5])

    with up(data, **ENVIRON) as system:
        assert looks(system, before, after) == [200, 404]
