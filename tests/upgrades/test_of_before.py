"""What the release with the older form has left is opened by this one, and its processes by nobody else."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.support.drive import data_uri, image
from tests.support.fleet import START_TIMEOUT_S, Fleet
from tests.support.processes import Process, up, wait_for
from tests.support.redis_server import RedisProcess
from tests.support.slow_model import MODEL
from tests.upgrades.releases import OLDER_FORM, SAME_FORM, THIS, Release, earlier

pytestmark = [pytest.mark.upgrades, pytest.mark.timeout(900)]

SCORING = {"model": "image-scoring-v1", "input": {"image_url": data_uri(image(64, 48))}}
REFUSED = 78
"""The exit status of a process with a wrong setting, which another start does not repair."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return earlier(OLDER_FORM, tmp_path_factory.mktemp("releases") / "older")


def refusal_of(process: Process) -> str:
    """What a process said that was refused its start."""
    assert process.popen.wait(START_TIMEOUT_S) == REFUSED, process.log.read_text()
    return process.log.read_text()


def test_tasks_of_the_older_form_go_on_under_this_release_once_its_processes_are_stopped(
    own_redis: RedisProcess, tmp_path: Path, older: Release
) -> None:
    with Fleet(own_redis.url, tmp_path) as fleet:
        api, worker = fleet.api(older), fleet.worker(older)
        api.until_workers(1)
        done = api.submit()
        api.ended(done)
        api.client.post(f"/v1/queues/{MODEL}/pause?priority=low").raise_for_status()
        waiting = [api.submit(priority="low") for _ in range(12)]
        assert "processes of the Penstock that made them still run" in refusal_of(fleet.worker(THIS))

        retried = api.submit(tiles=200, tile_s=0.05)
        wait_for(api.client, retried, "RUNNING")
        api.client.post(f"/v1/tasks/{retried}/cancel").raise_for_status()
        api.client.post(f"/v1/tasks/{retried}/retry").raise_for_status()
        wait_for(api.client, retried, "RUNNING")
        os.kill(worker.child("penstock"), signal.SIGKILL)
        worker.stop(signal.SIGKILL)
        api.process.stop()

        api, worker = fleet.api(THIS), fleet.worker(THIS)
        api.until_workers(1)
        assert "were converted" in api.process.log.read_text()
        assert api.client.get(f"/v1/tasks/{done}").raise_for_status().json()["status"] == "SUCCESS"
        attempts = api.ended(retried)["attempts"]
        assert [attempt["outcome"] for attempt in attempts] == ["cancel", "lost", "complete"]
        assert api.client.get(f"/v1/tasks/{waiting[0]}").json()["status"] == "PENDING", "its queue is still paused"
        api.client.post(f"/v1/queues/{MODEL}/resume?priority=low").raise_for_status()
        for task_id in waiting:
            api.ended(task_id)

        assert "tasks of version 5" in refusal_of(fleet.worker(older))


@pytest.mark.parametrize("commit", [OLDER_FORM, SAME_FORM])
def test_a_backup_of_an_earlier_release_is_restored_under_this_one(tmp_path: Path, commit: str) -> None:
    release = earlier(commit, tmp_path / "release")
    data, copy = tmp_path / "data", tmp_path / "copy"
    with up(data, **release, GPU_IDS="cpu") as system, system.client() as client:
        task_id = client.post("/v1/tasks", json=SCORING).raise_for_status().json()["task_id"]
        before = wait_for(client, task_id)
        key = system.api_key
    shutil.copytree(data, copy, symlinks=True, ignore=shutil.ignore_patterns("*.sock", "*.log"))
    shutil.rmtree(data)
    shutil.copytree(copy, data, symlinks=True)

    with up(data, GPU_IDS="cpu") as system, system.client() as client:
        assert system.api_key == key
        assert (
            client.get(f"/v1/tasks/{task_id}").raise_for_status().json()["result"]["data"] == before["result"]["data"]
        )
        again = client.post("/v1/tasks", json=SCORING | {"reuse": False}).raise_for_status().json()["task_id"]
        assert wait_for(client, again)["result"]["data"] == before["result"]["data"]
