"""Processes of two releases on one queue. A ring of its own, `just upgrades`: it takes two minutes."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.drive import data_uri, image
from tests.support.fleet import Api, Fleet
from tests.support.processes import wait_for
from tests.support.redis_server import RedisProcess
from tests.support.slow_model import MODEL
from tests.upgrades.releases import SAME_FORM, THIS, Release, earlier, following

pytestmark = [pytest.mark.upgrades, pytest.mark.timeout(900)]

BATCH = 5


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """The release before this one, this one, and a next one."""
    folder = tmp_path_factory.mktemp("releases")
    return {
        "before": earlier(SAME_FORM, folder / "before"),
        "this": THIS,
        "next": following(folder / "next"),
    }


@pytest.fixture
def fleet(own_redis: RedisProcess, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(own_redis.url, tmp_path) as fleet:
        yield fleet


def batch_of(api: Api) -> str:
    line = {"input": {"image_url": data_uri(image())}, "params": {"tiles": 1, "tile_s": 0.01}}
    body = {"defaults": {"model": MODEL, "reuse": False}, "lines": [line | {"custom_id": f"{n}"} for n in range(BATCH)]}
    return str(api.client.post("/v1/batches", json=body).raise_for_status().json()["batch_id"])


def outcomes(task: dict[str, Any]) -> set[str]:
    return {attempt["outcome"] for attempt in task["attempts"]}


@pytest.mark.parametrize(
    ("of_api", "of_worker"), [("before", "this"), ("this", "before"), ("next", "this"), ("this", "next")]
)
def test_workers_of_one_release_end_the_tasks_of_an_api_of_the_other(
    fleet: Fleet, releases: dict[str, Release], of_api: str, of_worker: str
) -> None:
    api = fleet.api(releases[of_api])
    fleet.worker(releases[of_worker])
    api.until_workers(1)

    long = api.submit(tiles=200, tile_s=0.05)
    few = [api.submit(priority=priority) for priority in ("high", "normal", "low", "normal")]
    batch = batch_of(api)
    canceled = api.submit(priority="low", tiles=100, tile_s=0.05)
    api.client.post(f"/v1/tasks/{canceled}/cancel").raise_for_status()
    wait_for(api.client, long, "RUNNING")
    api.client.post(f"/v1/tasks/{long}/cancel").raise_for_status()
    api.client.post(f"/v1/tasks/{canceled}/retry").raise_for_status()

    ended = [api.ended(task_id) for task_id in (*few, canceled)]
    assert all(task["result"]["data"]["tiles"] in (1, 100) for task in ended)
    assert wait_for(api.client, long, "CANCELED")["attempts"][0]["outcome"] == "cancel"
    while (record := api.client.get(f"/v1/batches/{batch}").raise_for_status().json())["status"] != "COMPLETED":
        assert record["counts"]["failed"] == 0, record
        time.sleep(0.05)
    assert record["counts"]["succeeded"] == BATCH
    other = fleet.api(releases[of_worker])
    for task in ended:
        assert other.client.get(f"/v1/tasks/{task['task_id']}").raise_for_status().json()["status"] == "SUCCESS"
    rerun = other.submit()
    assert api.ended(rerun)["status"] == "SUCCESS"


def test_the_next_release_really_stores_more(
    fleet: Fleet, releases: dict[str, Release], own_redis: RedisProcess
) -> None:
    api = fleet.api(releases["next"])
    fleet.worker(releases["next"])
    api.until_workers(1)
    task_id = api.submit()
    api.ended(task_id)

    with redis.Redis.from_url(own_redis.url) as client:
        root = "{penstock}:"
        assert client.hget(f"{root}task:{task_id}", "added") == b"by the next"
        assert client.hget(f"{root}board", f"added:{MODEL}") == b"1"
        assert b'"added"' in client.get(f"{root}outcome:{task_id}")
        assert all(b'"added"' in row for row in client.hvals(f"{root}workers"))


@pytest.mark.parametrize(("old", "new"), [("before", "this"), ("this", "next")])
def test_a_rolling_update_and_the_way_back_end_every_task_once(
    fleet: Fleet, releases: dict[str, Release], old: str, new: str
) -> None:
    submitted: list[str] = []

    def some(api: Api) -> None:
        submitted.extend(api.submit(tiles=4, tile_s=0.05) for _ in range(4))

    first_api, first_worker = fleet.api(releases[old]), fleet.worker(releases[old])
    first_api.until_workers(1)
    some(first_api)
    second_worker = fleet.worker(releases[new])  # forward: workers, then the API
    first_api.until_workers(2)
    some(first_api)
    first_worker.stop()
    second_api = fleet.api(releases[new])
    some(first_api)
    some(second_api)
    first_api.process.stop()
    some(second_api)
    third_api = fleet.api(releases[old])  # back: the API, then workers
    second_api.process.stop()
    some(third_api)
    fleet.worker(releases[old])
    third_api.until_workers(2)
    some(third_api)
    second_worker.stop()
    some(third_api)

    ended = [third_api.ended(task_id) for task_id in submitted]
    assert set().union(*map(outcomes, ended)) <= {"complete", "release"}, "none was lost, and none failed"
    assert all([attempt["outcome"] for attempt in task["attempts"]].count("complete") == 1 for task in ended)
