"""A node of a cluster is killed: the tenants of its shard are refused until it is back, and nobody else notices."""

import asyncio
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace
from redis.crc import key_slot

from penstock.models.description import descriptions
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Shards, connect_each
from penstock.store.keys import shard_of
from penstock.store.shards import tags_of
from tests.support.api_server import in_thread
from tests.support.drive import data_uri, photo
from tests.support.redis_fleets import ClusterFleet
from tests.support.slow_model import MODEL
from tests.support.workers import host, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

COUNT = 4
NAMES = [f"tenant-{number}" for number in range(60)]
TENANTS = [next(name for name in NAMES if shard_of(name, COUNT) == shard) for shard in range(COUNT)]
LOST = 2
TASK = {"model": MODEL, "input": {"image_url": data_uri(photo())}, "params": {"tile_s": 0.02}, "reuse": False}


def key_of(tenant: str) -> str:
    return f"{tenant}-key-0123456789"


async def test_the_loss_of_a_node_stops_its_tenants_alone(tmp_path: Path, settings: Settings, storage: Storage) -> None:
    with ClusterFleet(tmp_path / "cluster", masters=COUNT, replicas=False, is_all_or_nothing=False) as cluster:
        settings = replace(
            settings,
            redis=replace(settings.redis, url=cluster.url, shards=COUNT),
            api=replace(settings.api, keys=tuple(f"{tenant}:{key_of(tenant)}" for tenant in TENANTS)),
        )
        lost = cluster.owner(key_slot(tags_of(settings.redis.namespace, COUNT)[LOST].encode()))
        async with connect_each(settings.redis) as clients:
            shards = Shards.over(clients, settings.queue)
            async with host(shards, storage, MODEL):
                await shards.home.models.publish(descriptions([MODEL]), worker="w1")
                with in_thread(settings, is_published=False) as url:
                    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                        before = {tenant: await submitted(client, tenant) for tenant in TENANTS}
                        await until(lambda: all_done(client, before))
                        await asyncio.to_thread(lost.kill)

                        for _ in range(3):  # the workers' claims from the lost one hold up none from the others
                            for tenant in TENANTS:
                                if tenant == TENANTS[LOST]:
                                    assert (await send(client, tenant)).status_code == 503
                                else:
                                    task_id = await submitted(client, tenant)
                                    await until(lambda own={tenant: task_id}: all_done(client, own))
                        ready = await client.get("/readyz")
                        assert ready.status_code == 200
                        assert f"redis: shard {LOST}: " in ready.json()["warnings"][0]

                        await asyncio.to_thread(lost.start)
                        await until(lambda: is_taken(client, TENANTS[LOST]))
                        after = {TENANTS[LOST]: await submitted(client, TENANTS[LOST])}
                        await until(lambda: all_done(client, before | after))


async def send(client: httpx.AsyncClient, tenant: str) -> httpx.Response:
    return await client.post("/v1/tasks", json=TASK, headers={"X-API-Key": key_of(tenant)})


async def is_taken(client: httpx.AsyncClient, tenant: str) -> bool:
    return (await send(client, tenant)).is_success


async def submitted(client: httpx.AsyncClient, tenant: str) -> str:
    return str((await send(client, tenant)).raise_for_status().json()["task_id"])


async def all_done(client: httpx.AsyncClient, ids: dict[str, str]) -> bool:
    for tenant, task_id in ids.items():
        answer = await client.get(f"/v1/tasks/{task_id}", headers={"X-API-Key": key_of(tenant)})
        if answer.status_code != 200 or answer.json()["status"] != "SUCCESS":
            return False
    return True
