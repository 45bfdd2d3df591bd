"""Tasks that take three leases while the network, the storage or Redis fails: they cost time, and no task."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio

from penstock.settings import StorageSettings
from tests.chaos.client import API_KEY
from tests.chaos.proxy import DROP, PASS, Toxic
from tests.chaos.world import Setup, World
from tests.support.drive import data_uri, image
from tests.support.redis_server import RedisProcess, binary, caught_up
from tests.support.s3_server import s3_client
from tests.support.slow_model import MODEL

pytestmark = [
    pytest.mark.skipif(binary() is None, reason="no redis-server or valkey-server to cut off"),
    pytest.mark.at_length,
]

LEASE_S = 1.0
TILE_S = 0.5
TILES = int(3 * LEASE_S / TILE_S)
PUT_S = 6.0
SLOW = Toxic(delay_s=PUT_S / 2)
"""Each way."""
WITHIN_S = 60.0
NOBODY_THERE = ("127.0.0.1", "1")
RESULTS = "penstock/results/default"
ENV = {
    "MODELS_MODULES": "tests.support.slow_model",
    "MODELS_SERVE": MODEL,
    "QUEUE_LEASE_S": str(LEASE_S),
}


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """One server and one worker, each with a way to Redis of its own; the parameter says whether results are in S3."""
    setup = Setup(workers=1, s3=getattr(request, "param", False), env=ENV)
    async with World(setup, seed=1, directory=tmp_path) as world:
        yield world


@pytest.fixture
def second(tmp_path: Path) -> Iterator[RedisProcess]:
    directory = tmp_path / "second"
    directory.mkdir()
    with RedisProcess(directory) as server:
        yield server


@pytest.fixture
async def client(world: World) -> AsyncIterator["Client"]:
    headers = {"x-api-key": API_KEY}
    async with httpx.AsyncClient(base_url=world.apis[0].url, headers=headers, timeout=30, trust_env=False) as http:
        yield Client(world, http)


class Client:
    """Submits a task of three leases and follows it, also while the server cannot say how it is."""

    def __init__(self, world: World, http: httpx.AsyncClient) -> None:
        self._world = world
        self._http = http

    async def submit(self) -> str:
        body = {
            "model": MODEL,
            "input": {"image_url": data_uri(image())},
            "params": {"tiles": TILES, "tile_s": TILE_S, "product": "file"},
            "reuse": False,
        }
        return str((await self._http.post("/v1/tasks", json=body)).raise_for_status().json()["task_id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        """As it is now; nothing when nobody can say."""
        answer = await self._http.get(f"/v1/tasks/{task_id}")
        assert answer.status_code in (200, 503), answer.text
        return dict(answer.json()) if answer.status_code == 200 else {}

    async def on_the_device(self, task_id: str) -> None:
        """Until a part of the task has run."""

        async def has_progress() -> bool:
            return bool((await self.task(task_id)).get("progress"))

        await self._world.until(has_progress, "on the device", WITHIN_S)

    async def has(self, task_id: str, status: str) -> dict[str, Any]:
        """The task, when it has this state. Fails when it ends in another."""

        async def is_there() -> bool:
            task = await self.task(task_id)
            assert task.get("status", "") in ("", "PENDING", "RUNNING", status), task["error"]
            return bool(task.get("status") == status)

        await self._world.until(is_there, status, WITHIN_S)
        return await self.task(task_id)


def outcomes(task: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in task["attempts"]]


def files(world: World, task_id: str) -> list[str]:
    """Of its results, by name."""
    return [path.name for path in (world.objects / RESULTS / task_id).glob("*")]


async def keeps_one_file(world: World, task: dict[str, Any]) -> None:
    """That of the last attempt; those of lost ones go a moment after it has ended."""
    await world.until(lambda: len(files(world, task["task_id"])) == 1, "one file is left")
    assert task["result"]["s3_key"].endswith(files(world, task["task_id"])[0])


@pytest.mark.at_length
async def test_a_task_whose_worker_is_cut_off_from_redis_for_more_than_a_lease_ends_with_its_second_attempt(
    world: World, client: Client
) -> None:
    task_id = await client.submit()
    await client.on_the_device(task_id)
    world.links["worker-0"].set(DROP)
    await client.has(task_id, "PENDING")
    world.links["worker-0"].set(PASS)
    task = await client.has(task_id, "SUCCESS")

    assert outcomes(task) == ["lost", "complete"]
    await keeps_one_file(world, task)


async def test_a_task_whose_worker_finishes_while_it_is_cut_off_leaves_one_file(world: World, client: Client) -> None:
    """The file of the lost attempt is there before anybody can say that it is not wanted."""
    task_id = await client.submit()
    await client.on_the_device(task_id)
    world.links["worker-0"].set(DROP)
    await world.until(lambda: files(world, task_id), "a file of the first attempt", WITHIN_S)
    await client.has(task_id, "PENDING")
    first = files(world, task_id)
    world.links["worker-0"].set(PASS)
    task = await client.has(task_id, "SUCCESS")

    assert outcomes(task) == ["lost", "complete"]
    await keeps_one_file(world, task)
    assert files(world, task_id) != first


@pytest.mark.at_length
@pytest.mark.parametrize("world", [True], indirect=True, ids=["S3"])
async def test_a_task_whose_result_takes_six_leases_to_store_is_run_once(world: World, client: Client) -> None:
    assert world.s3 is not None
    assert world.s3_link is not None
    task_id = await client.submit()
    await client.on_the_device(task_id)
    world.s3_link.set(SLOW)
    task = await client.has(task_id, "SUCCESS")

    assert outcomes(task) == ["complete"]
    assert task["timing"]["upload_ms"] >= PUT_S * 1000
    assert await asyncio.to_thread(stored, world.s3, task_id) == 1


def stored(settings: StorageSettings, task_id: str) -> int:
    """How many files of its results are in S3."""
    client = s3_client(settings)
    try:
        return int(client.list_objects_v2(Bucket=settings.s3_bucket, Prefix=f"{RESULTS}/{task_id}/")["KeyCount"])
    finally:
        client.close()


async def test_a_task_over_which_redis_fails_over_ends_once(world: World, client: Client, second: RedisProcess) -> None:
    """The old server stays, as a replica, with every connection that it has."""
    async with redis.asyncio.Redis.from_url(world.redis.url) as old, redis.asyncio.Redis.from_url(second.url) as new:
        await new.execute_command("REPLICAOF", "127.0.0.1", str(world.redis.port))

        async def is_up() -> bool:
            return bool((await new.info("replication"))["master_link_status"] == "up")

        await world.until(is_up, "the replica is up")
        task_id = await client.submit()
        await client.on_the_device(task_id)
        await caught_up(old, new)

        await new.execute_command("REPLICAOF", "NO", "ONE")
        for link in world.links.values():
            link.lead_to(second.url.removeprefix("redis://").removesuffix("/0"))
        await old.execute_command("REPLICAOF", *NOBODY_THERE)
        task = await client.has(task_id, "SUCCESS")

    assert outcomes(task)[-1] == "complete"  # and nothing before it, where the change takes less than a lease
    assert set(outcomes(task)[:-1]) <= {"lost"}
    await keeps_one_file(world, task)
    assert world.metric("penstock_tasks_finished_total") == 1
