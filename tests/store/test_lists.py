"""Lists of tasks with large results: nobody waits for them, and they read what they show and no more."""

import asyncio
import random
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from msgspec.structs import replace

from penstock.core.task import Outcome, Priority, Result, State
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Store, connect
from penstock.store.engine import READ_BYTES, cut
from tests.chaos.proxy import Proxy, Toxic
from tests.support.monitor import counted
from tests.support.redis_server import RedisProcess
from tests.support.stores import MODEL, lease_of, open_store, submission, submit

LARGE = Outcome(result=Result(data={"text": "x" * (READ_BYTES // 4)}))
SLOW = Toxic(bytes_per_s=READ_BYTES / 8)
"""Each way, on each connection."""


async def with_results(store: Store, count: int) -> None:
    """So many tasks that have ended with a large result."""
    for _ in range(count):
        await submit(store)
        assert await store.leases.complete(await lease_of(store), LARGE)


async def scripts_run(server: RedisProcess) -> int:
    """How many, so far."""
    async with redis.asyncio.Redis.from_url(server.url) as client:
        return int((await client.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def test_a_submit_overtakes_a_list_of_large_results(own_redis: RedisProcess) -> None:
    proxy = Proxy(urlsplit(own_redis.url).netloc, random.Random(1))
    await proxy.start()
    settings = RedisSettings(url=proxy.url(own_redis.url), namespace="lists", timeout_s=30)
    async with connect(settings) as client:
        store = Store(Engine(client, settings.namespace, QueueSettings(), patience_s=30))
        await with_results(store, 3)  # one piece
        await store.listing.page("default", limit=1)  # the script is loaded
        before = await scripts_run(own_redis)
        proxy.set(SLOW)
        listing = asyncio.create_task(store.listing.page("default"))
        while await scripts_run(own_redis) == before:
            await asyncio.sleep(0.01)
        for _ in range(3):
            await submit(store)
            assert not listing.done(), "its answer is on its way"
        proxy.set(Toxic())
        page = await listing
    await proxy.close()

    assert len(page.tasks) == 3


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([], []),
        ([0, 0, 0], ["abc"]),
        ([4, 5, 1], ["ab", "c"]),
        ([9, 9, 1], ["a", "b", "c"]),
        ([9, 10, 0], ["a", "b", "c"]),
        ([99, 1, 8], ["a", "bc"]),
    ],
)
def test_a_piece_is_no_larger_than_one_may_be_unless_it_is_of_one(sizes: list[int], pieces: list[str]) -> None:
    assert cut("abc"[: len(sizes)], sizes, 9) == [list(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"model": "rare"}, 1),
        ({"priority": Priority.HIGH}, 1),
        ({"metadata": {"album": "42"}}, 1),
        ({"metadata": {"album": "42"}, "model": MODEL}, 0),
        ({"batch": "bat_1"}, 0),
    ],
)
async def test_of_what_a_filter_leaves_out_no_record_is_read(
    own_redis: RedisProcess, filters: dict[str, Any], found: int
) -> None:
    async with open_store(own_redis.url, namespace="lists") as store:
        rare = submission(model="rare", priority=Priority.HIGH)
        rare = replace(rare, request=replace(rare.request, metadata={"album": "42", "of": "May"}))
        await store.tasks.submit(rare, rate_limit=0)
        for _ in range(30):
            await submit(store)
        await store.listing.page("default", limit=1)  # the script is loaded
        async with counted(own_redis.url) as counts:
            page = await store.listing.page("default", **filters)

    assert [task.id for task in page.tasks] == [rare.id] * found
    assert counts["read"] == found
    assert counts["GET"] <= 31 * ("metadata" in filters), "nor is a body that nothing is compared with"


async def test_a_list_is_read_from_a_server_that_has_forgotten_its_scripts(own_redis: RedisProcess) -> None:
    async with open_store(own_redis.url, namespace="lists") as store:
        await submit(store)
        async with connect(RedisSettings(url=own_redis.url)) as client:
            await client.script_flush()

        assert [task.state for task in (await store.listing.page("default")).tasks] == [State.PENDING]
