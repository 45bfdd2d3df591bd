"""The tasks in flight on a device, and whose tiles it runs next."""

import math
import time
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter

from penstock.core.task import PRIORITIES, Priority
from penstock.telemetry import metrics
from penstock.worker.batcher.costs import Costs
from penstock.worker.batcher.device_work import DeviceBatch, DeviceWork, TileRef
from penstock.worker.starvation import StarvationGuard

_HAS_OPEN_TILE = attrgetter("has_open_tile")


class Backlog:
    """Chooses the tiles of each batch.

    Priorities are strict, and inside a priority the task that needs the least of the device goes first, so that a small
    one does not wait for a large one. Both hold within `guard`: a priority that so many batches have passed over leads
    the next one, and so does a task that so many batches of its own priority have passed over. 0 is no guard.
    """

    def __init__(self, sizes: tuple[int, ...], device: str, guard: int = 0) -> None:
        self.costs = Costs(sizes)
        self._device = device
        self._tasks: list[DeviceWork] = []
        self._priorities: StarvationGuard[Priority] = StarvationGuard(guard)
        self._within: dict[Priority, StarvationGuard[DeviceWork]] = {p: StarvationGuard(guard) for p in PRIORITIES}
        self._last_lead: DeviceWork | None = None

    def __iter__(self) -> Iterator[DeviceWork]:
        return iter(tuple(self._tasks))

    def __contains__(self, task: DeviceWork) -> bool:
        return task in self._tasks

    def add(self, task: DeviceWork) -> None:
        """Make its tiles eligible."""
        self._tasks.append(task)

    def remove(self, task: DeviceWork) -> None:
        """Drop it with the tiles that still wait."""
        self._tasks.remove(task)
        task.waiting.clear()
        self._within[task.priority].forget(task)
        if self._last_lead is task:
            self._last_lead = None  # or its pixels stay in memory until another task leads

    def remaining_s(self, task: DeviceWork) -> float:
        """Seconds of the device that its waiting tiles should take."""
        return len(task.waiting) * self.costs.tile_s(task.key)

    def choose(self, busy: Collection[str], within_s: float = math.inf) -> list[TileRef]:
        """The tiles of one batch: those of the task whose turn it is, then others with the same key, until it is full.
        Models in `busy` are left alone. The list is empty if nothing waits, if a larger batch is worth waiting for, or
        if a single tile is not known to take less than `within_s`."""
        waiting = [task for task in self._tasks if task.waiting and task.runner.name not in busy]
        ready = self._in_order([task for task in waiting if task.has_open_tile])
        if not ready:
            return []
        lead = self._lead(ready)
        if within_s < math.inf and self.costs.expected_s(lead.key, 1) > within_s:
            return []
        mates = self._mates(lead)
        count = mates[0].open_tiles if len(mates) == 1 else sum(task.open_tiles for task in mates)
        if self._may_wait(lead) and count < self.costs.best(lead.key, self.costs.most(lead.key)):
            return []
        tiles = _first(mates, self.costs.best(lead.key, count))
        if len(self._tasks) == 1:  # nobody is passed over
            self._last_lead = lead
            self._priorities.clear()
            self._within[lead.priority].clear()
        else:
            still_ready = [task for task in ready if task.waiting and task.has_open_tile]
            self._count_turn(lead, still_ready, {tile.task for tile in tiles})
        return tiles

    def patience_s(self) -> float | None:
        """Seconds until the first of the windows in which a task waits for others closes; None when none is open."""
        waiting = [task for task in self._tasks if task.waiting and task.runner.window_s]
        if not waiting:
            return None
        now = time.monotonic()
        left = (task.arrived + task.runner.window_s - now for task in waiting)
        return min((seconds for seconds in left if seconds > 0), default=None)

    @property
    def has_open_tile(self) -> bool:
        """Whether any tile may run now."""
        waiting = [task for task in self._tasks if task.waiting]
        return any(map(_HAS_OPEN_TILE, waiting))

    def put_back(self, batch: DeviceBatch) -> None:
        """Make the tiles of a batch wait again."""
        for task, work, index in batch.tiles:
            if task in self._tasks and work is task.work and not task.finished.done():
                task.waiting.append(index)

    def _in_order(self, tasks: Sequence[DeviceWork]) -> list[DeviceWork]:
        if len(tasks) < 2:
            return [*tasks]
        return sorted(tasks, key=lambda task: (task.rank, self.remaining_s(task), task.arrival))

    def _lead(self, ready: Sequence[DeviceWork]) -> DeviceWork:
        if len(ready) == 1:
            return ready[0]
        priority = self._priorities.next(list(dict.fromkeys(task.priority for task in ready)))
        return self._within[priority].next([task for task in ready if task.priority is priority])

    def _mates(self, lead: DeviceWork) -> list[DeviceWork]:
        if lead.alone or lead.open_tiles >= self.costs.most(lead.key):
            return [lead]
        # Two versions of a model may be loaded under one name, while one replaces the other.
        alike = [task for task in self._tasks if task.key == lead.key and task.runner is lead.runner]
        others = [task for task in alike if not task.alone and task is not lead]
        return [lead, *self._in_order(others)]

    def _may_wait(self, lead: DeviceWork) -> bool:
        return lead.runner.window_s > 0 and time.monotonic() < lead.arrived + lead.runner.window_s

    def _count_turn(
        self, lead: DeviceWork, still_ready: Sequence[DeviceWork], in_batch: Collection[DeviceWork]
    ) -> None:
        # A priority has its turn only when it leads: if one tile in a batch that another leads counted as a turn, those
        # of its tasks that have another key would wait for ever. A task has its turn with any tile.
        left_out = [task for task in still_ready if task not in in_batch]
        if self._last_lead in left_out:
            metrics.report("preemptions", device=self._device)
        self._last_lead = lead
        self._priorities.served(lead.priority, {task.priority for task in still_ready} - {lead.priority})
        self._within[lead.priority].served(lead, [task for task in left_out if task.priority is lead.priority])
        for task in in_batch:
            self._within[task.priority].forget(task)
        for priority in set(PRIORITIES) - {task.priority for task in self._tasks if task.waiting}:
            self._priorities.forget(priority)


def _first(tasks: list[DeviceWork], size: int) -> list[TileRef]:
    chosen: list[TileRef] = []
    for task in tasks:
        count = min(size - len(chosen), task.open_tiles)
        chosen += [TileRef(task, task.work, task.waiting.pop()) for _ in range(count)]
    return chosen
