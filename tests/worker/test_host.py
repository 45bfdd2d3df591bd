"""The books of a worker: each attempt has its own, whatever else happens to its task."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from penstock.core.lease import Lease
from penstock.core.task import State, Task
from penstock.errors import ResultExpired, StoreUnavailable
from penstock.settings import QueueSettings, Settings
from penstock.storage import Storage
from penstock.store import Claim, Engine, LeaseStore, Store, connect
from tests.support.bad_storages import Away, Held, Undeletable
from tests.support.slow_model import MODEL
from tests.support.stores import submit
from tests.support.workers import ended, host, reached, submit_image, until

LONG = {"tile_s": 0.4}
FILE = {"product": "file"}
SOON_S = 0.3
"""A worker that claims has done so by then: it hears of a submit at once."""


def outcomes(task: Task) -> list[str]:
    return [attempt.outcome for attempt in task.attempts]


async def test_a_signal_to_cancel_that_comes_late_stops_no_later_attempt(
    settings: Settings, store: Store, storage: Storage
) -> None:
    async with connect(settings.redis) as client, host(store, storage, MODEL):
        task_id = await submit_image(store, MODEL, LONG)
        await reached(store, task_id, "infer")
        await store.tasks.cancel(task_id, "default")
        await store.tasks.resubmit(task_id, "default")
        await reached(store, task_id, "infer", epoch=2)
        await client.publish(f"{{{store.namespace}}}:signals", f"cancel {task_id} 1")
        task = await ended(store, task_id)

    assert (task.state, outcomes(task)) == (State.SUCCESS, ["cancel", "complete"])


async def test_a_task_that_is_retried_starts_when_its_old_attempt_has_left_the_device(
    store: Store, storage: Storage
) -> None:
    async with host(store, storage, MODEL) as worker:
        task_id = await submit_image(store, MODEL, {"tile_s": 1.0})
        await reached(store, task_id, "infer")
        await store.tasks.cancel(task_id, "default")
        await store.tasks.resubmit(task_id, "default")
        await until(lambda: len(worker.tasks) == 2)
        stages = []
        while len(worker.tasks) == 2:
            stages.append((await store.tasks.get(task_id, "default")).stage)
            await asyncio.sleep(0.02)
        task = await ended(store, task_id)

    assert set(stages) == {"fetch"}, "claimed, and not begun"
    assert (task.state, outcomes(task)) == (State.SUCCESS, ["cancel", "complete"])


async def test_what_a_settled_attempt_still_deletes_is_not_stopped_with_its_lease(store: Store, tmp_path: Path) -> None:
    """The lease has ended with the task, which the next renewals say."""
    slow = Undeletable(tmp_path)
    async with host(store, slow, MODEL, lease_s=0.1) as worker:
        task_id = await submit_image(store, MODEL, FILE | LONG)
        await reached(store, task_id, "infer")
        await store.overdue.reclaim("w1")
        await slow.put(f"results/default/{task_id}/1.png", b"of the attempt before", "image/png")
        await slow.begun.wait()
        assert (await ended(store, task_id)).state is State.SUCCESS
        await asyncio.sleep(SOON_S)
        slow.may_end.set()
        await until(lambda: not worker.tasks)

    with pytest.raises(ResultExpired):
        await slow.get(f"results/default/{task_id}/1.png")


async def test_a_lost_task_that_comes_back_to_its_worker_runs_when_the_old_attempt_has_left_the_device(
    store: Store, storage: Storage
) -> None:
    """It is suspect now, and waits to be alone. No renewal has to say first that the old lease is lost."""
    async with host(store, storage, MODEL, lease_s=600) as worker:
        task_id = await submit_image(store, MODEL, LONG)
        await reached(store, task_id, "infer")
        await store.overdue.reclaim("w1")
        await until(lambda: bool(worker.running.stopped))
        beside = await submit_image(store, MODEL, LONG)
        task, other = await ended(store, task_id), await ended(store, beside)

    assert (task.state, outcomes(task)) == (State.SUCCESS, ["lost", "complete"])
    assert (other.state, outcomes(other)) == (State.SUCCESS, ["complete"])
    assert task.attempts[1].ended - task.attempts[1].started >= 400, "a whole run of its own"


async def test_a_task_that_is_canceled_while_its_result_is_stored_leaves_no_file(store: Store, tmp_path: Path) -> None:
    slow = Held(tmp_path)
    async with host(store, slow, MODEL) as worker:
        task_id = await submit_image(store, MODEL, FILE)
        await slow.begun.wait()
        await store.tasks.cancel(task_id, "default")
        await until(lambda: not worker.tasks)
        slow.may_end.set()

    with pytest.raises(ResultExpired):
        await slow.get(f"results/default/{task_id}/1.png")


async def test_a_full_spool_holds_tasks_up_and_fails_none(store: Store, tmp_path: Path) -> None:
    """There is room for one result on the disk; the next waits in memory, and nothing more is claimed."""
    storage = Away(tmp_path)
    async with host(store, storage, MODEL, spool_bytes=1500, slots=2, lease_s=0.4):
        made = [await submit_image(store, MODEL, FILE) for _ in range(3)]
        await until(lambda: says_full(store))
        later = [await submit_image(store, MODEL, FILE) for _ in range(3)]
        await asyncio.sleep(SOON_S)
        states = [(await store.tasks.get(task_id, "default")).state for task_id in later]
        storage.is_back = True
        tasks = [await ended(store, task_id) for task_id in made + later]

    assert states == [State.PENDING] * 3
    assert [(task.state, outcomes(task)) for task in tasks] == [(State.SUCCESS, ["complete"])] * 6


class Late(LeaseStore):
    """Its first claim reaches Redis when the worker has given it up, and is not answered."""

    late: Callable[[], Awaitable[list[Claim]]] | None = None
    claims = 0
    was_late = False

    async def claim_several(self, most: int, **options: Any) -> list[Claim]:
        self.claims += 1
        if self.claims > 1:
            return await super().claim_several(most, **options)
        self.late = partial(super().claim_several, most, **options)
        raise StoreUnavailable("no answer")

    async def release_unknown(self, worker: str, known: Iterable[Lease], *, before: int) -> list[str]:
        released = await super().release_unknown(worker, known, before=before)
        if self.late is not None:
            await self.late()
            self.late, self.was_late = None, True
        return released


async def test_a_claim_that_a_worker_has_given_up_costs_no_task_an_attempt(
    settings: Settings, namespace: str, storage: Storage
) -> None:
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        store.leases = late = Late(store.engine)
        task_id = await submit_image(store, MODEL)
        async with host(store, storage, MODEL):
            task = await ended(store, task_id)

    assert late.was_late
    assert (task.state, outcomes(task)) == (State.SUCCESS, ["complete"])


async def test_a_worker_that_is_told_to_stop_says_so_at_once(store: Store, storage: Storage) -> None:
    """Redis may be told at the same time, and a death that nothing announced is a crash of what ran."""
    async with host(store, storage, MODEL, lease_s=600, drain_s=60) as worker:
        await reached(store, await submit_image(store, MODEL, LONG), "infer")
        worker.drain()
        await until(lambda: says_draining(store))


async def says_draining(store: Store) -> bool:
    return [worker.state for worker in await store.workers.listed()] == ["DRAINING"]


class Gone(LeaseStore):
    """Does not answer once Redis has gone."""

    has_gone = False

    async def renew(self, *args: Any) -> set[str]:
        if self.has_gone:
            raise StoreUnavailable("gone")
        return await super().renew(*args)


async def test_a_worker_that_is_told_to_stop_does_not_wait_for_tasks_when_redis_is_gone_too(
    settings: Settings, namespace: str, storage: Storage
) -> None:
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        store.leases = leases = Gone(store.engine)
        async with host(store, storage, MODEL, lease_s=0.4, drain_s=600) as worker:
            await reached(store, await submit_image(store, MODEL, {"tile_s": 0.2, "tiles": 500}), "infer")
            leases.has_gone = True
            await asyncio.sleep(SOON_S + 0.4)
            assert worker.tasks, "no worker stops because Redis is gone"
            worker.drain()
            await until(lambda: not worker.tasks)


class CutOff(LeaseStore):
    """The answers to its claims do not come before the worker stops."""

    async def claim_several(self, most: int, **options: Any) -> list[Claim]:
        await super().claim_several(most, **options)
        return await asyncio.Future()


async def test_a_worker_that_stops_while_it_claims_hands_back_what_the_claim_was_given(
    settings: Settings, namespace: str, storage: Storage
) -> None:
    async with connect(settings.redis) as client:
        store = Store(Engine(client, namespace, QueueSettings()))
        store.leases = CutOff(store.engine)
        task_id = await submit_image(store, MODEL)
        async with host(store, storage, MODEL):
            await until(lambda: runs(store, task_id))
        after = await store.tasks.get(task_id, "default")

    assert (after.state, outcomes(after)) == (State.PENDING, ["release"])


class Clock(datetime):
    """The time of day of this machine, which can be set."""

    behind = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) - cls.behind


async def test_a_worker_takes_back_the_tasks_of_dead_ones_though_the_clock_of_its_machine_is_set_back(
    settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone: where no API runs, nobody else does."""
    monkeypatch.setattr("arq.worker.datetime", Clock)
    async with connect(settings.redis) as client:
        store = Store(Engine(client, settings.redis.namespace, QueueSettings(lease_s=0.2)))
        async with host(store, storage, MODEL, lease_s=0.2):
            for behind in (timedelta(), timedelta(hours=1)):
                monkeypatch.setattr(Clock, "behind", behind)
                task_id = await submit(store, model="other")
                await store.leases.claim(worker="dead", device="cpu", models=["other"])
                await until(partial(is_waiting, store, task_id))
                await store.tasks.cancel(task_id, "default")


async def is_waiting(store: Store, task_id: str) -> bool:
    return (await store.tasks.get(task_id, "default")).state is State.PENDING


async def runs(store: Store, task_id: str) -> bool:
    return (await store.tasks.get(task_id, "default")).state is State.RUNNING


async def says_full(store: Store) -> bool:
    return any(worker.spool_full for worker in await store.workers.listed())


async def test_an_attempt_that_is_over_is_not_stopped(store: Store, storage: Storage) -> None:
    """It stays among the running ones until the loop has called back, and a renewal may say meanwhile that its lease is
    gone, as it is for every task that has ended."""
    over = asyncio.create_task(asyncio.sleep(0))
    await over
    async with host(store, storage, MODEL) as worker:
        worker.tasks["a lease"] = over
        may_stop = worker.running.may_stop("a lease")
        del worker.tasks["a lease"]

    assert not may_stop


async def test_a_task_that_is_given_back_in_the_turn_of_its_claim_waits_again(store: Store, storage: Storage) -> None:
    """Before the first step of its attempt there is nothing that would release it: it would wait for the end of a lease
    that nobody renews."""
    async with host(store, storage, MODEL, lease_s=600) as worker:
        begin = worker.running.start

        def give_back_at_once(lease: Lease) -> None:
            worker._claims._start = begin
            begin(lease)
            worker.running.give_back(lease.key, "another")

        worker._claims._start = give_back_at_once
        task = await ended(store, await submit_image(store, MODEL, FILE))

    assert (task.state, outcomes(task)) == (State.SUCCESS, ["release", "complete"])
