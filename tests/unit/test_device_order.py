"""Who is next on a device: strict priorities and the shortest job first, and nobody passed over without end.

The backlog alone is asked thousands of times; then the real scheduler runs, with real threads and a model that spends
counted units instead of time, so that a busy machine changes nothing.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.core.task import PRIORITIES, Priority
from penstock.models.base import BaseModelRunner, Outputs, Params, Product, Work
from penstock.settings import LimitSettings
from penstock.worker.batcher.backlog import Backlog
from penstock.worker.batcher.device_work import DeviceBatch, DeviceWork
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.starvation import StarvationGuard
from penstock.worker.threads import Threads
from tests.support.lengths import IS_LONG

GPU_LIKE = Device(name="test:0", kind="cpu", threads=1, sides=(4,), batches=(1, 2, 4))
CPU_LIKE = Device(name="test", kind="cpu", threads=2, streams=2, sides=(4,), batches=(1,))

LANES = {"heavy": 1.0, "light": 0.01, "unknown": None}
"""Seconds of a tile; of one nobody knows."""

PRIORITY = st.sampled_from(PRIORITIES)
GUARD = st.sampled_from([0, 1, 2, 3, 5, 20])


class Counting(BaseModelRunner[Params]):
    """Spends a unit for each tile; notes whose each was, and how many were spent after the last of each. Waits for a
    permit before every run when it is `in_steps`."""

    name = "counting"
    concurrent = True

    def __init__(self, *, in_steps: bool = False) -> None:
        super().__init__(LimitSettings())
        self.units = 0
        self.ended: dict[Any, int] = {}
        self.is_held = False
        self.runs: list[Work] = []
        self.permits = threading.Semaphore(0 if in_steps else 1_000_000)
        self.lock = threading.Lock()

    def prepare(self, source: bytes, params: Params) -> Work:
        raise NotImplementedError

    def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
        with self.lock:
            self.runs.append(work)
            self.is_held = True
        self.permits.acquire()
        self.units += len(tiles)
        self.ended[work.context] = self.units
        return list(tiles)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        raise NotImplementedError


COUNTING = Counting()


def work_of(tiles: int, context: Any = None, lane: str = "") -> Work:
    return Work([np.zeros(1, np.float32)] * tiles, lane=lane, context=context)


def job_of(tiles: int, priority: Priority = Priority.NORMAL, lane: str = "heavy", runner: Any = None) -> DeviceWork:
    return DeviceWork(runner or COUNTING, work_of(tiles, lane=lane), priority, lambda done, total: None)


def backlog_of(jobs: Sequence[DeviceWork], *, guard: int = 0, sizes: tuple[int, ...] = (1,)) -> Backlog:
    backlog = Backlog(sizes, "test", guard)
    for job in jobs:
        backlog.add(job)
    return backlog


# --- the guard ------------------------------------------------------------------------------------------------


@given(limit=st.integers(1, 5), rounds=st.lists(st.sets(st.integers(0, 6), min_size=1), max_size=200))
def test_nobody_is_passed_over_more_often_than_the_guard_allows(limit: int, rounds: list[set[int]]) -> None:
    """Those who wait come and go; the order says that the lowest number is first."""
    guard: StarvationGuard[int] = StarvationGuard(limit)
    passed_over: dict[int, int] = defaultdict(int)
    for waiting in rounds:
        chosen = guard.next(sorted(waiting))
        guard.served(chosen, waiting - {chosen})
        for who in waiting:
            passed_over[who] = 0 if who == chosen else passed_over[who] + 1
            assert passed_over[who] <= limit + 7 - 2


# --- the backlog ----------------------------------------------------------------------------------------------


async def test_old_and_new_files_of_a_version_share_no_batch() -> None:
    former, latter = Counting(), Counting()
    jobs = [job_of(1, runner=runner) for runner in (former, latter, former)]
    batch = backlog_of(jobs, sizes=(1, 2, 4)).choose(())

    assert [tile.task for tile in batch] == [jobs[0], jobs[2]]


async def test_inside_a_priority_the_job_with_the_least_left_is_first() -> None:
    large, small, medium = job_of(102), job_of(1), job_of(3)
    backlog = backlog_of([large, small, medium])

    leads = [backlog.choose(())[0].task for _ in range(6)]

    assert leads == [small, medium, medium, medium, large, large]


async def test_what_is_left_is_counted_in_seconds_not_in_tiles() -> None:
    many_light, one_heavy = job_of(50, lane="light"), job_of(1, lane="heavy")
    backlog = backlog_of([one_heavy, many_light])
    backlog.costs.note(one_heavy.key, 1, 1.0)
    backlog.costs.note(many_light.key, 1, 0.01)

    assert backlog.choose(())[0].task is many_light


async def test_a_shape_that_was_never_run_is_expected_to_take_as_long_as_the_pace_of_its_network_says() -> None:
    runner = Counting()
    wide = DeviceWork(runner, Work([np.zeros((3, 100, 200), np.float32)]), Priority.NORMAL, lambda done, total: None)
    backlog = backlog_of([wide])
    unknown_s = backlog.remaining_s(wide)
    seen = DeviceWork(runner, Work([np.zeros((3, 100, 100), np.float32)]), Priority.NORMAL, lambda done, total: None)
    backlog.costs.note(seen.key, 1, 0.25)

    assert (unknown_s, backlog.remaining_s(wide)) == (1.0, 0.5)


async def test_of_equal_jobs_the_first_that_came_is_first() -> None:
    jobs = [job_of(2) for _ in range(5)]
    backlog = backlog_of(list(reversed(jobs)))

    assert [backlog.choose(())[0].task for _ in range(10)] == [job for job in jobs for _ in range(2)]


async def test_without_a_guard_priorities_are_strict() -> None:
    high, low = job_of(500, Priority.HIGH), job_of(1, Priority.LOW)
    backlog = backlog_of([low, high])

    leads = [backlog.choose(())[0].task for _ in range(501)]

    assert leads == [high] * 500 + [low]


async def test_a_lower_priority_has_the_batch_after_as_many_as_the_guard_says() -> None:
    high, normal, low = job_of(500, Priority.HIGH), job_of(500), job_of(500, Priority.LOW)
    backlog = backlog_of([low, normal, high], guard=3)

    leads = [backlog.choose(())[0].task.priority for _ in range(10)]

    high_first, then = [Priority.HIGH] * 3, [Priority.NORMAL, Priority.LOW, Priority.HIGH, Priority.HIGH]
    assert leads == high_first + then + then[:3], "each of the lower ones was passed over by three, low by one more"


async def test_a_large_job_has_the_batch_after_as_many_small_ones_as_the_guard_says() -> None:
    large = job_of(100)
    backlog = backlog_of([large], guard=3)
    leads = []
    for _ in range(12):
        small = job_of(1)
        backlog.add(small)
        leads.append(backlog.choose(())[0].task is large)

    assert leads == [False, False, False, True] * 3


async def test_a_job_of_another_lane_does_not_wait_for_ever_while_others_of_its_priority_fill_batches() -> None:
    """The low job that fills up the batches of the high one must not count as the turn of the low one of a lane that
    no high job shares."""
    high, filling, other = job_of(400, Priority.HIGH), job_of(400, Priority.LOW), job_of(1, Priority.LOW, "light")
    backlog = backlog_of([high, filling, other], guard=2, sizes=(1, 2, 4))
    backlog.costs.note(high.key, 4, 1.0)
    high.waiting = high.waiting[:3]  # leaves room in every batch
    leads = []
    for _ in range(3):
        leads.append(backlog.choose(())[0].task)
        high.waiting = [0, 1, 2]

    assert leads == [high, high, other]


async def test_a_batch_is_filled_up_with_others_of_its_lane_the_shortest_first() -> None:
    lead, second, third, stranger = job_of(1), job_of(2), job_of(9), job_of(1, lane="light")
    backlog = backlog_of([third, second, lead, stranger], sizes=(1, 2, 4))

    assert [item.task for item in backlog.choose(())] == [lead, second, second, third]


async def test_a_model_that_is_busy_is_not_passed_over() -> None:
    """Its turn is not owed for what could not be given to it."""
    busy = Counting()
    busy.name = "busy"  # type: ignore[misc]
    high, low = job_of(30, Priority.HIGH), job_of(1, Priority.LOW, runner=busy)
    backlog = backlog_of([high, low], guard=3)
    for _ in range(10):
        backlog.choose({"busy"})

    assert backlog.choose(())[0].task is high


class Arrival(NamedTuple):
    """Of a job with so many tiles, before the batch of this number."""

    before: int
    priority: Priority
    tiles: int
    lane: str


ARRIVALS = st.lists(
    st.builds(Arrival, st.integers(0, 60), PRIORITY, st.integers(1, 30), st.sampled_from(sorted(LANES))), max_size=25
)


class Watcher:
    """Counts by itself, from what was chosen, how often each priority and each job was passed over."""

    def __init__(self, guard: int) -> None:
        self.guard = guard
        self.priorities: dict[Priority, int] = defaultdict(int)
        self.jobs: dict[DeviceWork, int] = defaultdict(int)
        self.beside: dict[DeviceWork, int] = defaultdict(int)

    def saw(self, chosen: list[DeviceWork], waiting: Sequence[DeviceWork]) -> None:
        """A batch was chosen, and these have tiles that go on waiting."""
        lead = chosen[0]
        for priority in PRIORITIES:
            others = [job for job in waiting if job.priority is priority]
            is_passed_over = bool(others) and priority is not lead.priority
            self.priorities[priority] = self.priorities[priority] + 1 if is_passed_over else 0
            for job in others:
                self.beside[job] = max(self.beside[job], len({*others, *(j for j in chosen if j.priority is priority)}))
                if priority is lead.priority:
                    self.jobs[job] += 1
        for job in chosen:
            self.jobs[job] = 0
        self.check()

    def check(self) -> None:
        assert max(self.priorities.values()) <= self.guard + 1
        for job, passed_over in self.jobs.items():
            assert passed_over <= self.guard + max(0, self.beside[job] - 2)


@settings(max_examples=300 if IS_LONG else 60)
@given(arrivals=ARRIVALS, guard=GUARD.filter(bool), sizes=st.sampled_from([(1,), (1, 2, 4)]))
def test_no_priority_and_no_job_is_passed_over_without_end(
    arrivals: list[Arrival], guard: int, sizes: tuple[int, ...]
) -> None:
    async def run() -> None:
        backlog, watcher, number = Backlog(sizes, "test", guard), Watcher(guard), 0
        coming = sorted(arrivals, key=lambda a: a.before)
        while coming or any(job.waiting for job in backlog):
            while coming and coming[0].before <= number:
                arrival = coming.pop(0)
                job = job_of(arrival.tiles, arrival.priority, arrival.lane)
                if (seconds := LANES[arrival.lane]) is not None:
                    backlog.costs.note(job.key, 1, seconds)
                backlog.add(job)
            number += 1
            had_work = any(job.waiting for job in backlog)
            chosen = [item.task for item in backlog.choose(())]
            assert bool(chosen) == had_work, "the device never stands while tiles wait"
            if chosen:
                watcher.saw(chosen, [job for job in backlog if job.waiting])
            for job in backlog:
                if not job.waiting:
                    backlog.remove(job)

    asyncio.run(run())


@settings(max_examples=100)
@given(arrivals=ARRIVALS, sizes=st.sampled_from([(1,), (1, 2, 4)]), dropped=st.sets(st.integers(0, 200)))
def test_every_tile_is_run_once_whatever_is_put_back(
    arrivals: list[Arrival], sizes: tuple[int, ...], dropped: set[int]
) -> None:
    async def run() -> None:
        jobs = [job_of(a.tiles, a.priority, a.lane) for a in arrivals]
        backlog, ran, number = backlog_of(jobs, guard=2, sizes=sizes), [], 0
        while items := backlog.choose(()):
            number += 1
            if number in dropped:
                backlog.put_back(DeviceBatch(items))
            else:
                ran += [(item.task, item.tile) for item in items]
        assert sorted(ran, key=lambda r: (r[0].arrival, r[1])) == [(j, t) for j in jobs for t in range(j.work.count)]

    asyncio.run(run())


# --- the scheduler --------------------------------------------------------------------------------------------


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


class Simulation:
    """A real scheduler that is fed by the units which its device has spent."""

    def __init__(self, device: Device, guard: int) -> None:
        self.runner = Counting(in_steps=True)
        self.device, self.guard = device, guard
        self.response: dict[int, int] = {}
        self.batch_of_arrival: dict[int, int] = {}

    async def play(self, arrivals: Sequence[Arrival]) -> None:
        """`before` is in units here. One run at a time gets its permit, when all that has come by then is there."""
        coming, tasks = sorted(enumerate(arrivals), key=lambda a: a[1].before), []
        with Threads(2, "tiles") as pool:
            scheduler = DeviceScheduler(self.device, pool, guard=self.guard)
            await scheduler.start([self.runner])
            while coming or not all(task.done() for task in tasks):
                is_idle = all(task.done() for task in tasks)
                while coming and (coming[0][1].before <= self.runner.units or is_idle):
                    number, arrival = coming.pop(0)
                    tasks.append(asyncio.create_task(self._respond(scheduler, number, arrival)))
                    is_idle = False
                await until(lambda: self.runner.is_held or all(task.done() for task in tasks))
                if self.runner.is_held:
                    for _ in range(5):
                        await asyncio.sleep(0)  # the batch after this one is chosen
                    self.runner.is_held = False
                    self.runner.permits.release()
            await scheduler.close()

    async def _respond(self, scheduler: DeviceScheduler, number: int, arrival: Arrival) -> None:
        began = self.runner.units
        self.batch_of_arrival[number] = len(self.runner.runs)
        work = work_of(arrival.tiles, context=number)
        await scheduler.run(self.runner, work, priority=arrival.priority, on_progress=lambda done, total: None)
        # Not what is spent by now: on a busy machine the next run may have ended before this is told.
        self.response[number] = self.runner.ended[number] - began


def longest_wait(simulation: Simulation, arrivals: Sequence[Arrival], priority: Priority) -> int:
    """The most batches in a row that others led while this priority had a task whose tiles had not all begun."""
    mine = {n for n, a in enumerate(arrivals) if a.priority is priority}
    left = {n: arrivals[n].tiles for n in mine}
    longest = waited = 0
    for index, work in enumerate(simulation.runner.runs):
        is_waiting = any(left[n] and simulation.batch_of_arrival[n] <= index for n in mine)
        if work.context in mine:
            left[work.context] -= 1
            waited = 0
        elif is_waiting:
            waited += 1
            longest = max(longest, waited)
    return longest


CHOSEN_BEFORE = 2
"""The batch that runs and the one that was cut are chosen already when a task comes."""

ONE_LANE = st.lists(
    st.builds(Arrival, st.integers(0, 60), PRIORITY, st.integers(1, 30), st.just("")), min_size=1, max_size=12
)


@settings(max_examples=60 if IS_LONG else 12)
@given(arrivals=ONE_LANE, guard=st.sampled_from([1, 2, 3, 5]))
def test_no_priority_waits_for_more_batches_of_the_real_scheduler_than_the_guard_says(
    arrivals: list[Arrival], guard: int
) -> None:
    device = Device(name="test:0", kind="cpu", threads=1, sides=(4,), batches=(1,))
    simulation = Simulation(device, guard)
    asyncio.run(simulation.play(arrivals))

    assert sorted(simulation.response) == list(range(len(arrivals)))
    for priority in PRIORITIES:
        assert longest_wait(simulation, arrivals, priority) <= guard + 1 + CHOSEN_BEFORE


def test_small_tasks_are_answered_soon_though_a_hundred_and_two_tiles_were_there_first() -> None:
    arrivals = [Arrival(0, Priority.NORMAL, 102, "")] + [Arrival(3 * n, Priority.NORMAL, 1, "") for n in range(1, 31)]
    device = Device(name="test:0", kind="cpu", threads=1, sides=(4,), batches=(1,))
    simulation = Simulation(device, 20)
    asyncio.run(simulation.play(arrivals))

    large, *small = [simulation.response[n] for n in range(31)]
    print(f"units: small mean {mean(small):.1f}, worst {max(small)}; large {large}")
    assert max(small) <= 4, "what runs, what was cut, the large one's turn by the guard, itself"
    assert large <= 132, "the small ones took 30 units, and nothing was idle"


@settings(max_examples=20)
@given(tiles=st.lists(st.tuples(PRIORITY, st.integers(1, 12)), min_size=1, max_size=10))
def test_a_device_of_two_streams_runs_everything_and_keeps_to_the_guard(tiles: list[tuple[Priority, int]]) -> None:
    guard, runner = 2, Counting()

    async def run() -> None:
        with Threads(3, "tiles") as pool:
            scheduler = DeviceScheduler(CPU_LIKE, pool, guard=guard)
            await scheduler.start([runner])
            runs: list[Awaitable[Any]] = [
                scheduler.run(runner, work_of(n, priority), priority=priority, on_progress=lambda done, total: None)
                for priority, n in tiles
            ]
            await asyncio.gather(*runs)
            await scheduler.close()

    asyncio.run(run())
    left = {p: sum(n for priority, n in tiles if priority is p) for p in PRIORITIES}
    waited: dict[Priority, int] = defaultdict(int)
    for work in runner.runs:
        for priority in PRIORITIES:
            waited[priority] = 0 if work.context is priority or not left[priority] else waited[priority] + 1
            assert waited[priority] <= guard + 1 + 2 * CPU_LIKE.streams
        left[work.context] -= 1
    assert sum(left.values()) == 0
