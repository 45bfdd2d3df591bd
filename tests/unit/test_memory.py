"""Bytes are granted by priority, and nobody who could ever fit waits for ever."""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import pytest
from msgspec.structs import replace

from penstock.core.task import Priority
from penstock.errors import InsufficientMemory
from penstock.settings import Settings, WorkerSettings
from penstock.worker import memory
from penstock.worker.devices import cpu
from penstock.worker.memory import MemoryBudget, budget_of
from penstock.worker.process import too_small
from penstock.worker.spool import Spool


class Holder:
    """Asks for bytes and keeps them until told."""

    def __init__(self, budget: MemoryBudget, size: int, priority: Priority = Priority.NORMAL) -> None:
        self.has = False
        self.done = asyncio.Event()
        self.task = asyncio.create_task(self._hold(budget, size, priority))

    async def _hold(self, budget: MemoryBudget, size: int, priority: Priority) -> None:
        with budget.grant(priority) as grant:
            if not budget.take(grant, size):
                await budget.wait(grant)
            self.has = True
            await self.done.wait()
        self.has = False


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def end(*holders: Holder) -> None:
    for holder in holders:
        holder.done.set()
    await asyncio.gather(*(holder.task for holder in holders))


async def test_a_task_that_does_not_fit_waits_until_another_has_ended() -> None:
    budget = MemoryBudget(100)
    first, second = Holder(budget, 50), Holder(budget, 50)
    await settle()
    before = (first.has, second.has)
    await end(first)
    await settle()

    assert before == (True, False)
    assert second.has
    await end(second)
    assert budget.held == 0


async def test_a_quarter_is_kept_for_tasks_of_high_priority() -> None:
    budget = MemoryBudget(100)
    usual, more, high = Holder(budget, 70), Holder(budget, 20), Holder(budget, 25, Priority.HIGH)
    await settle()

    assert (usual.has, more.has, high.has) == (True, False, True)
    await end(usual, more, high)


async def test_high_priority_goes_before_those_that_asked_earlier() -> None:
    budget = MemoryBudget(100)
    running = Holder(budget, 75)
    await settle()
    low, high = Holder(budget, 60, Priority.LOW), Holder(budget, 60, Priority.HIGH)
    await end(running)
    await settle()

    assert (low.has, high.has) == (False, True)
    await end(high, low)


async def test_a_small_task_does_not_pass_a_large_one_that_waits() -> None:
    budget = MemoryBudget(100)
    running = Holder(budget, 60)
    await settle()
    large, small = Holder(budget, 70), Holder(budget, 5)
    await settle()

    assert (large.has, small.has) == (False, False), "or the large one would starve"
    await end(running)
    await settle()
    assert (large.has, small.has) == (True, True)
    await end(large, small)


async def test_a_task_larger_than_everything_runs_alone() -> None:
    budget = MemoryBudget(100)
    huge, next_one = Holder(budget, 1000), Holder(budget, 1)
    await settle()

    assert (huge.has, next_one.has) == (True, False)
    await end(huge)
    await settle()
    assert next_one.has
    await end(next_one)


async def test_a_canceled_wait_gives_nothing_away_and_wakes_the_next() -> None:
    budget = MemoryBudget(100)
    running = Holder(budget, 75)
    await settle()
    large, small = Holder(budget, 90), Holder(budget, 0)
    await settle()
    large.task.cancel()
    await asyncio.gather(large.task, return_exceptions=True)
    await settle()

    assert small.has
    await end(running, small)
    assert budget.held == 0


async def test_threads_that_ask_at_the_same_time_are_never_given_more_than_there_is() -> None:
    budget = MemoryBudget(1000)
    with ExitStack() as stack:
        grants = [stack.enter_context(budget.grant(Priority.HIGH)) for _ in range(400)]
        given = await asyncio.gather(*(asyncio.to_thread(budget.take, grant, 7) for grant in grants))

        assert sum(given) == 1000 // 7
        assert budget.held == 1000 // 7 * 7
    assert budget.held == 0


async def test_a_lower_priority_has_its_room_after_as_many_as_the_guard_says() -> None:
    budget = MemoryBudget(100, guard=2)
    running = Holder(budget, 100, Priority.HIGH)
    await settle()
    low = Holder(budget, 60, Priority.LOW)
    order: list[Holder] = []
    for holder in [Holder(budget, 60, Priority.HIGH) for _ in range(4)]:
        order.append(holder)
        await settle()
    await end(running)
    ended: list[Holder] = []
    while len(ended) < 5:
        await settle()
        [holder] = [holder for holder in [low, *order] if holder.has]
        await end(holder)
        ended.append(holder)

    assert ended == [*order[:2], low, *order[2:]]


async def test_a_canceled_wait_leaves_the_others_in_their_order() -> None:
    budget = MemoryBudget(100)
    running = Holder(budget, 100)
    await settle()
    first, second, third = (Holder(budget, 100) for _ in range(3))
    await settle()
    second.task.cancel()
    await asyncio.gather(second.task, return_exceptions=True)
    await end(running)
    await settle()
    assert (first.has, third.has) == (True, False)
    await end(first)
    await settle()
    assert third.has
    await end(third)
    assert budget.held == 0


async def test_what_could_never_be_granted_is_refused_and_the_rest_is_when_it_is_alone() -> None:
    budget = MemoryBudget(100, most_bytes=150)
    with budget.grant(Priority.NORMAL) as grant:
        with pytest.raises(InsufficientMemory, match="a worker here has 0 MB"):
            budget.take(grant, 151)
        assert budget.take(grant, 150)
    assert budget.held == 0


@pytest.mark.parametrize(
    ("machine", "process", "asked", "expected"),
    [
        pytest.param(8000, 200, 0, (4800, 7672), id="room for all"),
        pytest.param(600, 220, 0, (252, 252), id="the models take more than the share"),
        pytest.param(200, 220, 0, (0, 0), id="none"),
        pytest.param(600, 220, 500, (500, 500), id="the operator knows better"),
    ],
)
def test_tasks_get_what_the_models_leave_of_a_machine(
    machine: int, process: int, asked: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mib = 1024**2
    monkeypatch.setattr(memory, "memory", lambda: machine * mib)
    monkeypatch.setattr(memory, "resident", lambda: process * mib)
    device = replace(cpu(), ram_bytes=(asked or machine * 6 // 10) * mib)
    monkeypatch.setattr(memory, "BESIDE_BYTES", 128 * mib)

    budget = budget_of(device, WorkerSettings(memory_bytes=asked * mib), guard=0)

    assert (budget.total // mib, budget.most // mib) == expected


@dataclass
class Disk:
    disk_bytes: int


def test_a_worker_says_in_advance_what_its_machine_is_too_small_for() -> None:
    def told(memory_bytes: int, disk_bytes: int) -> list[str]:
        budget, spool = MemoryBudget(0, most_bytes=memory_bytes), cast(Spool, Disk(disk_bytes))
        return list(too_small(Settings(), budget, spool))

    assert told(10**9, 2 * 10**9) == []
    assert told(10**8, 64_000_000) == [
        "100 MB of memory are left for tasks: images of more than about 10 MP are refused",
        "64 MB are free where the spool is: further results will wait in memory",
    ]
