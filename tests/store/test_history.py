"""Samples of the last hour: one a minute, whoever writes it, and never more than an hour of them."""

import asyncio

from penstock.core.history import MINUTES, MinuteSample
from penstock.store import Shards, Store
from penstock.upkeep.history import sample


async def test_one_of_many_processes_takes_the_sample_of_a_minute(store: Store) -> None:
    told = await asyncio.gather(*(store.history.begin(7) for _ in range(5)))
    assert sorted(told) == [False] * 4 + [True]
    assert await store.history.last_hour() == [], "it is not taken yet"
    await store.history.put(MinuteSample(minute=7, running=2))
    assert await store.history.last_hour() == [MinuteSample(minute=7, running=2)]


async def test_an_hour_is_kept_and_no_more(store: Store) -> None:
    for minute in range(1, 3 * MINUTES):
        await store.history.begin(minute)
        await store.history.put(MinuteSample(minute=minute))
    kept = [one.minute for one in await store.history.last_hour()]
    assert kept == list(range(2 * MINUTES, 3 * MINUTES))


async def test_a_damaged_sample_hides_no_other(store: Store) -> None:
    await store.history.put(MinuteSample(minute=1))
    await store.engine.write(
        [("HSET", store.engine.keys.history, "2", b"{broken"), ("HSET", store.engine.keys.history, "x", b"1")]
    )
    assert [one.minute for one in await store.history.last_hour()] == [1]
    await store.history.put(MinuteSample(minute=3))
    assert b"x" not in await store.engine.client.hkeys(store.engine.keys.history)


async def test_a_sample_of_an_empty_server_is_taken_once(store: Store) -> None:
    await sample(Shards([store]), ["superres-x4"])
    (first,) = await store.history.last_hour()
    assert (first.running, first.workers, first.success, sum(first.waiting.values())) == (0, 0, 0, 0)
    await sample(Shards([store]), ["superres-x4"])
    assert len(await store.history.last_hour()) <= 2, "the minute may have passed"
