"""Requests of a tenant in any 60 s, counted in Redis for all API processes."""

import asyncio
import random

from penstock.store import RequestCount, Store
from tests.support.moved_clock import KEY, STILL, moved_clock
from tests.support.stores import open_store

QUOTA = 7
MINUTE_US = 60_000_000


async def test_the_quota_is_exact_whoever_counts_and_for_each_tenant(redis_url: str) -> None:
    async with open_store(redis_url) as one, open_store(redis_url, namespace=one.namespace) as other:
        counts = await asyncio.gather(
            *(
                store.quotas.count_request(tenant, quota=QUOTA)
                for store in (one, other)
                for tenant in ("north", "south")
                for _ in range(QUOTA)
            )
        )

    let_in = [count for count in counts if count.is_let_in]
    assert sorted(count.left for count in let_in) == sorted(2 * list(range(QUOTA)))
    assert {count.left for count in counts if not count.is_let_in} == {0}
    assert all(0 < count.reset_ms <= 60_000 for count in counts)


async def test_no_minute_has_more_requests_than_the_quota_and_none_is_refused_in_a_minute_with_fewer(
    redis_url: str,
) -> None:
    rng = random.Random(16)
    times = sorted(rng.randrange(5 * MINUTE_US) for _ in range(60))
    let_in: list[int] = []

    with moved_clock(STILL):
        async with open_store(redis_url) as store:
            for at in times:
                await store.engine.client.set(KEY, at + MINUTE_US)
                before = [one for one in let_in if one > at - MINUTE_US]
                count = await store.quotas.count_request("north", quota=QUOTA)
                assert count.is_let_in == (len(before) < QUOTA)
                if count.is_let_in:
                    let_in.append(at)
            await store.engine.client.delete(KEY)

    assert len(let_in) < len(times)


async def test_the_same_number_is_counted_whatever_the_quota_becomes(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first = [await counted(store, quota) for quota in (3, 3, 1, 3, 3, 4)]

    assert [(one.is_let_in, one.left) for one in first] == [
        (True, 2), (True, 1), (False, 0), (True, 0), (False, 0), (True, 0),
    ]  # fmt: skip


async def test_what_was_counted_is_forgotten_after_a_minute(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await counted(store, 3)

        assert 0 < await store.engine.client.pttl(store.engine.keys.of_root("requests:north")) <= 60_000


async def counted(store: Store, quota: int) -> RequestCount:
    return await store.quotas.count_request("north", quota=quota)
