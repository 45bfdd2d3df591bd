"""The backlog: what it counts, from the records of a real Redis."""

import pytest
from msgspec.structs import replace

from penstock.core.batch import BatchPlan, lines_left, new_batch_id
from penstock.core.submission import EnqueuePermit
from penstock.core.task import ErrorRecord, Outcome, Progress, State
from penstock.store import Pace, Store, Totals
from penstock.upkeep.backlog import LEAST_S, UNMEASURED_S, backlog
from tests.support.stores import MODEL, claim, lease_of, submission, submit

OTHER = "another"
BROKEN = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)
PACE_S = 4.0


async def seconds(store: Store) -> dict[str, float]:
    _, lines = await store.batches.waiting_lines()
    return await backlog(Totals([store]), await store.queues.depths([MODEL, OTHER]), lines, [MODEL, OTHER])


async def learn_pace(store: Store) -> None:
    """One task of the usual cost has taken PACE_S of the device."""
    await submit(store)
    await store.leases.complete(await lease_of(store), Outcome(execution={"device_ms": PACE_S * 1000}))
    assert (await store.queues.paces())[MODEL] == Pace(device_s=PACE_S, cost=1000)


async def start_batch(store: Store, *models: dict[str, int]) -> str:
    batch_id = new_batch_id()
    await store.batches.open(batch_id, "default", "alice", rate_limit=0, most=10, client_request_id=None)
    plan = BatchPlan(defaults={}, starts=(0,), base_url="", traceparent="")
    total = sum(sum(part.values()) for part in models)
    await store.batches.start(batch_id, "default", "alice", plan, total=total, ttl_s=60, fingerprint="f", models=models)
    return batch_id


async def test_the_backlog_counts_what_waits_runs_is_retried_and_is_in_batches(store: Store) -> None:
    await learn_pace(store)
    assert await seconds(store) == {MODEL: 0, OTHER: 0}

    for _ in range(3):
        await submit(store)
    await submit(store, model=OTHER)
    assert await seconds(store) == {MODEL: 3 * PACE_S, OTHER: UNMEASURED_S}

    running, retried = await lease_of(store), await lease_of(store)
    await store.leases.progress(running, "infer", Progress(done=3, total=4, unit="tiles"), took_ms=1.0)
    await store.leases.retry(retried, BROKEN, delay_ms=60_000)
    assert await seconds(store) == {MODEL: PACE_S + PACE_S / 4 + PACE_S, OTHER: UNMEASURED_S}

    await start_batch(store, {MODEL: 10}, {MODEL: 2, OTHER: 3})
    assert await seconds(store) == {MODEL: 2.25 * PACE_S + 12 * PACE_S, OTHER: 4 * UNMEASURED_S}


async def test_a_task_that_is_stored_counts_until_its_worker_has_done_with_it(store: Store) -> None:
    await learn_pace(store)
    await submit(store)
    running = await lease_of(store)
    await store.leases.progress(running, "upload", None, took_ms=1.0)
    assert await seconds(store) == {MODEL: LEAST_S, OTHER: 0}

    await store.leases.complete(running, Outcome())
    assert await seconds(store) == {MODEL: 0, OTHER: 0}


async def test_the_backlog_is_there_without_a_worker(store: Store) -> None:
    await submit(store)

    assert await store.workers.listed() == []
    assert await seconds(store) == {MODEL: UNMEASURED_S, OTHER: 0}


async def test_what_waits_in_a_paused_queue_is_no_work_for_anybody(store: Store) -> None:
    await submit(store)
    await store.queues.pause(MODEL, ["normal"], by="alice")

    assert await seconds(store) == {MODEL: 0, OTHER: 0}


async def test_lines_leave_the_backlog_as_they_become_tasks_or_are_canceled(store: Store) -> None:
    batch_id = await start_batch(store, {MODEL: 2}, {OTHER: 2})
    (lease,), _ = await store.batches.lease(lease_s=60, most=1)
    permit = EnqueuePermit(batch=batch_id, epoch=lease.epoch, place=0, window=9, lease_ms=60_000)
    await store.tasks.submit(replace(submission(), permit=permit), rate_limit=0)
    assert (await store.batches.waiting_lines())[1] == {MODEL: 1, OTHER: 2}

    await store.batches.skip(lease, 1, 1, State.FAILED, "internal")
    assert (await store.batches.waiting_lines())[1] == {OTHER: 2}

    await store.batches.cancel(batch_id, "default")
    assert (await store.batches.waiting_lines())[1] == {}


async def test_of_a_batch_of_an_earlier_release_the_lines_are_counted_under_no_model(store: Store) -> None:
    batch_id = await start_batch(store, {MODEL: 7})
    await store.engine.client.hdel(store.engine.keys.batch(batch_id), "models")

    assert (await store.batches.waiting_lines())[1] == {"unknown": 7}


async def test_a_record_that_cannot_be_read_holds_up_no_count(store: Store) -> None:
    await submit(store)
    await submit(store)
    lease = await lease_of(store)
    assert (await claim(store)).lease
    await store.engine.client.hset(store.engine.keys.task(lease.id), "state", "nonsense")

    assert await seconds(store) == {MODEL: UNMEASURED_S, OTHER: 0}


@pytest.mark.parametrize(
    ("fed", "left"),
    [(0, {"a": 6, "b": 2}), (2, {"a": 4, "b": 2}), (4, {"a": 2, "b": 2}), (6, {"a": 1, "b": 1}), (8, {})],
)
def test_within_a_part_each_model_has_its_share_of_what_is_left(fed: int, left: dict[str, int]) -> None:
    assert lines_left([{"a": 4}, {"a": 2, "b": 2}], fed) == left
