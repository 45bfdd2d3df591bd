"""Prefetching: how far a worker claims ahead of its device, and what it may give back to an idle worker.

A worker claims ahead so that its device never waits for an input, and no further: no other worker can start a task
that this one holds. A held task is *on its way* until its input is fetched and prepared, then *ready*, and *begun* once
a batch with its tiles has gone to the device.

Nothing here knows a store or reads a clock: callers pass the time, in seconds of one monotonic clock.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from heapq import heapreplace
from operator import attrgetter

from msgspec import Struct

from penstock.core.lease import Lease, is_suspect
from penstock.core.task import PRIORITIES, Priority, Progress, Stage

AHEAD_S = 0.5
"""Device time that is held beyond what it takes to make an input ready. It covers a claim (1 ms, 50 across a network),
and an input that takes longer than most. Workers that claim this far end half a second and one task apart at most,
before they give tasks back; where a model gains by batches, the tasks of one batch apart."""

WORTH_S = 0.1
"""A task is given back only if it would wait this much longer here than another worker needs to make it ready: for
less, the two writes to Redis and the second fetch cost more than they bring."""

GIVE_WAY_S = 1.0
"""After giving a task back, a worker whose device is busy claims none of that priority or a lower one for so long: it
would take away what the idle worker was promised. A task that another worker held before is kept for as long."""

SOON_S = 0.02
"""The shortest wait before time alone is a reason to look again: shorter ones would only wake the event loop."""

KEPT = 0.8
"""Share of a former mean that a new measurement leaves."""

STAGES_TO_DEVICE: tuple[Stage, ...] = ("queued", "fetch", "load", "prepare", "infer")
"""The stages of an attempt until it has left the device, in order."""


_TOTAL = attrgetter("total")


class HeldTask(Struct, eq=False):
    """A task that this worker holds. `device_s` is what it should take of the device, None where the pace of its model
    is not known. `since` is when its stage began, or the tile that the device is at."""

    lease: Lease
    rank: int
    device_s: float | None
    claimed: float
    since: float
    stage: Stage = "queued"
    fetch_s: float = 0.0
    has_begun: bool = False
    done: int = 0
    total: int = 1

    @property
    def is_on_its_way(self) -> bool:
        """Whether its input is not ready for the device."""
        return self.stage != "infer"

    def left_s(self, now: float, unknown_s: float) -> float:
        """Seconds of the device that it still needs."""
        # A tile that takes longer than it should is expected to take as long again as it is late: an estimate that was
        # wrong must not make a busy device look free.
        tile_s = (unknown_s if self.device_s is None else self.device_s) / self.total
        if not self.has_begun:
            return tile_s * self.total
        elapsed_s = now - self.since
        under_way_s = unknown_s + elapsed_s if self.device_s is None else abs(tile_s - elapsed_s)
        return tile_s * (self.total - self.done - 1) + under_way_s


class Prefetch:
    """The tasks of one worker that have not left its device. `streams_of` says how many batches of a model the device
    runs at a time, `paying_batch` how many tiles one of them should have, and the seconds of a tile alone."""

    def __init__(
        self,
        streams: int,
        streams_of: Callable[[str], int],
        paying_batch: Callable[[str], tuple[int, float]] = lambda _: (1, 1.0),
    ) -> None:
        self._streams = streams
        self._streams_of = streams_of
        self._paying_batch = paying_batch
        self._held: dict[str, HeldTask] = {}
        self._ready_s = 0.0
        self.ahead_s = AHEAD_S
        """How many seconds of held work keep the device fed: as long as a new task takes to be ready, and AHEAD_S."""
        self._mean_s: float | None = None
        self._gives_way_to = 0
        self._gives_way_until = 0.0

    def add(self, lease: Lease, now: float) -> None:
        """Hold a task that was claimed."""
        device_s = None if lease.device_ms is None else lease.device_ms / 1000
        if device_s is not None:
            self._mean_s = _mean(self._mean_s, device_s)
        rank = PRIORITIES.index(lease.priority)
        self._held[lease.key] = HeldTask(lease=lease, rank=rank, device_s=device_s, claimed=now, since=now)

    def note(self, key: str, stage: Stage, progress: Progress | None, now: float) -> None:
        """Record where a task is. With a stage beyond the device it is no longer held."""
        held = self._held.get(key)
        if held is None:
            return
        if stage not in STAGES_TO_DEVICE:
            self.drop(key)
            return
        if progress is not None:
            held.has_begun, held.done, held.total = True, progress.done, max(1, progress.total)
        elif held.stage == "fetch":
            held.fetch_s = now - held.since
        elif stage == "infer":  # the wait for memory, between two tries to prepare, is none of the input's
            self._ready_s = _mean(self._ready_s or None, held.fetch_s + now - held.since)
            self.ahead_s = self._ready_s + AHEAD_S
        held.stage, held.since = stage, now

    def drop(self, key: str) -> None:
        """Forget a task: it needs the device no more."""
        self._held.pop(key, None)

    def wanted(self, now: float, among: Sequence[Priority] = PRIORITIES) -> Sequence[Priority]:
        """The priorities of which one more task is wanted, highest first. A priority is wanted if the device would soon
        have nothing to do with what is held of it and of higher ones alone."""
        feeding = self._feeding(now)
        if not feeding:
            return among
        if now < self._gives_way_until and self._free_at(feeding, now) > 0:
            among = among[: self._gives_way_to]
        if not self._is_fed(feeding if len(among) == len(PRIORITIES) else _up_to(len(among), feeding), now):
            return among
        for count in range(len(among) - 1, 0, -1):
            if not self._is_fed(_up_to(count, feeding), now):
                return among[:count]
        return ()

    def claims_at_once(self, now: float, most: int) -> int:
        """How many tasks like those before would feed the device: between 1 and `most`."""
        if not self._mean_s:
            return 1
        missing_s = self.ahead_s - self._free_at(self._feeding(now), now)
        return max(1, min(most, int(missing_s * self._streams / self._mean_s)))

    def changes_in_s(self, now: float) -> float:
        """Seconds until more tasks may be wanted though nothing happens: the device gets through what it has, or an
        input turns out to be slow. Infinite where more are wanted already."""
        feeding = self._feeding(now)
        if not self._is_fed(feeding, now):
            return math.inf
        slow = [held.claimed + self.ahead_s - now for held in feeding if held.is_on_its_way]
        return max(SOON_S, min([self._free_at(feeding, now) - self.ahead_s, *slow]))

    def is_idle(self, now: float) -> bool:
        """Whether the device has nothing to do, and no held task is about to give it something."""
        return self._free_at(self._feeding(now), now) == 0

    def spare(self, models: Collection[str], now: float) -> str | None:
        """The key of the task that an idle worker with these models should rather have; None if there is none. The task
        has not begun here, and would wait longer than that worker needs to make it ready. A task whose input is still
        on its way is preferred, since nothing is lost with it; of equal ones the newest."""
        newest_first = reversed(self._held.values())
        able = [held for held in newest_first if self._may_go(held, models, now)]
        if not able:
            return None
        best = min(able, key=lambda held: STAGES_TO_DEVICE.index(held.stage))
        others = [held for held in self._feeding(now) if held is not best]
        waits_s = self._free_at(others, now)
        return best.lease.key if waits_s > self._ready_s + WORTH_S else None

    def late(self, now: float) -> list[str]:
        """The keys of the tasks that a worker which is to stop should not begin: they would wait more than WORTH_S for
        the device, or they wait for their model. What has begun is none of them, nor is what comes next."""
        staying = [held for held in self._held.values() if held.has_begun]
        found: list[str] = []
        for key, held in self._held.items():
            if held.has_begun:
                continue
            if held.stage == "load" or self._free_at(staying, now) > WORTH_S:
                found.append(key)
            else:
                staying.append(held)
        return found

    def give_back(self, key: str, now: float) -> None:
        """Forget a task that is given back, and claim none like it for GIVE_WAY_S."""
        self._gives_way_to, self._gives_way_until = self._held[key].rank, now + GIVE_WAY_S
        self.drop(key)

    def _may_go(self, held: HeldTask, models: Collection[str], now: float) -> bool:
        was_elsewhere = held.lease.epoch > 1
        return (
            not held.has_begun
            and held.stage != "load"  # the other one would have to load it too, and give it back meanwhile
            and held.lease.request.model in models
            and not is_suspect(held.lease)
            and not (was_elsewhere and now < held.claimed + GIVE_WAY_S)
        )

    def _feeding(self, now: float) -> list[HeldTask]:
        # An input that takes much longer than others feeds no device.
        slow = now - self.ahead_s
        return [held for held in self._held.values() if held.stage == "infer" or held.claimed > slow]

    def _is_fed(self, tasks: Collection[HeldTask], now: float) -> bool:
        # Besides enough to do, the next batch must be there: the device goes on if an estimate was too long, and no
        # model that gains by large batches runs in smaller ones.
        return self._free_at(tasks, now) >= self.ahead_s and self._has_next_batch(tasks)

    def _has_next_batch(self, tasks: Collection[HeldTask]) -> bool:
        waiting = [held for held in tasks if not held.has_begun]
        for model in {held.lease.request.model for held in waiting}:
            tiles, tile_s = self._paying_batch(model)
            mine = [held for held in waiting if held.lease.request.model == model]
            if sum(max(1.0, (held.device_s or 0) / tile_s) for held in mine) >= tiles:
                return True
        return False

    def _free_at(self, tasks: Collection[HeldTask], now: float) -> float:
        """Seconds until the first of the streams has nothing more to do with these tasks."""
        if not tasks:
            return 0.0
        streams = 1 if self._streams == 1 else self._usable({held.lease.request.model for held in tasks})
        if len(tasks) < streams and max(map(_TOTAL, tasks), default=1) == 1:
            return 0.0
        # What has begun comes first, and spreads its tiles over the streams.
        begun_first = [held for held in tasks if held.has_begun] + [held for held in tasks if not held.has_begun]
        ends, ahead_s = [0.0] * streams, self.ahead_s
        for held in begun_first:
            left_s = held.left_s(now, ahead_s)
            parts = min(len(ends), held.total - held.done) if held.has_begun else 1
            for _ in range(parts):
                heapreplace(ends, ends[0] + left_s / parts)
        return ends[0]

    def _usable(self, models: Set[str]) -> int:
        """How many streams these models can use between them."""
        return min(self._streams, sum(map(self._streams_of, models)) or self._streams)


def _up_to(count: int, tasks: Iterable[HeldTask]) -> list[HeldTask]:
    """Those of the highest priorities, so many of them."""
    return [held for held in tasks if held.rank < count]


def _mean(before: float | None, measured: float) -> float:
    return measured if before is None else KEPT * before + (1 - KEPT) * measured
