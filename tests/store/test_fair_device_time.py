"""Shares of device time and the guard against starvation, for random arrivals: the real scripts, with workers that only
say how long their device has run.

Device time counts for its owner when the task is claimed. L is the largest task of an example, as it was charged or as
it was. While a caller has tasks waiting, no other one gets more than he does by more than L since his tasks began to
wait, and by L more if he was served before that: his last task may have been that large. Where a charge is wrong, each
task that was in flight then or is now may add an L: it is set right when it ends.
`--hypothesis-show-statistics` shows the worst that was seen, in parts of L.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import strategies as st

from penstock.core.access import TENANT
from penstock.core.lease import Lease
from penstock.core.task import PRIORITIES, Outcome, Priority
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Store, connect
from tests.support.lengths import IS_LONG
from tests.support.stores import drop, submission

GUARD = 4
EXAMPLES = 2000 if IS_LONG else 25
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
KEYS = ("alice", "bob", "carol")
A, B = "model-a", "model-b"
SUBMITS = st.fixed_dictionaries(
    {
        "caller": st.sampled_from(KEYS),
        "priority": st.sampled_from((Priority.NORMAL, Priority.NORMAL, Priority.NORMAL, *PRIORITIES)),
        "model": st.sampled_from((A, A, B)),
        "ms": st.sampled_from((10, 100, 400, 1000)),
        "count": st.sampled_from((1, 2, 8)),
    }
)
STEPS = st.one_of(SUBMITS, st.sampled_from((*(("work", n) for n in (0, 1, 1, 4, 9)), ("cancel", 0), ("stop", 0))))
FLEETS = st.sampled_from((((A, B),), ((A, B), (A, B)), ((A,), (B,)), ((A, B), (A,))))


@dataclass
class Job:
    """A task, and how long it takes on a device."""

    caller: str
    priority: Priority
    model: str
    ms: int


@dataclass
class Meter:
    """What each caller got in one class of one pool, and what all had when a caller's tasks began to wait."""

    got: Counter[str] = field(default_factory=Counter)
    since: dict[str, tuple[Counter[str], int, int]] = field(default_factory=dict)

    def look(self, waiting: set[str], in_flight: int) -> None:
        """Who waits now, while so many tasks are in flight."""
        self.since = {caller: since for caller, since in self.since.items() if caller in waiting}
        for caller in waiting - self.since.keys():
            self.since[caller] = (self.got.copy(), int(self.got[caller] > 0), in_flight)


class World:
    """A queue, its workers, and what each of them has in flight."""

    def __init__(self, store: Store, fleet: tuple[tuple[str, ...], ...], slots: int, *, is_exact: bool) -> None:
        self.store, self.fleet, self.slots, self.is_exact = store, fleet, slots, is_exact
        self.waiting: dict[str, Job] = {}
        self.in_flight: list[list[tuple[Lease, Job]]] = [[] for _ in fleet]
        self.meters = {(pool, priority): Meter() for pool in fleet for priority in PRIORITIES}
        self.passed_over: Counter[tuple[tuple[str, ...], Priority]] = Counter()
        self.largest = 0.0
        self.worst_gap = self.worst_wait = self.worst_deficit = 0.0

    async def submit(self, job: Job, size: int) -> None:
        made = submission(caller=job.caller, priority=job.priority, model=job.model, cost=size)
        await self.store.tasks.submit(made, rate_limit=0)
        self.waiting[made.id] = job
        self.look()

    async def cancel(self) -> None:
        """What came last."""
        if self.waiting:
            task_id, _ = self.waiting.popitem()
            assert await self.store.tasks.cancel(task_id, TENANT)
            self.look()

    async def stop(self, worker: int) -> None:
        """Something is canceled before it has had the device."""
        if self.in_flight[worker]:
            lease, job = self.in_flight[worker].pop()
            await self.store.tasks.cancel(lease.id, TENANT)
            self.meters[self.fleet[worker], job.priority].got[job.caller] -= job.ms

    async def work(self, worker: int) -> bool:
        """A device ends its task, and the worker claims anew. Whether it has anything."""
        if self.in_flight[worker]:
            lease, job = self.in_flight[worker].pop(0)
            assert await self.store.leases.complete(lease, Outcome(execution={"device_ms": float(job.ms)}))
        while len(self.in_flight[worker]) < self.slots and await self.claim(worker):
            pass
        return bool(self.in_flight[worker])

    async def claim(self, worker: int) -> bool:
        pool = self.fleet[worker]
        answer = await self.store.leases.claim(worker=f"w{worker}", device="cpu", models=pool)
        if answer.lease is None:
            assert not self.who_waits(pool, *PRIORITIES), "whoever waits is found"
            return False
        job = self.waiting.pop(answer.lease.id)
        self.in_flight[worker].append((answer.lease, job))
        charged = float(await self.store.engine.client.hget(self.store.engine.keys.task(answer.lease.id), "charged"))
        self.largest = max(self.largest, job.ms, charged)
        self.compare_shares(pool, job)
        self.count_classes(pool, job)
        self.look()
        return True

    def who_waits(self, pool: tuple[str, ...], *classes: Priority) -> set[str]:
        return {job.caller for job in self.waiting.values() if job.model in pool and job.priority in classes}

    def flying(self, pool: tuple[str, ...], priority: Priority) -> int:
        """Tasks of a class that workers of a pool have in flight."""
        of_pool = [jobs for jobs, models in zip(self.in_flight, self.fleet, strict=True) if models == pool]
        return sum(job.priority is priority for jobs in of_pool for _, job in jobs)

    def look(self) -> None:
        for (pool, priority), meter in self.meters.items():
            meter.look(self.who_waits(pool, priority), self.flying(pool, priority))

    def compare_shares(self, pool: tuple[str, ...], job: Job) -> None:
        meter = self.meters[pool, job.priority]
        meter.got[job.caller] += job.ms
        flying = self.flying(pool, job.priority)
        for caller, (before, was_served, flew) in meter.since.items():
            gap = (meter.got - before)[job.caller] - (meter.got[caller] - before[caller])
            allowed = 1 + was_served + (0 if self.is_exact else flew + flying)
            assert gap <= allowed * self.largest, f"{job.caller} got {gap} ms more than {caller}"
            self.worst_gap = max(self.worst_gap, gap / self.largest)
            got = [(meter.got - before)[key] for key in KEYS if key == caller or (meter.got - before)[key]]
            deficit = sum(got) / len(got) - (meter.got[caller] - before[caller])
            self.worst_deficit = max(self.worst_deficit, deficit / self.largest)

    def count_classes(self, pool: tuple[str, ...], job: Job) -> None:
        """A class that is due beside another one waits for one claim more."""
        for priority in PRIORITIES:
            waits = priority is not job.priority and self.who_waits(pool, priority)
            is_lower = PRIORITIES.index(priority) > 0
            self.passed_over[pool, priority] = self.passed_over[pool, priority] + 1 if waits else 0
            if is_lower and waits:
                assert self.passed_over[pool, priority] <= GUARD + 1
                self.worst_wait = max(self.worst_wait, self.passed_over[pool, priority])


async def play(redis_url: str, fleet: Any, slots: int, steps: list[Any], factors: list[float]) -> World:
    """All steps, and then work until nothing is left."""
    namespace = f"test-{os.urandom(6).hex()}"
    async with connect(RedisSettings(url=redis_url, namespace=namespace)) as client:
        store = Store(Engine(client, namespace, QueueSettings(starvation_guard=GUARD)))
        world = World(store, fleet, slots, is_exact=not factors)
        for n, step in enumerate(steps):
            worker = n % len(fleet)
            if isinstance(step, dict):
                count, job = step["count"], Job(**{name: step[name] for name in ("caller", "priority", "model", "ms")})
                for _ in range(count):
                    factor = factors[len(world.waiting) % len(factors)] if factors else 1
                    await world.submit(job, max(1, int(job.ms * factor)))
            elif step[0] == "work":
                for _ in range(step[1]):
                    await world.work(worker)
            else:
                await (world.cancel() if step[0] == "cancel" else world.stop(worker))
        while any([await world.work(worker) for worker in range(len(fleet))]):
            pass
        assert not world.waiting, "all work is done"
        await drop(client, namespace)
        return world


@pytest.mark.timeout(3600)
@PROFILE
@given(fleet=FLEETS, slots=st.sampled_from((1, 3)), steps=st.lists(STEPS, min_size=5, max_size=40))
def test_nobody_who_waits_gets_less_than_another_by_more_than_one_task(
    redis_url: str, fleet: Any, slots: int, steps: list[Any]
) -> None:
    """What is charged is what the tasks take."""
    world = asyncio.run(play(redis_url, fleet, slots, steps, []))
    target(world.worst_gap, label="gap in largest tasks")
    target(world.worst_deficit, label="less than an equal share, in largest tasks")
    target(float(world.worst_wait), label="claims that passed a class over")


@pytest.mark.timeout(3600)
@PROFILE
@given(
    fleet=FLEETS,
    slots=st.sampled_from((1, 3)),
    steps=st.lists(STEPS, min_size=5, max_size=40),
    factors=st.lists(st.sampled_from((0.5, 1, 2)), min_size=1, max_size=5),
)
def test_shares_are_kept_though_what_is_charged_is_wrong_by_up_to_four_times(
    redis_url: str, fleet: Any, slots: int, steps: list[Any], factors: list[float]
) -> None:
    """Sizes are wrong by two, and so is the pace that is learned from them."""
    world = asyncio.run(play(redis_url, fleet, slots, steps, factors))
    target(world.worst_gap, label="gap in largest tasks")
