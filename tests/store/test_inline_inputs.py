"""Inputs that stay in Redis beside their records: how many, for how long, and who reads them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from unittest.mock import ANY

import pytest
import redis.asyncio
from msgspec.structs import replace

from penstock.core.access import TENANT
from penstock.core.quotas import Quotas
from penstock.core.submission import Submission
from penstock.core.task import ErrorRecord, Outcome, new_task_id
from penstock.settings import RedisSettings
from penstock.store import Redis, Store, connect
from penstock.store.salvage import ALL
from penstock.upkeep.retention import prune
from penstock.upkeep.sweep import sweep_inline
from tests.support.memory_storage import MemoryStorage
from tests.support.queue_snapshot import check_places, take_snapshot
from tests.support.stores import MODEL, claim, lease_of, open_store, own_input, submission

BUDGET = 1000
SIZE = 100
DAMAGED = Outcome(error=ErrorRecord(code="image_decode_failed", message="the image is damaged", retryable=False))


@pytest.fixture
async def stores(redis_url: str, namespace: str) -> AsyncIterator[list[Store]]:
    """Several processes of the API."""
    async with AsyncExitStack() as opened:
        options: dict[str, Any] = {"namespace": namespace, "inline_budget_bytes": BUDGET}
        yield [await opened.enter_async_context(open_store(redis_url, **options)) for _ in range(4)]


@pytest.fixture
def store(stores: list[Store]) -> Store:
    return stores[0]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(RedisSettings(url=redis_url)) as opened:
        yield opened


def inline(*, size: int = SIZE, members: int = 1, **options: Any) -> Submission:
    return own_input(submission(**options), members=members, inline=True, size=size)


async def stays(store: Store, made: Submission | None = None) -> Submission | None:
    """Submits a task, and returns it if its input stays in Redis."""
    made = made or inline()
    return made if await store.tasks.submit_unstored(made, rate_limit=0) else None


async def failed(store: Store, count: int) -> list[Submission]:
    """Makes tasks with inputs in Redis, which fail."""
    made = [one for _ in range(count) if (one := await stays(store))]
    assert len(made) == count
    for _ in made:
        assert await store.leases.fail(await lease_of(store), DAMAGED)
    return made


async def test_inputs_stay_until_their_budget_is_used_up_whoever_submits_at_once(
    stores: list[Store], client: Redis
) -> None:
    found = await asyncio.gather(*(stays(store) for store in stores for _ in range(5)))

    kept = [one for one in found if one]
    assert (len(kept), await stores[0].inline.total_bytes()) == (BUDGET // SIZE, BUDGET)
    await stores[1].tasks.cancel(kept[0].id, TENANT)
    await stores[2].tasks.delete(kept[0].id, TENANT)
    assert [one is not None for one in await asyncio.gather(*map(stays, stores))].count(True) == 1
    check_places(await take_snapshot(client, stores[0].namespace))


async def test_a_worker_is_given_the_inputs_with_its_claim_and_again_when_another_has_died(store: Store) -> None:
    made = await stays(store, inline(members=2))
    assert made is not None

    first = await lease_of(store, "w1")
    await store.overdue.reclaim("w1")
    second = await lease_of(store, "w2")

    assert [source.data for source in first.request.inputs.values()] == list(made.inline.values())
    assert (second.request, second.epoch) == (first.request, 2)


async def test_inputs_of_ended_tasks_move_to_the_storage_while_more_than_half_of_the_budget_is_used(
    store: Store, client: Redis
) -> None:
    storage = MemoryStorage()
    ended = await failed(store, 6)
    waiting = [await stays(store) for _ in range(4)]

    await sweep_inline(store.inline, storage)
    await sweep_inline(store.inline, storage)

    assert storage.objects == {key: data for one in ended for key, data in one.inline.items()}
    assert await store.inline.total_bytes() == SIZE * len(waiting)
    (held,) = await store.accounts.held([TENANT])
    assert held.storage_bytes == SIZE * len(ended)
    assert await store.tasks.resubmit(ended[0].id, TENANT)
    inputs = [(await lease_of(store)).request.inputs["own-0"] for _ in range(5)]
    assert Counter(source.data is None for source in inputs) == {True: 1, False: 4}
    assert {source.key for source in inputs} == {None, ended[0].own_input}
    check_places(await take_snapshot(client, store.namespace))


async def test_what_half_of_the_budget_holds_is_not_moved(store: Store) -> None:
    await failed(store, 5)

    assert await store.inline.due() == {}


async def test_an_input_that_is_on_its_way_to_the_storage_is_deleted_there_with_its_task(store: Store) -> None:
    storage = MemoryStorage()
    made = await failed(store, 6)

    taken = await store.inline.due()
    assert await store.inline.due() == {}, "another process takes none of them"
    await asyncio.gather(*(store.tasks.delete(one.id, TENANT) for one in made))
    for of_task in taken.values():
        for key, data in of_task.items():
            await storage.put(key, data, "")
    assert await store.inline.moved(list(taken)) == 0
    await prune(store, storage)

    assert storage.objects == {}
    (entries,) = await store.engine.pipelined([("ZRANGE", store.engine.keys.condemned, 0, -1)])
    again = {entry.decode() for entry in entries if entry.startswith(b"again inputs/")}
    assert again == {f"again {one.own_input}" for one in made}, "should the storage be slow"
    assert await store.inline.total_bytes() == 0


async def test_a_retried_task_takes_its_input_from_redis_or_the_storage_whichever_has_it(store: Store) -> None:
    made = await failed(store, 6)
    taken = await store.inline.due()

    await store.tasks.resubmit(made[0].id, TENANT)
    before = await lease_of(store)
    await store.inline.moved(list(taken))
    await store.overdue.reclaim("w1")
    after = await lease_of(store)

    assert [source.data for source in before.request.inputs.values()] == list(made[0].inline.values())
    assert [source.key for source in after.request.inputs.values()] == list(made[0].inline)


async def test_inputs_take_at_most_half_of_what_a_tenant_may_have_in_redis(store: Store) -> None:
    quotas = Quotas(redis_bytes=10_000)
    kept = 0
    while await stays(store, replace(inline(), quotas=quotas)):
        kept += 1
        (held,) = await store.accounts.held([TENANT])
        assert held.redis_bytes <= quotas.redis_bytes / 2

    assert kept == 2
    assert held.redis_bytes > kept * (1500 + SIZE), "records and inputs count"
    assert held.storage_bytes == 0
    assert (await store.tasks.submit(replace(submission(), quotas=quotas), rate_limit=0)).position == kept


async def test_no_list_and_no_read_of_a_task_reads_its_input(redis_url: str, store: Store) -> None:
    made = await stays(store)
    assert made is not None
    reads = (
        store.listing.page(TENANT, model=made.request.model),
        store.tasks.get(made.id, TENANT),
        store.tasks.explain(made.id, TENANT),
        store.tasks.cancel(made.id, TENANT),
        store.tasks.resubmit(made.id, TENANT),
    )
    async with redis.asyncio.Redis.from_url(redis_url) as client, client.monitor() as monitor:
        for read in reads:
            await read
        await store.inline.read(made.id, str(made.own_input))

        seen = ""
        while "HGET" not in seen:
            seen = str((await monitor.next_command())["command"])
            assert "HGET" in seen or f"input:{made.id}" not in seen


@pytest.mark.parametrize("damage", [("HSET", "task", "inline", "many"), ("SET", "input", "text")])
async def test_damage_of_one_input_stops_no_other_task_and_leaves_the_sum_right(
    store: Store, client: Redis, damage: tuple[str, ...]
) -> None:
    damaged, sound = await stays(store), await stays(store)
    assert damaged is not None
    assert sound is not None
    name, part, *words = damage
    await client.delete(f"{{{store.namespace}}}:{part}:{damaged.id}" if part == "input" else "none")
    await client.execute_command(name, f"{{{store.namespace}}}:{part}:{damaged.id}", *words)

    leases = {}
    while (await store.queues.depths([MODEL]))[1].depth:
        if lease := (await claim(store)).lease:
            leases[lease.id] = lease
            await store.leases.fail(lease, DAMAGED)

    assert leases[sound.id].request.inputs["own-0"].data == sound.inline[str(sound.own_input)]
    assert damaged.id in leases
    assert await store.tasks.delete_each([damaged.id, sound.id], TENANT) == (2, ANY)
    assert await store.inline.total_bytes() == 0


async def test_damage_of_an_ended_task_stops_no_other_input_from_moving(store: Store, client: Redis) -> None:
    """However many tasks have ended that have none."""
    damaged, *others = await failed(store, 7)
    await client.hset(store.engine.keys.task(damaged.id), "inline", "many")
    await client.zadd(store.engine.keys.finals, {new_task_id(): 0 for _ in range(ALL)})

    assert list(await store.inline.due()) == [one.id for one in others]
