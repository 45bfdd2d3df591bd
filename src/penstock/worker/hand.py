"""What a worker has in hand: attempts whose work for the device is not done. Decides when it claims, and what it may
give back. Pure: it knows no store, and is told the time.

A worker claims ahead so that its device never waits for an input, and no further: a task in hand is one that an idle
worker cannot start. An attempt is *on its way* until its input is fetched and prepared, then *ready*, and *begun* once
a batch with its tiles has gone to the device.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heapify, heapreplace

from msgspec import Struct

from penstock.core.lease import Lease, is_suspect
from penstock.core.task import PRIORITIES, Priority, Progress, Stage

AHEAD_S = 0.5
"""Device time in hand beyond what it takes to make an input ready. It covers a claim (1 ms, 50 across a network), and
an input that takes longer than most. Workers that claim this far end half a second and one task apart at most, before
they give back; where a model gains by batches, it is the tasks of one batch."""

WORTH_S = 0.1
"""A task is given back only if it would wait this much longer here than another worker needs to make it ready: for
less, the two writes to Redis and the second fetch cost more than they bring."""

GIVE_WAY_S = 1.0
"""After giving a task back, a worker whose device is busy claims none of its class or below for so long, so that it
does not take away what the idle worker was promised; and a task that was in other hands before is kept for as long."""

SOON_S = 0.02
"""The hand is not looked at more often than this because of time alone."""

KEPT = 0.8
"""Share of a former mean that a new measurement leaves."""

STAGES_TO_DEVICE: tuple[Stage, ...] = ("queued", "fetch", "prepare", "infer")
"""What an attempt goes through until it has left the device."""


class Attempt(Struct, eq=False):
    """An attempt in hand; moments in seconds of one clock. `device_s` is what it should take of the device, None where
    the pace of its model is not known. `since` is when its stage began, or the tile that the device is at."""

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
        """Device seconds that it still needs. A tile under way that takes longer than it should is expected to take as
        long again as it is late: an estimate that was wrong must not make a busy device look free."""
        tile_s = (unknown_s if self.device_s is None else self.device_s) / self.total
        if not self.has_begun:
            return tile_s * self.total
        elapsed_s = now - self.since
        under_way_s = unknown_s + elapsed_s if self.device_s is None else abs(tile_s - elapsed_s)
        return tile_s * (self.total - self.done - 1) + under_way_s


class Hand:
    """The attempts of one worker that have not left its device. `streams_of` says how many runs of a model the device
    does at a time, `paying_batch` how many tiles one of them should have, and the seconds of a tile alone."""

    def __init__(
        self,
        streams: int,
        streams_of: Callable[[str], int],
        paying_batch: Callable[[str], tuple[int, float]] = lambda _: (1, 1.0),
    ) -> None:
        self._streams = streams
        self._streams_of = streams_of
        self._paying_batch = paying_batch
        self._attempts: dict[str, Attempt] = {}
        self._ready_s = 0.0
        self._mean_s: float | None = None
        self._gives_way_to = 0
        self._gives_way_until = 0.0

    def take(self, lease: Lease, now: float) -> None:
        """A task was claimed."""
        device_s = None if lease.device_ms is None else lease.device_ms / 1000
        if device_s is not None:
            self._mean_s = _mean(self._mean_s, device_s)
        rank = PRIORITIES.index(lease.priority)
        self._attempts[lease.key] = Attempt(lease=lease, rank=rank, device_s=device_s, claimed=now, since=now)

    def hear(self, key: str, stage: Stage, progress: Progress | None, now: float) -> None:
        """Where an attempt is. A stage beyond the device takes it out of the hand."""
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        if stage not in STAGES_TO_DEVICE:
            self.drop(key)
            return
        if progress is not None:
            attempt.has_begun, attempt.done, attempt.total = True, progress.done, max(1, progress.total)
        elif attempt.stage == "fetch":
            attempt.fetch_s = now - attempt.since
        elif stage == "infer":  # the wait for memory, between two tries to prepare, is none of the input's
            self._ready_s = _mean(self._ready_s or None, attempt.fetch_s + now - attempt.since)
        attempt.stage, attempt.since = stage, now

    def drop(self, key: str) -> None:
        """An attempt needs nothing of the device any more."""
        self._attempts.pop(key, None)

    @property
    def ahead_s(self) -> float:
        """How much device time in hand keeps the device fed: as long as a new task takes to be ready, and a bit."""
        return self._ready_s + AHEAD_S

    def wanted(self, now: float, among: Sequence[Priority] = PRIORITIES) -> Sequence[Priority]:
        """The classes of which one more task is wanted, highest first: those for which the device would have nothing to
        do soon, if it did only what is in hand of them and of higher ones."""
        feeding = self._feeding(now)
        if now < self._gives_way_until and self._free_at(feeding, now) > 0:
            among = among[: self._gives_way_to]
        for count in range(len(among), 0, -1):
            if not self._is_fed([attempt for attempt in feeding if attempt.rank < count], now):
                return among[:count]
        return ()

    def room(self, now: float, most: int) -> int:
        """How many tasks like those before would feed the device, at least 1: to claim them at once."""
        if not self._mean_s:
            return 1
        missing_s = self.ahead_s - self._free_at(self._feeding(now), now)
        return max(1, min(most, int(missing_s * self._streams / self._mean_s)))

    def changes_in_s(self, now: float) -> float:
        """Seconds until time alone may make more tasks wanted: the device gets through what it has, or an input turns
        out to be slow. Infinite where more are wanted already."""
        feeding = self._feeding(now)
        if not self._is_fed(feeding, now):
            return math.inf
        slow = [attempt.claimed + self.ahead_s - now for attempt in feeding if attempt.is_on_its_way]
        return max(SOON_S, min([self._free_at(feeding, now) - self.ahead_s, *slow]))

    def is_idle(self, now: float) -> bool:
        """Whether the device could begin another task at once, and none is on its way to it."""
        return self._free_at(self._feeding(now), now) == 0

    def spare(self, models: Collection[str], now: float) -> str | None:
        """The attempt that a worker with these models, which is idle, should rather have, if there is one: it has not
        begun here, and would wait longer than it takes to make it ready there. One whose input is still on its way
        goes first, since nothing of it is lost, then the last that came."""
        newest_first = reversed(self._attempts.values())
        able = [attempt for attempt in newest_first if self._may_go(attempt, models, now)]
        if not able:
            return None
        best = min(able, key=lambda attempt: STAGES_TO_DEVICE.index(attempt.stage))
        others = [attempt for attempt in self._feeding(now) if attempt is not best]
        waits_s = self._free_at(others, now)
        return best.lease.key if waits_s > self._ready_s + WORTH_S else None

    def give(self, key: str, now: float) -> None:
        """An attempt is given back: give way to who asked for it."""
        self._gives_way_to, self._gives_way_until = self._attempts[key].rank, now + GIVE_WAY_S
        self.drop(key)

    def _may_go(self, attempt: Attempt, models: Collection[str], now: float) -> bool:
        was_elsewhere = attempt.lease.epoch > 1
        return (
            not attempt.has_begun
            and attempt.lease.request.model in models
            and not is_suspect(attempt.lease)
            and not (was_elsewhere and now < attempt.claimed + GIVE_WAY_S)
        )

    def _feeding(self, now: float) -> list[Attempt]:
        """Those that will be on the device soon, or are: an input that takes much longer than others feeds nothing."""
        slow = now - self.ahead_s
        return [a for a in self._attempts.values() if not a.is_on_its_way or a.claimed > slow]

    def _is_fed(self, attempts: Collection[Attempt], now: float) -> bool:
        """The device has enough to do, and its next run waits for it: so it goes on when an estimate was too long, and
        no model that gains by batches runs in smaller ones."""
        return self._free_at(attempts, now) >= self.ahead_s and self._has_next_run(attempts)

    def _has_next_run(self, attempts: Collection[Attempt]) -> bool:
        waiting = [attempt for attempt in attempts if not attempt.has_begun]
        for model in {attempt.lease.request.model for attempt in waiting}:
            tiles, tile_s = self._paying_batch(model)
            mine = [attempt for attempt in waiting if attempt.lease.request.model == model]
            if sum(max(1.0, (attempt.device_s or 0) / tile_s) for attempt in mine) >= tiles:
                return True
        return False

    def _free_at(self, attempts: Collection[Attempt], now: float) -> float:
        """Seconds until a stream has nothing more to do; what has begun comes first, and spreads over the streams."""
        ends = [0.0] * self._usable(attempt.lease.request.model for attempt in attempts)
        heapify(ends)
        for attempt in sorted(attempts, key=lambda attempt: not attempt.has_begun):
            left_s = attempt.left_s(now, self.ahead_s)
            parts = min(len(ends), attempt.total - attempt.done) if attempt.has_begun else 1
            for _ in range(parts):
                heapreplace(ends, ends[0] + left_s / parts)
        return ends[0]

    def _usable(self, models: Iterable[str]) -> int:
        """How many streams these models can use between them."""
        return min(self._streams, sum(map(self._streams_of, set(models))) or self._streams)


def _mean(before: float | None, measured: float) -> float:
    return measured if before is None else KEPT * before + (1 - KEPT) * measured
