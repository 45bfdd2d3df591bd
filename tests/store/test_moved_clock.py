"""The clock of Redis is set back, or jumps ahead: what is due in a second stays so, and nothing is deleted in haste."""

from collections.abc import AsyncIterator

import pytest

from penstock.core.access import TENANT
from penstock.core.lease import Lease
from penstock.core.task import ErrorRecord, Outcome, State
from penstock.settings import Settings
from penstock.store import BatchStore, Condemned, Engine, Outbox, Redis, Store, connect, scripts
from penstock.store.outbox import Quota
from tests.support.stores import claim, lease_of, open_batch, submission, submit

SECOND, MINUTE, DAY = 1, 60, 86_400
BACK = -10 * MINUTE
BROKEN = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)
READ = "NOW = t[1] * 1000000 + t[2]"
MOVED = f"{READ} + tonumber(redis.call('GET', KEYS[1] .. 'clock-is-ahead-by') or 0)"


class Clock:
    """What the scripts take for the time, and the reaper, which looks at it every second."""

    def __init__(self, client: Redis, store: Store) -> None:
        self._client, self._store = client, store
        self._key = f"{{{store.namespace}}}:clock-is-ahead-by"

    async def moves(self, seconds: float) -> None:
        """By so much at once, and the reaper sees it."""
        await self.moves_unseen(seconds)
        await self._store.overdue.reclaim()

    async def moves_unseen(self, seconds: float) -> None:
        """By so much at once, between two looks of the reaper."""
        await self._client.incrby(self._key, int(seconds * 1_000_000))

    async def passes(self, seconds: float) -> None:
        """With the reaper looking at it often enough to be sure that it did not jump."""
        for _ in range(-(-int(seconds) // 30)):
            await self.moves(seconds / -(-int(seconds) // 30))


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[Clock]:
    for name, text in scripts.TEXTS.items():
        monkeypatch.setitem(scripts.TEXTS, name, text.replace(READ, MOVED))
    async with connect(settings.redis) as client:
        clock = Clock(client, Store(Engine(client, settings.redis.namespace, settings.queue)))
        await clock.moves(0)
        yield clock


async def events(settings: Settings) -> int:
    """How many are due now, leased for a second."""
    async with connect(settings.redis) as client:
        outbox, room = Outbox(Engine(client, settings.redis.namespace, settings.queue)), Quota(9, 9)
        return len((await outbox.lease(lease_s=SECOND, prompt=room, others=room, under_way={})).events)


# --- back -------------------------------------------------------------------------------------------------------


async def test_a_retry_that_is_due_in_a_minute_stays_so_when_the_clock_is_set_back(clock: Clock, store: Store) -> None:
    task_id = await submit(store)
    await store.leases.retry(await lease_of(store), BROKEN, delay_ms=MINUTE * 1000)

    await clock.moves(BACK)
    early = await claim(store)
    await clock.moves(1.1 * MINUTE)

    assert early.lease is None
    assert (await lease_of(store)).id == task_id


async def test_a_batch_whose_feeder_has_died_is_fed_in_time_when_the_clock_is_set_back(
    clock: Clock, batches: BatchStore
) -> None:
    batch_id = await open_batch(batches, lines=3)
    await batches.lease(lease_s=MINUTE, most=9)

    await clock.moves(BACK)
    early, _ = await batches.lease(lease_s=MINUTE, most=9)
    await clock.moves(1.1 * MINUTE)
    late, _ = await batches.lease(lease_s=MINUTE, most=9)

    assert early == []
    assert [lease.id for lease in late] == [batch_id]


async def test_an_event_whose_dispatcher_has_died_is_sent_in_time_when_the_clock_is_set_back(
    clock: Clock, settings: Settings, store: Store
) -> None:
    await store.tasks.cancel(await submit(store, tell=("canceled",)), TENANT)
    assert await events(settings) == 1

    await clock.moves(BACK)
    early = await events(settings)
    await clock.moves(1.1 * SECOND)

    assert (early, await events(settings)) == (0, 1)


async def test_nobody_waits_longer_than_a_window_of_the_rate_when_the_clock_is_set_back(
    clock: Clock, store: Store
) -> None:
    for _ in range(2):
        await store.tasks.submit(submission(), rate_limit=2)

    await clock.moves(BACK)

    assert (await store.tasks.submit(submission(), rate_limit=2)).rate_left == 1


async def test_a_lease_lasts_as_long_as_ever_when_the_clock_is_set_back(clock: Clock, store: Store) -> None:
    lease = await lease_of_new(store)

    await clock.moves(BACK)
    assert await store.leases.progress(lease, "infer")
    for _ in range(4):
        await clock.moves(2 * SECOND)

    assert not await store.leases.progress(lease, "infer")


async def test_what_is_condemned_is_deleted_in_time_when_the_clock_is_set_back(
    clock: Clock, store: Store, condemned: Condemned
) -> None:
    task_id = await failed(store)
    await store.tasks.delete(task_id, TENANT)

    await clock.moves(BACK)
    await clock.moves(SECOND)

    assert await condemned.take() == [f"results/default/{task_id}/"]


async def test_a_task_deleted_before_the_clock_was_set_back_is_gone_after(clock: Clock, store: Store) -> None:
    first = await submit(store, reuse_digest="equal", result_ttl_s=0)
    await store.leases.complete(await lease_of(store), Outcome())

    assert await store.overdue.prune() == 1
    await clock.moves(-2 * SECOND)

    assert (await store.tasks.submit(submission(reuse_digest="equal"), rate_limit=0)).reuse == "miss"
    assert first not in [task.id for task in (await store.listing.page(TENANT)).tasks]


# --- ahead ------------------------------------------------------------------------------------------------------


async def test_after_a_jump_ahead_nothing_is_deleted_by_time_for_ten_minutes(
    clock: Clock, store: Store, batches: BatchStore, condemned: Condemned
) -> None:
    await failed(store)
    await open_batch(batches, lines=1, is_started=False)
    await store.tasks.await_inputs(["inputs/default/x"])

    await clock.moves(DAY)
    at_once = await store.overdue.prune(), await batches.prune(), await condemned.take()
    await clock.passes(9 * MINUTE)
    soon = await store.overdue.prune(), await batches.prune(), await condemned.take()
    await clock.passes(2 * MINUTE)

    assert at_once == soon == (0, 0, [])
    assert (await store.overdue.prune(), await batches.prune()) == (1, 1)
    assert len(await condemned.take()) == 3


async def test_a_jump_ahead_that_the_reaper_has_not_seen_yet_deletes_nothing_either(
    clock: Clock, store: Store, condemned: Condemned
) -> None:
    await failed(store)
    await store.tasks.await_inputs(["inputs/default/x"])

    await clock.moves_unseen(DAY)

    assert (await store.overdue.prune(), await condemned.take()) == (0, [])


async def test_what_a_jump_ahead_would_have_deleted_is_kept_when_the_clock_is_set_right(
    clock: Clock, store: Store
) -> None:
    task_id = await failed(store)

    await clock.moves(DAY)
    assert await store.overdue.prune() == 0
    await clock.moves(-DAY)

    assert await store.overdue.prune() == 0
    assert (await store.tasks.get(task_id, TENANT)).state is State.FAILED
    await clock.passes(61 * MINUTE)
    assert await store.overdue.prune() == 1, "in its own time"


async def test_a_delete_by_its_client_does_not_wait_for_the_clock(
    clock: Clock, store: Store, condemned: Condemned
) -> None:
    task_id = await failed(store)
    await clock.moves(DAY)

    assert await store.tasks.delete(task_id, TENANT) == await condemned.take() == [f"results/default/{task_id}/"]


async def failed(store: Store) -> str:
    """The id of a task that ran and failed."""
    lease = await lease_of_new(store)
    await store.leases.fail(lease, Outcome(error=BROKEN))
    return lease.id


async def lease_of_new(store: Store) -> Lease:
    """The lease of a task that was just submitted."""
    await submit(store)
    return await lease_of(store)
