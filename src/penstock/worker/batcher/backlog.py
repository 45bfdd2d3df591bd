"""What runs together on a device: jobs in their order, the tiles of one run, and how large a run pays."""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from penstock.core.task import PRIORITIES, Priority
from penstock.models.base import BaseModelRunner, Work
from penstock.telemetry import metrics
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.guard import StarvationGuard

K = TypeVar("K")

Runner = BaseModelRunner[Any]

Listener = Callable[[int, int], None]
"""Hears how many tiles are done, and of how many."""

Finish = Callable[[Work], Any]
"""Makes what a task is after from its finished work, on the thread that took its tile in."""


class Lane(NamedTuple):
    """What tiles must share to meet in one run."""

    model: str
    work: str
    shape: tuple[int, ...]


def lane_of(runner: Runner, work: Work) -> Lane:
    """Where the tiles of this work belong."""
    return Lane(runner.name, work.lane, work.shape)


class Job:
    """One task's work on the device. `alone` after it was in a batch that failed: it then runs by itself. Its `clock`,
    which whoever waits for the job holds, goes on while some of its tiles are cut, run or taken in."""

    def __init__(
        self,
        runner: Runner,
        work: Work,
        priority: Priority,
        on_progress: Listener,
        finish: Finish | None = None,
        clock: AttemptClock | None = None,
    ) -> None:
        self.runner = runner
        self.priority = priority
        self.rank = PRIORITIES.index(priority)
        self.arrival = next(_arrivals)
        self.on_progress = on_progress
        self.finish = finish
        self.clock = clock or AttemptClock()
        self.busy_batches = 0
        self.product: Any = None
        self.finish_s = 0.0
        self.device_s = 0.0
        self.alone = False
        self.arrived = time.monotonic()
        self.reached_device: float | None = None
        self.on_begin: Callable[[], None] | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.take(work)

    def take(self, work: Work) -> None:
        """Begin with this work, or again with another cut of it."""
        self.work = work
        self.lane = lane_of(self.runner, work)
        self.waiting = list(reversed(range(work.count)))
        self.accepted = 0

    def begin_batch(self) -> None:
        """A batch that holds some of its tiles is worked at: its time counts until the last such batch ends."""
        self.busy_batches += 1
        if self.busy_batches == 1:
            self.clock.resume()

    def end_batch(self) -> None:
        """A batch that holds some of its tiles has ended, or waits for the device."""
        self.busy_batches -= 1
        if not self.busy_batches:
            self.clock.hold()

    def begin(self) -> None:
        """A batch with some of its tiles goes to the device."""
        if self.on_begin is not None:
            self.on_begin()
            self.on_begin = None

    def take_in(self, work: Work, tile: int, output: Any) -> None:
        """The output of one tile, on any thread; the only one of a work is its last one too."""
        work.accept(tile, output)
        if self.finish is not None and work.count == 1:
            started = time.perf_counter()
            self.product = self.finish(work)
            self.finish_s = time.perf_counter() - started

    def accept(self) -> None:
        """One more tile is done."""
        self.accepted += 1
        self.on_progress(self.accepted, self.work.count)
        if self.accepted == self.work.count and not self.finished.done():
            self.finished.set_result(None)

    def fail(self, error: BaseException) -> None:
        """It ends with an error, unless it has ended before."""
        self.waiting.clear()
        if not self.finished.done():
            self.finished.set_exception(error)


_arrivals = count()


class Item(NamedTuple):
    """One tile of a run. The job may have been cut anew since: then `work` is not its work any more."""

    job: Job
    work: Work
    tile: int

    @property
    def lane(self) -> Lane:
        """Of this tile."""
        return lane_of(self.job.runner, self.work)

    @property
    def counts(self) -> bool:
        """Whether somebody still waits for it."""
        return self.work is self.job.work and not self.job.finished.done()


_NONE = np.empty(0)


class Batch(Struct, eq=False):
    """One run; its tiles are there when it has been cut."""

    items: list[Item]
    tiles: NDArray[Any] = _NONE

    @property
    def counts(self) -> bool:
        """Whether somebody still waits for any of it."""
        return any(item.counts for item in self.items)

    @property
    def jobs(self) -> set[Job]:
        """Whose tiles these are."""
        return {item.job for item in self.items}

    @contextmanager
    def being_worked_at(self) -> Iterator[None]:
        """The time of its jobs counts."""
        jobs = self.jobs
        for job in jobs:
            job.begin_batch()
        try:
            yield
        finally:
            for job in jobs:
                job.end_batch()

    def begin(self) -> None:
        """It is on the device, or next in line of a stream, and cannot be taken back."""
        for job in self.jobs:
            job.begin()

    @property
    def lead(self) -> Item:
        """The first of them."""
        return self.items[0]


class Costs:
    """Seconds of a run by lane and batch size, as measured: at warm-up, then in service.

    A size that was never measured is hoped to take no longer than the next smaller one that was, so that it is tried.
    """

    KEPT = 0.8
    """Share of the former mean that a new measurement leaves."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._seconds: dict[tuple[Lane, int], float] = {}
        self._paces: dict[tuple[str, str], float] = {}
        self._tile_s: dict[Lane, float] = {}
        self._most: dict[Lane, int] = {}

    def note(self, lane: Lane, size: int, seconds: float) -> None:
        """A run of this size took so long."""
        self._average(self._seconds, (lane, size), seconds)
        self._average(self._paces, (lane.model, lane.work), seconds / (size * math.prod(lane.shape)))
        self._tile_s[lane] = self._best_tile_s(lane)

    def _average(self, means: dict[K, float], key: K, new: float) -> None:
        before = means.get(key)
        means[key] = new if before is None else self.KEPT * before + (1 - self.KEPT) * new

    def forbid(self, lane: Lane, size: int) -> int:
        """The device cannot hold a run of this size; the largest that is left, 0 for none."""
        left = max((s for s in self._sizes if s < size), default=0)
        self._most[lane] = left
        self._tile_s.pop(lane, None)
        return left

    def most(self, lane: Lane) -> int:
        """The largest run that the device can hold, as far as is known; at least the smallest, which is tried again by
        every job that was cut before a single tile turned out to be too much."""
        return self._most.get(lane, self._sizes[-1]) or self._sizes[0]

    def best(self, lane: Lane, waiting: int) -> int:
        """The size with the least time for each tile, of `waiting` ones; of equal ones the largest."""
        usable = [s for s in self._sizes if s <= self.most(lane)]
        enough = next((s for s in usable if s >= waiting), usable[-1])
        return min((s for s in usable if s <= enough), key=lambda s: (self.hoped(lane, s) / min(s, waiting), -s))

    def paying(self, model: str) -> tuple[int, float]:
        """How many tiles of a model are to be run at once, as fewer would take a fifth more time each, and the seconds
        of one alone; of several lanes the one that asks for the most."""
        lanes = {lane for lane, _ in self._seconds if lane.model == model}
        return max((self._paying(lane) for lane in lanes), default=(1, 1.0))

    def _paying(self, lane: Lane) -> tuple[int, float]:
        each = {s: self.hoped(lane, s) / s for s in self._sizes if s <= max(1, self.most(lane))}
        return next(s for s, seconds in each.items() if seconds <= 1.2 * min(each.values())), each[1]

    def hoped(self, lane: Lane, size: int) -> float:
        """Seconds of a run of this size; of a lane that was never measured, 1."""
        smaller = (self._seconds[lane, s] for s in reversed(self._sizes) if s <= size and (lane, s) in self._seconds)
        return next(smaller, 1.0)

    def tile_s(self, lane: Lane) -> float:
        """Seconds for each tile in runs of the best size. Where the lane was never measured, the pace of the same
        network in other shapes tells, and where nothing was, it is 1."""
        if (known := self._tile_s.get(lane)) is not None:
            return known
        pace = self._paces.get((lane.model, lane.work))
        return 1.0 if pace is None else pace * math.prod(lane.shape)

    def _best_tile_s(self, lane: Lane) -> float:
        size = self.best(lane, self.most(lane))
        return self.hoped(lane, size) / size


class Backlog:
    """Jobs in flight, and whose tiles the device runs next.

    Priorities are strict, and inside a priority the job that needs the least of the device goes first, so that a small
    task does not wait for a large one. Both hold within `guard`: a priority that was passed over by so many batches
    leads the next one, and so does a job that was by so many of its own priority; 0 is no guard.
    """

    def __init__(self, sizes: tuple[int, ...], device: str, guard: int = 0) -> None:
        self.costs = Costs(sizes)
        self._device = device
        self._jobs: list[Job] = []
        self._priorities: StarvationGuard[Priority] = StarvationGuard(guard)
        self._within: dict[Priority, StarvationGuard[Job]] = {p: StarvationGuard(guard) for p in PRIORITIES}
        self._last_lead: Job | None = None

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self._jobs))

    def __contains__(self, job: Job) -> bool:
        return job in self._jobs

    def add(self, job: Job) -> None:
        """From here on its tiles may be chosen."""
        self._jobs.append(job)

    def remove(self, job: Job) -> None:
        """None of its waiting tiles will be chosen."""
        self._jobs.remove(job)
        job.waiting.clear()
        self._within[job.priority].forget(job)
        if self._last_lead is job:
            self._last_lead = None  # or its pixels stay until another leads

    def remaining_s(self, job: Job) -> float:
        """Seconds of the device that its waiting tiles should take."""
        return len(job.waiting) * self.costs.tile_s(job.lane)

    def choose(self, busy: Collection[str], within_s: float = math.inf) -> list[Item]:
        """Tiles for one run: those of the job whose turn it is, filled up from others of its lane. Models in `busy`
        are left alone. None if a single tile is not known to take less than `within_s`."""
        ready = self._in_order([job for job in self._jobs if job.waiting and job.runner.name not in busy])
        if not ready:
            return []
        lead = self._lead(ready)
        if self.costs.hoped(lead.lane, 1) > within_s:
            return []
        mates = self._mates(lead)
        waiting = sum(len(job.waiting) for job in mates)
        if self._may_wait(lead) and waiting < self.costs.best(lead.lane, self.costs.most(lead.lane)):
            return []
        items = _first(mates, self.costs.best(lead.lane, waiting))
        self._count_turn(lead, [job for job in ready if job.waiting], {item.job for item in items})
        return items

    def patience_s(self) -> float | None:
        """Until the first window for company closes; None when none is open."""
        left = [job.arrived + job.runner.window_s - time.monotonic() for job in self._jobs if job.waiting]
        return min((seconds for seconds in left if seconds > 0), default=None)

    def put_back(self, batch: Batch) -> None:
        """Its tiles run later."""
        for job, work, index in batch.items:
            if job in self._jobs and work is job.work and not job.finished.done():
                job.waiting.append(index)

    def _in_order(self, jobs: Sequence[Job]) -> list[Job]:
        return sorted(jobs, key=lambda job: (job.rank, self.remaining_s(job), job.arrival))

    def _lead(self, ready: Sequence[Job]) -> Job:
        priority = self._priorities.next(list(dict.fromkeys(job.priority for job in ready)))
        return self._within[priority].next([job for job in ready if job.priority is priority])

    def _mates(self, lead: Job) -> list[Job]:
        if lead.alone or len(lead.waiting) >= self.costs.most(lead.lane):
            return [lead]
        others = [job for job in self._jobs if job.lane == lead.lane and not job.alone and job is not lead]
        return [lead, *self._in_order(others)]

    def _may_wait(self, lead: Job) -> bool:
        return time.monotonic() < lead.arrived + lead.runner.window_s

    def _count_turn(self, lead: Job, still_ready: Sequence[Job], in_batch: Collection[Job]) -> None:
        """A priority has its turn when it leads: if a tile among another's counted, those of it that are of another
        lane would wait for ever. A job has it with any tile."""
        left_out = [job for job in still_ready if job not in in_batch]
        if self._last_lead in left_out:
            metrics.report("preemptions", device=self._device)
        self._last_lead = lead
        self._priorities.served(lead.priority, {job.priority for job in still_ready} - {lead.priority})
        self._within[lead.priority].served(lead, [job for job in left_out if job.priority is lead.priority])
        for job in in_batch:
            self._within[job.priority].forget(job)
        for priority in set(PRIORITIES) - {job.priority for job in self._jobs if job.waiting}:
            self._priorities.forget(priority)


def _first(jobs: list[Job], size: int) -> list[Item]:
    chosen: list[Item] = []
    for job in jobs:
        while job.waiting and len(chosen) < size:
            chosen.append(Item(job, job.work, job.waiting.pop()))
    return chosen
