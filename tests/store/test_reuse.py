"""Equal tasks share one run: who waits for whom, who does not, and how long the one result is kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from penstock.core.access import TENANT
from penstock.core.lease import Lease
from penstock.core.task import Artifact, ErrorRecord, Outcome, Priority, Result, State
from penstock.errors import QueueFull
from penstock.store import Condemned, Store
from penstock.store.submits import MAX_FOLLOWERS
from tests.support.stores import (
    MODEL,
    claim,
    lease_of,
    open_condemned,
    open_store,
    own_input,
    submission,
    submit,
)

CAT = "digest-of-a-cat"
BROKEN = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)


def result_of(lease: Lease) -> Outcome:
    """A file of its own."""
    file = Artifact(name="result.png", s3_key=f"results/{lease.id}.png", size=1, sha256="", content_type="image/png")
    return Outcome(result=Result(artifacts=(file,)), timing={"infer_ms": 2.5}, execution={"device": "cpu"})


async def run_next(store: Store, **options: Any) -> tuple[str, int]:
    """Claim and complete; the id, and how many tasks ended."""
    lease = await lease_of(store, **options)
    return lease.id, await store.leases.complete(lease, result_of(lease))


async def equal(store: Store, **options: Any) -> str:
    """Submit another cat."""
    return await submit(store, reuse_digest=CAT, **options)


async def seen(store: Store, *task_ids: str) -> list[tuple[State, str]]:
    """State and reuse of each."""
    tasks = [await store.tasks.get(task_id, TENANT) for task_id in task_ids]
    return [(task.state, task.reuse) for task in tasks]


# --- one run, many results ----------------------------------------------------------------------------------------


async def test_equal_tasks_at_once_are_one_run_and_as_many_results(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = await asyncio.gather(*(equal(store) for _ in range(50)))

        ran, ended = await run_next(store)

        assert ended == 50
        assert (await claim(store)).lease is None
        states = dict(zip(ids, await seen(store, *ids), strict=True))
        assert states.pop(ran) == (State.SUCCESS, "miss")
        assert set(states.values()) == {(State.SUCCESS, "coalesced")}
        keys = {(await store.tasks.get(task_id, TENANT)).outcome.result.first.s3_key for task_id in ids}  # type: ignore[union-attr]
        assert keys == {f"results/{ran}.png"}


async def test_a_task_whose_equal_has_ended_has_its_result_at_once(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first = await equal(store)
        await run_next(store)

        answer = await store.tasks.submit(submission(reuse_digest=CAT), rate_limit=0)

        task = await store.tasks.get(answer.id, TENANT)
        assert (answer.reuse, answer.position) == ("hit", None)
        assert (task.state, task.reuse, task.attempts, task.started) == (State.SUCCESS, "hit", (), None)
        assert task.outcome.result == (await store.tasks.get(first, TENANT)).outcome.result
        assert task.outcome.execution == {"reused_from": first}
        assert task.outcome.timing.keys() == {"queue_ms", "total_ms"}
        assert (await claim(store)).lease is None


async def test_tasks_that_differ_or_have_no_digest_run(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = [await equal(store), await submit(store, reuse_digest="digest-of-a-dog")]
        ids += [await submit(store), await submit(store)]

        assert [(await run_next(store))[0] for _ in ids] == ids


async def test_a_task_that_must_run_runs_and_later_ones_take_its_result(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await equal(store)
        await run_next(store)
        forced = await equal(store, must_run=True)

        assert (await run_next(store))[0] == forced

        later = await store.tasks.get(await equal(store), TENANT)
        assert later.outcome.execution == {"reused_from": forced}


async def test_nobody_waits_for_a_task_that_must_run(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        forced, plain = await equal(store, must_run=True), await equal(store)

        assert await seen(store, forced, plain) == [(State.PENDING, "miss")] * 2


async def test_a_task_run_again_runs(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        canceled = await equal(store)
        await store.tasks.cancel(canceled, TENANT)
        await equal(store)
        await run_next(store)

        await store.tasks.resubmit(canceled, TENANT)

        assert (await run_next(store))[0] == canceled


async def test_a_submit_that_needs_no_input_says_so_before_it_is_stored(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first, second = own_input(submission(reuse_digest=CAT)), own_input(submission(reuse_digest=CAT))
        assert await store.tasks.submit_unstored(first, rate_limit=0) is None
        assert (await store.listing.count(TENANT))[State.PENDING] == 0
        await store.tasks.submit(first, rate_limit=0)
        assert await store.tasks.submit_unstored(second, rate_limit=0) is None, "it may have to run"
        await run_next(store)

        answer = await store.tasks.submit_unstored(second, rate_limit=0)

        assert answer is not None
        assert (answer.id, answer.reuse) == (second.id, "hit")
        again = await store.tasks.submit_unstored(second, rate_limit=0)
        assert again is not None
        assert (again.id, again.reuse, again.replayed) == (second.id, "hit", False)


async def test_the_end_of_each_is_told_and_no_worker_wakes_up_for_it(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader = await equal(store)
        ends, signals = store.tasks.ends(), store.workers.signals()
        assert (await anext(ends), await anext(signals)) == ("", ("look", ""))

        follower = await equal(store)
        await run_next(store)
        hit = await equal(store)
        await submit(store, model="another")

        async with asyncio.timeout(2):
            assert {await anext(ends), await anext(ends)} == {leader, follower}
            assert await anext(ends) == hit
            assert await anext(signals) == ("queued", "another")
        await ends.aclose()
        await signals.aclose()


# --- the leader does not get there --------------------------------------------------------------------------------


async def is_canceled(store: Store, leader: str, lease: Lease) -> None:
    await store.tasks.cancel(leader, TENANT)


async def fails(store: Store, leader: str, lease: Lease) -> None:
    await store.leases.fail(lease, Outcome(error=BROKEN))


async def is_retried(store: Store, leader: str, lease: Lease) -> None:
    await store.leases.retry(lease, BROKEN, delay_ms=60_000)


async def is_handed_back(store: Store, leader: str, lease: Lease) -> None:
    await store.leases.release(lease)


async def is_released_unknown(store: Store, leader: str, lease: Lease) -> None:
    await store.leases.release_unknown("w1", [], before=0)


async def loses_its_worker(store: Store, leader: str, lease: Lease) -> None:
    await store.overdue.reclaim("w1")


async def is_late(store: Store, leader: str, lease: Lease) -> None:
    await asyncio.sleep(0.5)
    assert [task_id for task_id, _, _ in await store.overdue.overrun()] == [leader]


HANDED_BACK = (is_handed_back, is_released_unknown, loses_its_worker)


@pytest.mark.parametrize("mishap", [is_canceled, fails, is_retried, *HANDED_BACK, is_late])
async def test_when_the_leader_does_not_succeed_one_of_the_others_runs_for_all(
    redis_url: str, mishap: Callable[[Store, str, Lease], Awaitable[None]]
) -> None:
    async with open_store(redis_url) as store:
        leader = await equal(store, finish_within_s=0.5 if mishap is is_late else None)
        others = [await equal(store) for _ in range(3)]
        lease = await lease_of(store)
        assert await seen(store, *others) == [(State.PENDING, "coalesced")] * 3

        await mishap(store, leader, lease)

        assert await seen(store, *others) == [(State.PENDING, "miss"), *[(State.PENDING, "coalesced")] * 2]
        held = [await lease_of(store, "w2") for _ in range(2 if mishap in HANDED_BACK else 1)]
        assert (await claim(store)).lease is None
        assert {lease.id for lease in held} == ({leader, others[0]} if mishap in HANDED_BACK else {others[0]})
        assert sum([await store.leases.complete(lease, result_of(lease)) for lease in held]) == len(held) + 2


@pytest.mark.parametrize("mishap", HANDED_BACK)
async def test_a_leader_with_many_followers_that_does_not_get_there_costs_one_run_more(
    redis_url: str, mishap: Callable[[Store, str, Lease], Awaitable[None]]
) -> None:
    async with open_store(redis_url) as store:
        leader = await equal(store)
        others = [await equal(store) for _ in range(MAX_FOLLOWERS)]
        await mishap(store, leader, await lease_of(store))

        runs = 0
        while lease := (await claim(store)).lease:
            runs += 1
            await store.leases.complete(lease, result_of(lease))
            await store.overdue.answer_waiting()

        assert runs <= 2
        assert {state for state, _ in await seen(store, leader, *others)} == {State.SUCCESS}


async def test_the_best_placed_follower_leads_the_others_and_who_is_paused_comes_last(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader = await equal(store, priority=Priority.HIGH)
        low, normal = await equal(store, priority=Priority.LOW), await equal(store)
        await store.queues.pause(MODEL, [Priority.NORMAL], by="alice")

        await store.tasks.cancel(leader, TENANT)

        assert await seen(store, low, normal) == [(State.PENDING, "miss"), (State.PENDING, "coalesced")]
        assert await run_next(store) == (low, 2)


async def test_a_follower_does_not_wait_for_a_leader_whose_queue_is_paused(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        high, normal, low = [await equal(store, priority=priority) for priority in Priority]

        await store.queues.pause(MODEL, [Priority.HIGH, Priority.LOW], by="alice")

        assert await seen(store, high, normal, low) == [
            (State.PENDING, "miss"),
            (State.PENDING, "miss"),
            (State.PENDING, "coalesced"),
        ]
        assert await run_next(store) == (normal, 3)


async def test_a_follower_of_a_higher_class_goes_on_for_itself_when_its_queue_does(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader, normal, low = [await equal(store, priority=priority) for priority in Priority]
        await store.queues.pause(MODEL, [Priority.NORMAL], by="alice")
        await store.tasks.cancel(leader, TENANT)
        assert await seen(store, normal) == [(State.PENDING, "coalesced")], "of the low one"

        await store.queues.resume(MODEL, [Priority.NORMAL])

        assert await run_next(store) == (normal, 2)
        assert (await store.tasks.get(low, TENANT)).state is State.SUCCESS


async def test_a_canceled_leader_leaves_the_others_their_own_places(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader, follower = await equal(store, caller="alice"), await equal(store, caller="alice")
        before = await submit(store, caller="bob")
        after = await submit(store, caller="bob", cost=2000)

        await store.tasks.cancel(leader, TENANT)

        assert [(await lease_of(store)).id for _ in range(3)] == [follower, before, after], "the leader cost nothing"


async def test_a_leader_that_is_not_started_in_time_leaves_the_others(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader, follower = await equal(store, start_within_s=0.05), await equal(store)
        await asyncio.sleep(0.07)

        assert await store.overdue.expire() == [(leader, "superres-x4")]

        assert (await lease_of(store)).id == follower


async def test_whoever_ran_before_leads_nobody(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        retried = await equal(store)
        await store.leases.retry(await lease_of(store), BROKEN, delay_ms=1)

        fresh = await equal(store)

        assert await seen(store, retried, fresh) == [(State.PENDING, "miss")] * 2


# --- a follower has its own life ----------------------------------------------------------------------------------


async def test_a_follower_is_canceled_without_its_leader(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader, follower, other = [await equal(store) for _ in range(3)]

        await store.tasks.cancel(follower, TENANT)

        assert await run_next(store) == (leader, 2)
        assert await seen(store, follower, other) == [(State.CANCELED, "miss"), (State.SUCCESS, "coalesced")]


async def test_a_follower_has_its_own_deadline(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader, follower = await equal(store), await equal(store, finish_within_s=0.05)
        await asyncio.sleep(0.07)

        assert [task_id for task_id, _, _ in await store.overdue.overrun()] == [follower]

        assert await run_next(store) == (leader, 1)
        assert (await store.tasks.get(follower, TENANT)).state is State.EXPIRED


async def test_the_start_of_its_leader_keeps_a_follower_from_expiring(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader, follower = await equal(store), await equal(store, start_within_s=0.05)
        lease = await lease_of(store)
        await asyncio.sleep(0.07)

        assert await store.overdue.expire() == []

        assert await store.leases.complete(lease, result_of(lease)) == 2
        started = (await store.tasks.get(leader, TENANT)).started
        assert (await store.tasks.get(follower, TENANT)).started == started


async def test_a_follower_expires_with_a_leader_that_does_not_start(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        leader, follower = await equal(store), await equal(store, start_within_s=0.05)
        await asyncio.sleep(0.07)

        assert await store.overdue.expire() == [(follower, "superres-x4")]

        assert await run_next(store) == (leader, 1)


async def test_followers_count_as_waiting_and_against_the_rate(redis_url: str) -> None:
    async with open_store(redis_url, max_depth=2) as store:
        await equal(store)
        answer = await store.tasks.submit(submission(reuse_digest=CAT), rate_limit=5)

        assert (answer.reuse, answer.rate_left, answer.position) == ("coalesced", 4, None)
        with pytest.raises(QueueFull):
            await equal(store)
        await run_next(store)
        assert (await store.tasks.submit(submission(reuse_digest=CAT), rate_limit=5)).rate_left == 3


async def test_only_so_many_wait_for_one_and_the_next_ones_run(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = [await equal(store) for _ in range(MAX_FOLLOWERS + 2)]

        ran, ended = await run_next(store)
        ended += await store.overdue.answer_waiting()

        assert (ran, ended) == (ids[0], MAX_FOLLOWERS + 1)
        assert (await run_next(store)) == (ids[-1], 1)


# --- priorities ---------------------------------------------------------------------------------------------------


async def test_a_higher_task_does_not_wait_for_a_lower_one(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        low = [await equal(store, priority=Priority.LOW) for _ in range(2)]
        high = await equal(store, priority=Priority.HIGH)
        normal = await equal(store)
        assert await seen(store, *low, high, normal) == [
            (State.PENDING, "coalesced"),
            (State.PENDING, "coalesced"),
            (State.PENDING, "miss"),
            (State.PENDING, "coalesced"),
        ]

        assert await run_next(store) == (high, 4)


async def test_a_lower_leader_that_runs_and_a_higher_one_answer_for_each_other(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        low = await equal(store, priority=Priority.LOW)
        running = await lease_of(store)
        follower = await equal(store, priority=Priority.LOW)
        high = await equal(store, priority=Priority.HIGH)
        assert (await store.tasks.get(high, TENANT)).position == 0

        assert await store.leases.complete(running, result_of(running)) == 3

        assert await seen(store, low, follower, high) == [
            (State.SUCCESS, "miss"),
            (State.SUCCESS, "coalesced"),
            (State.SUCCESS, "coalesced"),
        ]


async def test_of_two_that_run_the_first_to_succeed_answers_and_the_failure_of_the_other_harms_nobody(
    redis_url: str,
) -> None:
    async with open_store(redis_url) as store:
        await equal(store, priority=Priority.LOW)
        low = await lease_of(store)
        follower = await equal(store, priority=Priority.LOW)
        await equal(store, priority=Priority.HIGH)
        high = await lease_of(store)

        await store.leases.fail(low, Outcome(error=BROKEN))
        assert await seen(store, follower) == [(State.PENDING, "coalesced")], "it waits for the higher one now"

        assert await store.leases.complete(high, result_of(high)) == 2


# --- one result, kept for all who show it -------------------------------------------------------------------------


async def test_the_files_of_a_run_whose_task_is_not_known_any_more_are_looked_for_a_second_time(redis_url: str) -> None:
    """It may have been cut off long after the other one had its end."""
    async with open_store(redis_url) as store:
        source, other = await equal(store), await equal(store)
        await run_next(store)
        await store.tasks.delete(source, TENANT)
        keys, hour_ago = store.engine.keys, int(time.time() * 1000) - 3_600_000
        await store.engine.pipelined([("HSET", keys.task(other), "finished", hour_ago)])

        await store.tasks.delete(other, TENANT)

        (again,) = await store.engine.pipelined([("ZSCORE", keys.condemned, f"again results/default/{source}/")])
        assert again is not None


async def pruned(store: Store, condemned: Condemned) -> tuple[int, list[str]]:
    """How many tasks were past their retention, and what is to be deleted of them."""
    count = await store.overdue.prune()
    taken = await condemned.take()
    await condemned.bury(taken)
    return count, taken


async def test_a_result_goes_with_the_last_task_that_shows_it(redis_url: str) -> None:
    async with open_store(redis_url) as store, open_condemned(redis_url, store) as condemned:
        source = await equal(store, result_ttl_s=0)
        await equal(store, result_ttl_s=1)
        await equal(store, result_ttl_s=2)
        await run_next(store)

        assert await pruned(store, condemned) == (1, [])
        await asyncio.sleep(1.1)
        assert await pruned(store, condemned) == (1, [])
        await asyncio.sleep(1)
        assert await pruned(store, condemned) == (1, [f"results/default/{source}/"])


async def test_a_result_goes_when_all_who_show_it_go_at_once(redis_url: str) -> None:
    async with open_store(redis_url) as store, open_condemned(redis_url, store) as condemned:
        ids = [await equal(store, result_ttl_s=0) for _ in range(3)]
        await run_next(store)

        assert await pruned(store, condemned) == (3, [f"results/default/{ids[0]}/"])


async def test_many_who_prune_at_the_same_time_delete_what_nobody_shows_and_nothing_else(redis_url: str) -> None:
    async with AsyncExitStack() as opened:
        store = await opened.enter_async_context(open_store(redis_url))
        others = [await opened.enter_async_context(open_store(redis_url, namespace=store.namespace)) for _ in range(6)]
        condemned = await opened.enter_async_context(open_condemned(redis_url, store))
        kept, gone = set(), set()
        for n in range(60):
            for result_ttl_s in (0, 3600 if n % 2 else 0):
                await submit(store, reuse_digest=f"digest-{n}", result_ttl_s=result_ttl_s)
            (kept if n % 2 else gone).add(f"results/default/{(await run_next(store))[0]}/")

        counts = await asyncio.gather(*(other.overdue.prune() for other in others))
        taken = await asyncio.gather(*(condemned.take() for _ in others))

        assert sum(counts) == 90, "each by one of them"
        assert sorted(entry for entries in taken for entry in entries) == sorted(gone)


async def test_an_equal_submit_right_after_a_delete_runs_anew(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first = await equal(store)
        await run_next(store)

        assert await store.tasks.delete(first, TENANT) == [f"results/default/{first}/"]

        again = await equal(store)
        assert await run_next(store) == (again, 1)


async def test_a_result_past_its_retention_is_not_given_out(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await equal(store, result_ttl_s=0)
        await run_next(store)

        answer = await store.tasks.submit(submission(reuse_digest=CAT), rate_limit=0)

        assert answer.reuse == "miss"
        await store.overdue.prune()
        assert (await store.tasks.submit(submission(reuse_digest=CAT), rate_limit=0)).reuse == "coalesced"


async def test_a_result_is_not_given_out_after_its_source_is_pruned(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await equal(store, result_ttl_s=0)
        kept = await equal(store)
        await run_next(store)
        await store.overdue.prune()

        assert (await store.tasks.submit(submission(reuse_digest=CAT), rate_limit=0)).reuse == "miss"
        assert (await store.tasks.get(kept, TENANT)).state is State.SUCCESS


async def test_equal_tasks_that_kill_their_workers_do_not_each_do_so_as_often_as_one_may(redis_url: str) -> None:
    async with open_store(redis_url, max_crashes=3) as store:
        ids = [await equal(store) for _ in range(10)]
        deaths = 0

        while (lease := (await claim(store, "w1")).lease) is not None:
            assert lease.id in ids
            deaths += 1
            await store.overdue.reclaim("w1")

        assert {task.state for task in (await store.listing.page(TENANT)).tasks} == {State.FAILED}
        assert deaths <= len(ids) + 3, "not three for each"
