"""The grid: every state x every verb, on a real Redis, against the one table."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product

import pytest

from penstock.core.lease import Lease
from penstock.core.task import PRIORITIES, TRANSITIONS, ErrorRecord, Outcome, Priority, State, Verb
from penstock.errors import TaskAlreadyFinal
from penstock.store import Store
from tests.support.stores import MODEL, claim, lease_of, open_store, submit

START_WITHIN_S, FINISH_WITHIN_S = 0.3, 0.4
"""Long enough to be claimed on a busy machine, short enough to be waited for."""

OUTCOME = Outcome(error=ErrorRecord(code="internal", message="why", retryable=False))


async def bring_to(store: Store, state: State) -> tuple[str, Lease | None]:
    """A task in this state, with the lease that its last worker held."""
    task_id = await submit(
        store, start_within_s=START_WITHIN_S, finish_within_s=FINISH_WITHIN_S, reuse_digest="the-same"
    )
    if state is State.PENDING:
        return task_id, None
    if state is State.EXPIRED:
        await asyncio.sleep(START_WITHIN_S)
        await store.overdue.expire()
        return task_id, None
    lease = await lease_of(store)
    if state is State.SUCCESS:
        await store.leases.complete(lease, Outcome())
    elif state is State.FAILED:
        await store.leases.fail(lease, OUTCOME)
    elif state is State.CANCELED:
        await store.tasks.cancel(task_id, "default")
    return task_id, lease


async def do_claim(store: Store, task_id: str, lease: Lease) -> bool:
    got = (await claim(store, "w2")).lease
    return got is not None and got.id == task_id


async def do_cancel(store: Store, task_id: str, lease: Lease) -> bool:
    try:
        await store.tasks.cancel(task_id, "default")
    except TaskAlreadyFinal:
        return False
    return True


async def do_expire(store: Store, task_id: str, lease: Lease) -> bool:
    await asyncio.sleep(START_WITHIN_S)
    return task_id in [expired for expired, _ in await store.overdue.expire()]


async def do_overrun(store: Store, task_id: str, lease: Lease) -> bool:
    await asyncio.sleep(FINISH_WITHIN_S)
    return task_id in [late for late, _, _ in await store.overdue.overrun()]


async def do_resubmit(store: Store, task_id: str, lease: Lease) -> bool:
    try:
        return await store.tasks.resubmit(task_id, "default")
    except TaskAlreadyFinal:
        return False


async def do_complete(store: Store, task_id: str, lease: Lease) -> bool:
    return await store.leases.complete(lease, Outcome(timing={"late": 1})) == 1


async def do_reuse(store: Store, task_id: str, lease: Lease) -> bool:
    """An equal task comes, and is run first."""
    await submit(store, priority=Priority.HIGH, reuse_digest="the-same")
    equal = (await claim(store, "w2", priorities=[Priority.HIGH])).lease
    return equal is not None and await store.leases.complete(equal, Outcome(timing={"equal": 1})) == 2


DEEDS: dict[Verb, Callable[[Store, str, Lease], Awaitable[bool]]] = {
    Verb.CLAIM: do_claim,
    Verb.REUSE: do_reuse,
    Verb.COMPLETE: do_complete,
    Verb.FAIL: lambda store, _, lease: store.leases.fail(lease, OUTCOME),
    Verb.RETRY: lambda store, _, lease: store.leases.retry(
        lease, ErrorRecord(code="x", message="", retryable=True), delay_ms=9999
    ),
    Verb.RELEASE: lambda store, _, lease: store.leases.release(lease),
    Verb.CANCEL: do_cancel,
    Verb.EXPIRE: do_expire,
    Verb.OVERRUN: do_overrun,
    Verb.RESUBMIT: do_resubmit,
}

REPEATED = {(State.CANCELED, Verb.CANCEL), (State.SUCCESS, Verb.COMPLETE), (State.FAILED, Verb.FAIL)}
"""The same call again, because its answer was lost: accepted, and nothing changes."""


@pytest.mark.parametrize(("state", "verb"), list(product(State, Verb)))
async def test_a_verb_moves_a_state_as_the_table_says_or_not_at_all(redis_url: str, state: State, verb: Verb) -> None:
    async with open_store(redis_url) as store:
        task_id, lease = await bring_to(store, state)
        if lease is None:  # nobody ever held it: try with a lease that somebody made up
            other = await submit(store)
            lease = (await claim(store, "w0", models=["nothing"])).lease or await forged(store, task_id, other)
        before = await store.tasks.get(task_id, "default")

        accepted = await DEEDS[verb](store, task_id, lease)

        after = await store.tasks.get(task_id, "default")
        expected = TRANSITIONS.get((state, verb))
        assert accepted == (expected is not None or (state, verb) in REPEATED)
        assert after.state == (expected or state)
        if expected is None:
            assert (after.outcome, after.attempts, after.finished) == (before.outcome, before.attempts, before.finished)
        counts = await store.listing.count("default")
        assert counts[after.state] >= 1
        assert (await store.listing.page("default", states=[after.state])).tasks


@pytest.mark.parametrize("state", list(State))
async def test_a_purge_ends_what_waits_and_leaves_all_else_as_it_is(redis_url: str, state: State) -> None:
    async with open_store(redis_url) as store:
        task_id, _ = await bring_to(store, state)
        before = await store.tasks.get(task_id, "default")

        counts = [(await store.queues.purge("default", MODEL, PRIORITIES, limit=10)).canceled for _ in range(2)]

        after = await store.tasks.get(task_id, "default")
        waits = state is State.PENDING
        assert (after.state, counts) == (State.CANCELED if waits else state, [int(waits), 0])
        assert waits or after == before


@pytest.mark.parametrize("state", list(State))
async def test_a_pause_moves_nothing_and_keeps_what_waits_from_starting(redis_url: str, state: State) -> None:
    async with open_store(redis_url) as store:
        task_id, _ = await bring_to(store, state)
        before = await store.tasks.get(task_id, "default")

        await store.queues.pause(MODEL, PRIORITIES, by="alice")

        assert await store.tasks.get(task_id, "default") == before
        assert (await claim(store, "w2")).lease is None
        await store.queues.resume(MODEL, PRIORITIES)
        started = (await claim(store, "w2")).lease
        assert (started is not None) == (state is State.PENDING)


async def forged(store: Store, task_id: str, other: str) -> Lease:
    """A lease on a task that was never claimed."""
    from msgspec.structs import replace

    await store.tasks.cancel(other, "default")
    request = (await store.tasks.get(task_id, "default")).request
    template = Lease(
        id=task_id, epoch=0, fence="none", tenant="default", caller="alice", priority="normal", failures=0, crashes=0,
        max_retries=3, timeout_s=1, waited_ms=0, request=request,
    )  # fmt: skip
    return replace(template, epoch=0)


ENDS = [(state, verb) for (state, verb), to in TRANSITIONS.items() if to.is_final and verb is not Verb.REUSE]
"""Reuse is the end of two, of which one has run: see the tests of it."""


@pytest.mark.parametrize(("state", "verb"), ENDS)
async def test_every_end_is_told_once_and_wakes_no_worker(redis_url: str, state: State, verb: Verb) -> None:
    async with open_store(redis_url) as store:
        task_id, lease = await bring_to(store, state)
        lease = lease or await forged(store, task_id, await submit(store))
        ends, signals = store.tasks.ends(), store.workers.signals()
        assert (await anext(ends), await anext(signals)) == ("", ("look", ""))

        await DEEDS[verb](store, task_id, lease)
        following = await submit(store)
        await store.tasks.cancel(following, "default")

        async with asyncio.timeout(2):
            assert [await anext(ends), await anext(ends)] == [task_id, following]
            told = [await anext(signals)]
            if told == [("cancel", lease.key)]:  # the one who ran it
                told = [await anext(signals)]
        assert told == [("queued", "superres-x4")]
        await ends.aclose()
        await signals.aclose()


@pytest.mark.parametrize("verb", [Verb.COMPLETE, Verb.FAIL, Verb.RETRY, Verb.RELEASE])
async def test_a_late_worker_cannot_settle_what_another_runs(redis_url: str, verb: Verb) -> None:
    async with open_store(redis_url) as store:
        task_id = await submit(store)
        late = await lease_of(store, "late")
        await store.overdue.reclaim("late")
        current = await lease_of(store, "current")

        assert not await DEEDS[verb](store, task_id, late)
        assert (await store.tasks.get(task_id, "default")).worker == "current"
        assert await store.leases.complete(current, Outcome(timing={"a": 1}))
        assert not await DEEDS[verb](store, task_id, late)
        assert (await store.tasks.get(task_id, "default")).outcome.timing == {"a": 1}


async def test_settling_twice_with_one_lease_is_accepted_and_counts_once(redis_url: str) -> None:
    problem = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)
    async with open_store(redis_url) as store:
        task_id = await submit(store)
        lease = await lease_of(store)

        assert await store.leases.retry(lease, problem, delay_ms=1)
        assert await store.leases.retry(lease, problem, delay_ms=1)

        task = await store.tasks.get(task_id, "default")
        assert (task.failures, len(task.attempts)) == (1, 1)


async def test_canceling_tells_the_worker_and_takes_its_lease(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        task_id = await submit(store)
        lease = await lease_of(store)
        signals = store.workers.signals()
        assert await anext(signals) == ("look", "")

        await store.tasks.cancel(task_id, "default")

        async with asyncio.timeout(2):
            assert await anext(signals) == ("cancel", lease.key)
        await signals.aclose()
        assert not await store.leases.progress(lease, "infer")
        assert not await store.leases.complete(lease, Outcome())
        task = await store.tasks.get(task_id, "default")
        assert (task.state, task.outcome.result) == (State.CANCELED, None)


async def test_another_tenant_sees_nothing(redis_url: str) -> None:
    from penstock.errors import TaskNotFound

    async with open_store(redis_url) as store:
        task_id = await submit(store)

        with pytest.raises(TaskNotFound):
            await store.tasks.get(task_id, "other")
        with pytest.raises(TaskNotFound):
            await store.tasks.cancel(task_id, "other")
        assert not (await store.listing.page("other")).tasks


async def test_a_task_that_runs_past_its_deadline_fails_and_its_worker_is_told(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        running = await submit(store, finish_within_s=FINISH_WITHIN_S)
        lease = await lease_of(store)
        waiting = await submit(store, finish_within_s=FINISH_WITHIN_S)
        signals = store.workers.signals()
        await anext(signals)
        await asyncio.sleep(FINISH_WITHIN_S)

        ended = {task_id: state for task_id, _, state in await store.overdue.overrun()}

        assert ended == {running: State.FAILED, waiting: State.EXPIRED}
        async with asyncio.timeout(2):
            assert await anext(signals) == ("cancel", lease.key)
        await signals.aclose()
        assert not await store.leases.complete(lease, Outcome())
        for task_id in (running, waiting):
            task = await store.tasks.get(task_id, "default")
            assert task.outcome.error is not None
            assert task.outcome.error.code == "deadline_exceeded"


async def test_a_task_run_again_keeps_its_id_and_its_attempts(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        task_id = await submit(
            store, start_within_s=START_WITHIN_S, finish_within_s=FINISH_WITHIN_S, client_request_id="once"
        )
        await store.leases.fail(await lease_of(store), OUTCOME)
        await asyncio.sleep(FINISH_WITHIN_S)

        assert await store.tasks.resubmit(task_id, "default")
        assert not await store.tasks.resubmit(task_id, "default")

        await store.overdue.expire()
        await store.overdue.overrun()
        assert await store.overdue.prune() == 0
        lease = await lease_of(store)
        assert (lease.id, lease.epoch, lease.failures) == (task_id, 2, 0)
        assert await store.leases.complete(lease, Outcome(timing={"a": 1}))
        task = await store.tasks.get(task_id, "default")
        assert [a.outcome for a in task.attempts] == ["fail", "complete"]
        assert (task.state, task.outcome.error) == (State.SUCCESS, None)
