"""What a task costs: the commands that reach Redis, by script, as Redis itself reports them (MONITOR)."""

import time
from pathlib import Path

import httpx
import pytest
import redis.asyncio

from penstock.store.scripts import TEXTS, Scripts
from penstock.worker.claims import LOOK_EVERY_S
from tests.support.drive import data_uri, image
from tests.support.monitor import counted
from tests.support.processes import up
from tests.support.redis_server import RedisProcess

TASKS = 20
FOR_ONE = ("submit", "claim", "settle", "read", "PING")
"""What is done for a task; the rest is upkeep, so many times a second."""


@pytest.mark.parametrize("name", sorted(TEXTS))
async def test_a_server_takes_every_script(redis_url: str, name: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        scripts = Scripts(client)
        await scripts.load()

        assert (await client.script_load(scripts[name].script)) == scripts[name].sha


async def test_a_task_costs_four_round_trips_and_a_look_for_the_next_one(
    own_redis: RedisProcess, tmp_path: Path
) -> None:
    environ = {
        "REDIS_URL": own_redis.url,
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.chaos.models",
        "PENSTOCK_MODELS_SERVE": "chaos-v1",
    }
    task = {"model": "chaos-v1", "input": {"image_url": data_uri(image())}, "params": {"ms": 0}, "reuse": False}
    with up(tmp_path / "up", **environ) as system:
        headers = {"X-API-Key": system.api_key, "Prefer": "wait=30"}
        async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=30) as client:
            await client.post("/v1/tasks", json=task)  # scripts are loaded, connections made
            started = time.monotonic()
            async with counted(own_redis.url) as counts:
                for _ in range(TASKS):
                    answer = await client.post("/v1/tasks", json=task)
                    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")

    by_the_clock = 2 * (time.monotonic() - started) / LOOK_EVERY_S
    looks = counts.pop("claim") - TASKS
    assert {name: counts[name] for name in FOR_ONE} == {
        "submit": TASKS, "claim": 0, "settle": TASKS, "read": TASKS, "PING": 0,
    }  # fmt: skip
    assert looks < 2 * TASKS + by_the_clock, (
        "an ended task makes an idle worker look again only if something was signaled"
    )
    assert counts["ZSCORE"] < TASKS + by_the_clock, (
        "messages ended the waits, not the looks that stand in for lost ones"
    )
