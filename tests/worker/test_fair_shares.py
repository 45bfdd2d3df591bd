"""Shares of device time: what a task is charged when it is claimed, what is set right when its attempt ends, and who is
found where."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from penstock.core.access import TENANT
from penstock.core.lease import Lease
from penstock.core.request import OutputOptions
from penstock.core.task import PRIORITIES, ErrorRecord, Outcome, Priority, Progress, State
from penstock.storage import Storage
from penstock.store import Store
from tests.support.slow_model import MODEL as SLOW
from tests.support.stores import MODEL, claim, lease_of, open_store, submit, worker_info
from tests.support.workers import ended, host, submit_image

BROKEN = Outcome(error=ErrorRecord(code="unsupported_image_format", message="no image", retryable=False))
LOST = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)
OTHER = "image-scoring-v1"


async def took(store: Store, lease: Lease, ms: float) -> None:
    """The attempt has succeeded, after so long on the device."""
    assert await store.leases.complete(lease, Outcome(execution={"device_ms": ms}))


async def measured(store: Store, ms: float = 1000.0, size: int = 1000) -> None:
    """The pace of the model is known: a task of this size takes so long."""
    await submit(store, caller="somebody", cost=size)
    await took(store, await lease_of(store), ms)


async def owners(store: Store, count: int, ms: float = 1000.0) -> list[str]:
    """Whose tasks the next claims give, one after the other, each of which takes so long."""
    served = []
    for _ in range(count):
        lease = await lease_of(store)
        await took(store, lease, ms)
        served.append(lease.caller)
    return served


async def test_a_lease_says_how_long_the_device_will_need(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for size in (1000, 3000, 0):
            await submit(store, cost=size)
        first = await lease_of(store)
        assert first.device_ms is None, "nothing has been measured"
        await took(store, first, 200)

        assert (await lease_of(store)).device_ms == pytest.approx(600)
        assert (await lease_of(store)).device_ms == pytest.approx(200), "of an unknown size: a mean one"


async def cancel_all(store: Store, ids: list[str], _: str) -> None:
    for task_id in ids:
        await store.tasks.cancel(task_id, TENANT)


async def purge_all(store: Store, _: list[str], redis_url: str) -> None:
    await store.queues.purge(TENANT, MODEL, PRIORITIES, limit=1000)


async def let_expire(store: Store, _: list[str], __: str) -> None:
    await asyncio.sleep(0.01)
    await store.overdue.expire()


@pytest.mark.parametrize("end", [cancel_all, purge_all, let_expire])
async def test_what_never_ran_costs_its_owner_nothing(
    redis_url: str, end: Callable[[Store, list[str], str], Awaitable[None]]
) -> None:
    async with open_store(redis_url) as store:
        await measured(store)
        in_time = 0.0 if end is let_expire else None
        ids = [await submit(store, caller="alice", start_within_s=in_time) for _ in range(300)]
        await end(store, ids, redis_url)
        for _ in range(10):
            await submit(store, caller="bob")
        await submit(store, caller="alice")

        assert "alice" in await owners(store, 2)


async def fail(store: Store, lease: Lease) -> None:
    await store.leases.fail(lease, BROKEN)


async def cancel(store: Store, lease: Lease) -> None:
    await store.tasks.cancel(lease.id, TENANT)


async def lose(store: Store, lease: Lease) -> None:
    """And cancel what waits then."""
    await store.overdue.reclaim("w1")
    await store.tasks.cancel(lease.id, TENANT)


async def release_unknown(store: Store, lease: Lease) -> None:
    """The same."""
    await store.leases.release_unknown("w1", [], before=0)
    await store.tasks.cancel(lease.id, TENANT)


@pytest.mark.parametrize("end", [fail, cancel, lose, release_unknown])
async def test_an_attempt_that_ends_before_the_device_costs_nothing(
    redis_url: str, end: Callable[[Store, Lease], Awaitable[None]]
) -> None:
    async with open_store(redis_url) as store:
        await measured(store)
        for _ in range(16):
            await submit(store, caller="alice")
            await submit(store, caller="bob")
        leases = [await lease_of(store) for _ in range(8)]
        for lease in leases:
            if lease.caller == "bob":
                await took(store, lease, 1000)
            else:
                await store.leases.progress(lease, "prepare")
        for lease in leases[::2]:
            assert lease.caller == "alice"
            await end(store, lease)

        assert await owners(store, 4) == ["alice"] * 4, "bob has had four, and she none"


async def test_what_was_on_the_device_and_failed_is_charged_as_far_as_it_came(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await measured(store, ms=4000)
        for caller in ("alice", "bob"):
            for _ in range(8):
                await submit(store, caller=caller)
        lease = await lease_of(store)
        assert lease.caller == "alice"
        await store.leases.progress(lease, "infer", Progress(done=1, total=4))
        await store.leases.fail(lease, BROKEN)

        assert await owners(store, 3, ms=1000) == ["bob", "bob", "alice"], "two tiles of four: 2,000 ms"


async def fail_late(store: Store, lease: Lease) -> None:
    await store.leases.fail(lease, replace(BROKEN, execution={"device_ms": 2000.0}))


async def retry_late(store: Store, lease: Lease) -> None:
    await store.leases.retry(lease, LOST, delay_ms=600_000, device_ms=2000.0)


async def release_late(store: Store, lease: Lease) -> None:
    """And cancel what waits then."""
    await store.leases.release(lease, device_ms=2000.0)
    await store.tasks.cancel(lease.id, TENANT)


@pytest.mark.parametrize("end", [fail_late, retry_late, release_late])
async def test_an_attempt_that_did_not_succeed_is_charged_what_its_worker_says(
    redis_url: str, end: Callable[[Store, Lease], Awaitable[None]]
) -> None:
    async with open_store(redis_url) as store:
        await measured(store)
        for caller in ("alice", "bob"):
            for _ in range(8):
                await submit(store, caller=caller)
        lease = await lease_of(store)
        assert lease.caller == "alice"
        await end(store, lease)

        assert await owners(store, 3) == ["bob", "bob", "alice"]


async def test_a_worker_says_what_a_task_took_that_failed_after_the_device(redis_url: str, storage: Storage) -> None:
    async with open_store(redis_url) as store, host(store, storage, SLOW):
        failed, early = [
            await ended(store, await submit_image(store, SLOW, params, output=OutputOptions()))
            for params in ({"tile_s": 0.2, "product": "not a number"}, {"tile_s": "long"})
        ]

    assert failed.state is early.state is State.FAILED
    assert failed.outcome.execution["device_ms"] >= 200
    assert early.outcome.execution["device_ms"] == 0


async def test_a_wrong_estimate_is_set_right_when_the_task_has_ended(redis_url: str) -> None:
    """Both are charged the same first, but what alice sends takes four times as long."""
    async with open_store(redis_url) as store:
        await measured(store)
        for _ in range(40):
            await submit(store, caller="alice")
            await submit(store, caller="bob")
        spent = Counter[str]()
        for _ in range(30):
            lease = await lease_of(store)
            ms = 4000 if lease.caller == "alice" else 1000
            await took(store, lease, ms)
            spent[lease.caller] += ms

        assert abs(spent["alice"] - spent["bob"]) <= 4000


async def test_who_sends_by_url_waits_no_longer_than_who_sends_the_bytes(redis_url: str) -> None:
    """The size of what is behind a URL is not known, and takes nobody his turn."""
    waits = []
    async with open_store(redis_url) as store:
        await measured(store, ms=20, size=50)
        for size in (50, 0):
            for _ in range(300):
                await submit(store, caller="alice", cost=50)
            await owners(store, 20, ms=20)
            await submit(store, caller=f"bob-{size}", cost=size)
            waits.append((await owners(store, 5, ms=20)).index(f"bob-{size}"))

    assert max(waits) <= 1


async def test_a_slot_for_high_priority_is_given_to_a_class_that_was_passed_over_often_enough(redis_url: str) -> None:
    async with open_store(redis_url, starvation_guard=5) as store:
        normal = await submit(store)
        for _ in range(20):
            await submit(store, priority=Priority.HIGH)

        order = [(await lease_of(store, priorities=[Priority.HIGH])).id for _ in range(12)]

        assert order.index(normal) == 5
        await submit(store)
        assert (await claim(store, priorities=[Priority.LOW])).lease is None


async def test_a_class_that_is_due_beside_another_has_the_next_claim(redis_url: str) -> None:
    async with open_store(redis_url, starvation_guard=5) as store:
        for priority in (Priority.NORMAL, Priority.LOW):
            await submit(store, priority=priority)
        for _ in range(20):
            await submit(store, priority=Priority.HIGH)

        order = [(await lease_of(store)).priority for _ in range(8)]

        assert [order.index(priority) for priority in (Priority.NORMAL, Priority.LOW)] == [5, 6]


async def test_late_tasks_that_are_met_pass_nobody_over(redis_url: str) -> None:
    async with open_store(redis_url, starvation_guard=5) as store:
        low = await submit(store, priority=Priority.LOW)
        for _ in range(10):
            await submit(store, priority=Priority.HIGH, start_within_s=0.0)
        for _ in range(10):
            await submit(store, priority=Priority.HIGH)
        await asyncio.sleep(0.01)

        order = [(await lease_of(store)).id for _ in range(8)]

        assert order.index(low) == 5


async def test_a_flood_on_one_device_delays_nothing_on_a_device_that_serves_other_models(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for model in (MODEL, OTHER):
            await claim(store, models=[model])
        for _ in range(100):
            await submit(store, caller="alice", model=OTHER)
        for _ in range(20):
            await took(store, await lease_of(store, models=[OTHER]), 1000)
        for caller in ("alice", "bob"):
            for _ in range(4):
                await submit(store, caller=caller)

        assert Counter(await owners(store, 4)) == {"alice": 2, "bob": 2}


async def test_where_one_worker_serves_both_models_both_count(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        both = [MODEL, OTHER]
        for caller in ("alice", "bob"):
            for _ in range(8):
                await submit(store, caller=caller)
        for _ in range(8):
            await submit(store, caller="alice", model=OTHER)
        served = Counter[str]()
        for _ in range(12):
            lease = await lease_of(store, models=both)
            await took(store, lease, 1000)
            served[lease.caller] += 1

        assert served == {"alice": 6, "bob": 6}


async def test_whoever_waits_is_found_by_a_worker_that_comes_with_other_models(redis_url: str) -> None:
    """More callers than one claim looks at."""
    async with open_store(redis_url) as store:
        ids = {await submit(store, caller=f"caller {n}") for n in range(70)}
        await store.leases.renew(worker_info("w9", models=(MODEL, "another")), [])

        assert {(await lease_of(store, "w9", models=["another", MODEL])).id for _ in range(70)} == ids


async def test_whoever_waits_in_a_paused_queue_is_found_when_it_goes_on(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await store.queues.pause(MODEL, PRIORITIES, by="me")
        ids = {await submit(store, caller=f"caller {n}") for n in range(70)}
        while (answer := await claim(store)).next_due_s == 0:
            pass
        assert answer.lease is None, "nobody stands in the pool any more"

        await store.queues.resume(MODEL, PRIORITIES)

        assert {(await lease_of(store)).id for _ in range(70)} == ids


async def test_many_who_have_canceled_all_hide_nobody(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await claim(store)
        for n in range(200):
            await store.tasks.cancel(await submit(store, caller=f"caller {n}"), TENANT)
        last = await submit(store, caller="z")

        answers = [await claim(store) for _ in range(7)]

        assert {answer.next_due_s for answer in answers[:6]} == {0}, "the worker asks again at once"
        assert answers[6].lease is not None
        assert answers[6].lease.id == last


async def test_names_of_which_one_begins_like_the_other_are_two_callers(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        names = ["ann", "ann b", "ann/b", "ann b 1234567890123456 x"]
        for name in names:
            for _ in range(3):
                await submit(store, caller=name)

        assert Counter(await owners(store, 8)) == dict.fromkeys(names, 2)
        assert (await store.queues.depths([MODEL]))[1].depth == 4


async def test_who_has_nothing_left_gives_no_turn_to_a_name_that_begins_like_his(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await submit(store, caller="ann")
        for _ in range(8):
            await submit(store, caller="ann b")
            await submit(store, caller="bob")

        assert Counter(await owners(store, 9)) == {"ann": 1, "ann b": 4, "bob": 4}


async def test_more_kinds_of_workers_than_are_kept_apart_still_get_tasks(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        kinds = [[MODEL, f"own-{n}"] for n in range(40)]
        for models in kinds:
            await claim(store, models=models)
        ids = {await submit(store, caller=f"caller {n}") for n in range(40)}

        assert {(await lease_of(store, models=models)).id for models in kinds} == ids


async def test_the_age_of_a_queue_is_that_of_its_oldest_task(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await submit(store, caller="zoe")
        await asyncio.sleep(0.05)
        for caller in ("ann", "bob"):
            await submit(store, caller=caller)

        normal = (await store.queues.depths([MODEL]))[1]

        assert normal.depth == 3
        assert 0.05 <= normal.oldest_s < 5


async def test_a_position_counts_what_is_served_before_and_not_all_that_came_before(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await measured(store)
        for _ in range(50):
            await submit(store, caller="alice")
        promised = await store.queues.ahead(TENANT, "bob", MODEL, Priority.NORMAL)
        mine = [await submit(store, caller="bob") for _ in range(3)]

        positions = [(await store.tasks.get(task_id, TENANT)).position for task_id in mine]
        order = [(await lease_of(store)).id for _ in range(8)]

        assert positions == [order.index(task_id) for task_id in mine] == [1, 3, 5]
        assert promised == 1
