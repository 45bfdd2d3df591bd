"""A task whose record is gone, while its id is still where the queue looks, stands in nobody's way."""

from collections.abc import AsyncIterator

import pytest

from penstock.core.task import ErrorRecord, Outcome, State
from penstock.settings import Settings
from penstock.store import Redis, Store, connect
from penstock.store.keys import Keys
from tests.support.stores import MODEL, submission

LOST = ErrorRecord(code="input_fetch_failed", message="", retryable=True)


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with connect(settings.redis) as client:
        yield client


async def lose(redis: Redis, keys: Keys, task_id: str) -> None:
    """Everything but its place in the sets that say what is next."""
    await redis.delete(keys.task(task_id), keys.body(task_id), keys.outcome(task_id), keys.attempts(task_id))
    for state in State:
        await redis.zrem(keys.state("default", state), task_id)


async def test_a_lost_task_in_a_queue_is_passed_over(store: Store, settings: Settings, redis: Redis) -> None:
    keys = Keys(settings.redis.namespace)
    lost, sound = [(await store.tasks.submit(submission(), rate_limit=0)).id for _ in range(2)]
    await lose(redis, keys, lost)

    first = await store.leases.claim(worker="w", device="cpu", models=[MODEL])
    second = await store.leases.claim(worker="w", device="cpu", models=[MODEL])

    assert (first.lease, first.next_due_s) == (None, 0), "ask again at once"
    assert second.lease is not None
    assert second.lease.id == sound


@pytest.mark.parametrize("where", ["running", "delayed", "starting", "deadlines", "finals"])
async def test_a_lost_task_elsewhere_holds_up_no_sweep_and_no_claim(
    store: Store, settings: Settings, redis: Redis, where: str
) -> None:
    keys = Keys(settings.redis.namespace)
    made = submission(start_within_s=60.0 if where == "starting" else None, finish_within_s=60.0)
    lost = (await store.tasks.submit(made, rate_limit=0)).id
    if where in ("running", "delayed", "finals"):
        lease = (await store.leases.claim(worker="w", device="cpu", models=[MODEL])).lease
        assert lease is not None
        if where == "delayed":
            assert await store.leases.retry(lease, LOST, delay_ms=1)
        elif where == "finals":
            assert await store.leases.complete(lease, Outcome())
    await lose(redis, keys, lost)
    for key in (keys.running, keys.delayed, keys.finals, keys.of_root("starting"), keys.of_root("deadlines")):
        await redis.zadd(key, {lost: 1}, xx=True)  # due long ago
    sound = (await store.tasks.submit(submission(), rate_limit=0)).id

    await store.overdue.reclaim()
    await store.overdue.reclaim()
    await store.overdue.expire()
    await store.overdue.overrun()
    await store.overdue.prune()
    claimed = [await store.leases.claim(worker="w", device="cpu", models=[MODEL]) for _ in range(3)]

    assert [claim.lease.id for claim in claimed if claim.lease] == [sound]
    assert [await redis.zscore(key, lost) for key in (keys.running, keys.delayed, keys.finals)] == [None] * 3
    assert [await redis.zscore(keys.of_root(name), lost) for name in ("starting", "deadlines")] == [None] * 2
