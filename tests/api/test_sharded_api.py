"""An API whose tenants are in several shards: each request goes to one, and an operator's lists to all."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import redis.asyncio
from msgspec.structs import replace

from penstock.api.http.key_table import KeyTable
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Shards, connect_each
from penstock.store.keys import shard_of
from penstock.store.shards import tags_of
from penstock.upkeep.gauges import measure
from penstock.upkeep.history import sample
from penstock.upkeep.retention import prune
from penstock.upkeep.sweep import sweep, sweep_inline, sweep_uploads
from tests.support.api_server import in_thread
from tests.support.drive import MODEL, WORKER, body, data_uri, photo

COUNT = 3
TENANTS = [
    next(name for name in map("tenant-{}".format, range(30)) if shard_of(name, COUNT) == n) for n in range(COUNT)
]
OPERATOR = "operator-key-0123456789"
TASK = {"image_url": data_uri(photo()), "reuse": False}

LOOPS = {"ping", "batch_lease", "deliver"}
"""What loops of a server ask now and then that are no rounds of upkeep."""

Seen = set[tuple[str, str]]
"""What was asked of Redis: a tag, and the name of a script or a command."""


def key_of(tenant: str) -> str:
    return f"{tenant}-key-0123456789"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = [f"{tenant}:{key_of(tenant)}" for tenant in TENANTS]
    keys.append(f"{TENANTS[0]}:{OPERATOR}:read+submit+operate+admin")
    return replace(settings, redis=replace(settings.redis, shards=COUNT), api=replace(settings.api, keys=tuple(keys)))


@pytest.fixture
def server(settings: Settings, patient: None) -> Iterator[str]:
    with in_thread(settings) as url:
        yield url


@pytest.fixture
async def shards(settings: Settings) -> AsyncIterator[Shards]:
    async with connect_each(settings.redis) as clients:
        yield Shards.over(clients, settings.queue)


def client_of(server: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server, headers={"X-API-Key": key}, timeout=30)


@asynccontextmanager
async def seen(settings: Settings) -> AsyncIterator[Seen]:
    """Fills the set with what is asked of Redis inside the block."""
    found: Seen = set()
    tag = re.compile(rf"\{{({settings.redis.namespace}[^}}]*)\}}")
    async with redis.asyncio.Redis.from_url(settings.redis.url) as client, client.monitor() as monitor:
        async with connect_each(settings.redis) as clients:
            scripts = clients[settings.redis.namespace].scripts
            await scripts.load()
            names = {script.sha: name for name, script in scripts.loaded.items()}

        async def read() -> None:
            while True:
                line = await monitor.next_command()
                if line["client_type"] != "lua" and (named := tag.search(line["command"])):
                    name, _, rest = line["command"].partition(" ")
                    found.add((named[1], names.get(rest[:40], name.upper())))

        reading = asyncio.create_task(read())
        yield found
        await asyncio.sleep(0.1)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def keep_up(shards: Shards, storage: Storage) -> None:
    """What a server does beside its requests: each round once."""
    await measure(shards, [MODEL])
    await sample(shards, [MODEL])
    await KeyTable().read(shards.home.access_keys)
    await shards.home.models.catalogue()
    for store in shards:
        await sweep(store)
        await sweep_inline(store.inline, storage)
        await store.caps.set({})
        await prune(store, storage)
        await sweep_uploads(store.uploads, storage)
        await store.tasks.ended(["tsk_0"])


async def live(client: httpx.AsyncClient) -> dict[str, Any]:
    """What a client does with tasks, uploads and batches. Returns its last task."""
    made = (await client.post("/v1/tasks", json=body(**TASK))).raise_for_status().json()
    task_id = made["task_id"]
    for path in (f"/v1/tasks/{task_id}", "/v1/tasks", f"/v1/tasks/{task_id}/explain", "/v1/queues", "/v1/stats",
                 "/v1/usage", "/v1/batches", "/v1/models", f"/v1/tasks/{task_id}?wait=1"):  # fmt: skip
        (await client.get(path)).raise_for_status()
    (await client.post(f"/v1/tasks/{task_id}/cancel")).raise_for_status()
    assert (await client.get(f"/v1/tasks/{task_id}?wait=5")).json()["status"] == "CANCELED"
    data = photo()
    opened = (await client.post("/v1/uploads", json={"size": len(data)})).raise_for_status().json()
    async with httpx.AsyncClient() as without_key:
        (await without_key.put(opened["url"], content=data, headers=opened["headers"])).raise_for_status()
    from_upload = {"model": MODEL, "input": {"upload_id": opened["upload_id"]}}
    (await client.post("/v1/tasks", json=from_upload)).raise_for_status()
    return dict((await client.post("/v1/tasks", json=body(**TASK))).raise_for_status().json())


async def test_a_request_goes_to_the_shard_of_its_tenant_alone(
    server: str, settings: Settings, shards: Shards, storage: Storage
) -> None:
    tags = tags_of(settings.redis.namespace, COUNT)
    async with seen(settings) as background:
        await keep_up(shards, storage)
    for number, tenant in enumerate(TENANTS):
        async with client_of(server, key_of(tenant)) as client, seen(settings) as asked:
            await live(client)
        upkeep = LOOPS | {name for _, name in background}
        by_tag = {tag: {name for one, name in asked if one == tag} for tag in tags}
        assert {"submit", "cancel", "read", "upload_open", "upload_arrive"} <= by_tag.pop(tags[number])
        assert [names - upkeep for names in by_tag.values()] == [set()] * (COUNT - 1)


async def test_an_operator_sees_and_governs_all_shards(server: str, shards: Shards) -> None:
    ids = {}
    for tenant in TENANTS:
        async with client_of(server, key_of(tenant)) as client:
            ids[tenant] = (await live(client))["task_id"]
            assert (await client.get(f"/v1/tasks/{ids[tenant]}")).status_code == 200
    await shards.each(lambda store: store.leases.renew(WORKER, []))
    async with client_of(server, OPERATOR) as operator:
        assert (await operator.get(f"/v1/tasks/{ids[TENANTS[1]]}")).status_code == 404, "it is another's"
        there = await operator.get(f"/v1/tasks/{ids[TENANTS[1]]}", params={"tenant": TENANTS[1]})
        assert there.status_code == 200
        stats = (await operator.get("/v1/stats", params={"tenant": "*"})).json()
        assert stats["tasks"]["PENDING"] == 2 * COUNT
        assert sum(queue["depth"] for queue in stats["queues"]) == 2 * COUNT
        assert stats["workers"] == {"READY": 1}
        rows = (await operator.get("/v1/tenants")).json()["data"]
        assert {row["tenant"]: row["pending"] for row in rows if row["tenant"] in TENANTS} == dict.fromkeys(TENANTS, 2)
        usage = (await operator.get("/v1/usage", params={"tenant": "*"})).json()
        assert set(TENANTS) <= {row["tenant"] for row in usage["data"]}

        (await operator.post(f"/v1/queues/{MODEL}/pause")).raise_for_status()
        (await operator.post(f"/v1/workers/{WORKER.id}/drain")).raise_for_status()
        for store in shards:
            claim = await store.leases.claim(worker="w2", device="cpu", models=[MODEL])
            assert claim.lease is None
            drained = await store.leases.claim(worker=WORKER.id, device="cpu", models=[MODEL])
            assert drained.is_drained
        (await operator.post(f"/v1/queues/{MODEL}/resume")).raise_for_status()
        for store in shards:
            assert (await store.leases.claim(worker="w2", device="cpu", models=[MODEL])).lease
