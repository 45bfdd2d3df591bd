"""A worker that serves tenants of several shards."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from penstock.core.request import Source
from penstock.core.task import PRIORITIES, State
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Claim, Shards, connect_each
from penstock.store.keys import shard_of
from penstock.worker.claim_order import ClaimOrder
from tests.support.slow_model import MODEL
from tests.support.stores import claim, submission, submit
from tests.support.workers import host, image, until

COUNT = 3
TENANTS = {shard_of(name, COUNT): name for name in map("tenant-{}".format, range(30))}
"""One of each shard."""


@pytest.fixture
async def shards(settings: Settings) -> AsyncIterator[Shards]:
    async with connect_each(replace(settings.redis, shards=COUNT)) as clients:
        yield Shards.over(clients, settings.queue)


async def submit_image(shards: Shards, tenant: str) -> str:
    asked = submission(model=MODEL, tenant=tenant)
    request = replace(asked.request, inputs={"image": Source(data=image())}, params={"tile_s": 0.05})
    return (await shards.of(tenant).tasks.submit(replace(asked, request=request), rate_limit=0)).id


async def test_a_worker_runs_tasks_of_every_shard_and_is_listed_in_each(shards: Shards, storage: Storage) -> None:
    async with host(shards, storage, MODEL):
        ids = {await submit_image(shards, tenant): tenant for tenant in TENANTS.values() for _ in range(2)}
        for task_id, tenant in ids.items():
            tasks = shards.of(tenant).tasks
            async with asyncio.timeout(60):
                while (task := await tasks.get(task_id, tenant)).state is not State.SUCCESS:
                    assert not task.state.is_final
                    await asyncio.sleep(0.01)
        assert [[worker.id for worker in await store.workers.listed()] for store in shards] == [["w1"]] * COUNT
    assert [await store.workers.listed() for store in shards] == [[]] * COUNT, "it has signed off everywhere"


async def test_a_worker_that_is_drained_in_every_shard_claims_nothing_and_then_goes_on(
    shards: Shards, storage: Storage
) -> None:
    async with host(shards, storage, MODEL) as worker:
        await until(lambda: _listed_everywhere(shards))
        await shards.each(lambda store: store.workers.drain("w1"))
        await until(lambda: worker._claims.is_drained)
        ids = {tenant: await submit_image(shards, tenant) for tenant in TENANTS.values()}
        await shards.each(lambda store: store.workers.resume("w1"))
        await until(lambda: _have_ended(shards, ids))


async def test_a_drain_that_has_reached_one_shard_holds_in_all_of_them_until_it_is_taken_back(
    shards: Shards, storage: Storage
) -> None:
    async with host(shards, storage, MODEL) as worker:
        await until(lambda: _listed_everywhere(shards))
        await shards.of(TENANTS[1]).workers.drain("w1")
        await until(lambda: worker._claims.is_drained)
        ids = {tenant: await submit_image(shards, tenant) for tenant in TENANTS.values()}
        for _ in range(3):
            worker._claims.look()
            await asyncio.sleep(0.1)
        assert worker._claims.is_drained
        waiting = [(await shards.of(tenant).tasks.get(task_id, tenant)).state for tenant, task_id in ids.items()]
        assert waiting == [State.PENDING] * COUNT
        await shards.of(TENANTS[1]).workers.resume("w1")
        await until(lambda: _have_ended(shards, ids))


async def _listed_everywhere(shards: Shards) -> bool:
    return all([await store.workers.listed() for store in shards])


async def _have_ended(shards: Shards, ids: dict[str, str]) -> bool:
    found = [await shards.of(tenant).tasks.get(task_id, tenant) for tenant, task_id in ids.items()]
    return all(task.state is State.SUCCESS for task in found)


async def given(shards: Shards, device_ms: float) -> Claim:
    """A claim that was given a task which should take so long."""
    store = shards.home
    await submit(store)
    lease = (await claim(store)).lease
    assert lease is not None
    return Claim(replace(lease, device_ms=device_ms))


async def test_the_device_is_shared_evenly_by_the_shards_in_which_something_waits(shards: Shards) -> None:
    """One shard has tasks three times as long: the others are given three times as many."""
    order, short, long = ClaimOrder(shards), await given(shards, 100), await given(shards, 300)
    turns = [0] * COUNT
    for _ in range(70):
        source = order.next(len(PRIORITIES))
        assert source is not None
        shard = source.store.shard
        turns[shard] += 1
        order.charge(source, [long if shard == 0 else short])
    assert turns == [10, 30, 30]


async def test_a_shard_that_had_nothing_for_long_has_saved_nothing_up(shards: Shards) -> None:
    order, one = ClaimOrder(shards), await given(shards, 100)
    for source in order:
        source.dry = len(PRIORITIES) if source.store.shard == 2 else 0
    for _ in range(40):
        source = order.next(len(PRIORITIES))
        assert source is not None
        assert source.store.shard != 2
        order.charge(source, [one])
    order.hear(2)
    turns = [0] * COUNT
    for _ in range(9):
        source = order.next(len(PRIORITIES))
        assert source is not None
        turns[source.store.shard] += 1
        order.charge(source, [one])
    assert max(turns) <= 4


async def test_a_shard_that_is_dry_is_not_asked_until_something_is_heard_or_a_while_has_passed(
    shards: Shards,
) -> None:
    order = ClaimOrder(shards)
    for _ in range(COUNT):
        source = order.next(len(PRIORITIES))
        assert source is not None
        order.found_nothing(source, Claim(None, None), len(PRIORITIES))
    assert order.next(len(PRIORITIES)) is None
    assert order.dry == len(PRIORITIES)

    order.hear(1)
    heard = order.next(len(PRIORITIES))
    assert heard is not None
    assert heard.store.shard == 1
    heard.has_news = False
    order.found_nothing(heard, Claim(None, None), len(PRIORITIES))
    order.refresh(heard.look_at + 1)
    assert order.dry == 0
