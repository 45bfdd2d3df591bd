"""The work of tasks on a device, its tiles, and the batches in which tiles of several tasks run together."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Set
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from msgspec import Struct

from penstock.core.task import PRIORITIES, Priority
from penstock.lazy_import import lazy_import
from penstock.models.base import BaseModelRunner, Work
from penstock.telemetry import traces
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.model_code import model_code
from penstock.worker.task_log import TaskLog

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.telemetry.spans import OpenSpan

spans = lazy_import("penstock.telemetry.spans")

Runner = BaseModelRunner[Any]

Listener = Callable[[int, int], None]
"""Is told how many tiles of a task are done, and how many it has."""


class BatchKey(NamedTuple):
    """What tiles must share to run in one batch. Those of a model that takes one at a time share none."""

    model: str
    lane: str
    shape: tuple[int, ...]
    is_alone: bool = False


def batch_key(runner: Runner, work: Work) -> BatchKey:
    """The key that the tiles of this work have."""
    return BatchKey(runner.name, work.lane, work.shape, runner.one_at_a_time)


class DeviceWork:
    """The work of one task on the device.

    `alone` is set after it was in a batch that failed: it then shares no batch any more. Its `clock`, which whoever
    waits for the work has stopped, goes on while some of its tiles are stacked, run or accepted. Its `span` is that of
    the stage which waits for the work.
    """

    def __init__(
        self,
        runner: Runner,
        work: Work,
        priority: Priority,
        on_progress: Listener,
        on_single_output: Callable[[Work], None] | None = None,
        clock: AttemptClock | None = None,
        log: TaskLog | None = None,
    ) -> None:
        self.runner = runner
        self.priority = priority
        self.rank = PRIORITIES.index(priority)
        self.arrival = next(_arrivals)
        self.on_progress = on_progress
        self.on_single_output = on_single_output
        self.clock = clock or AttemptClock()
        self.log = log or TaskLog()
        self.span: OpenSpan | None = spans.current() if traces.IS_ON else None
        self.batches_under_way = 0
        self.device_s = 0.0
        self.alone = False
        self.arrived = time.monotonic()
        self.reached_device: float | None = None
        self.on_begin: Callable[[], None] | None = None
        self.on_time: Callable[[float], None] = lambda _: None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.start_with(work)

    def start_with(self, work: Work) -> None:
        """Begin with this work, or begin again with the same work in smaller tiles."""
        self.work = work
        self._is_all_open = type(work).open is Work.open
        self.key = batch_key(self.runner, work)
        self.waiting = list(reversed(range(work.count)))  # the next tile is popped from the end
        self.accepted = 0

    @property
    def has_open_tile(self) -> bool:
        """Whether its next tile may run now."""
        return bool(self.waiting) and (self._is_all_open or self.waiting[-1] < self.work.open)

    @property
    def open_tiles(self) -> int:
        """How many of its tiles may run now."""
        if self._is_all_open:
            return len(self.waiting)
        # Those that may not run yet come first, in order: a tile that is put back was open before.
        first = self.work.open
        return len(self.waiting) - bisect_left(self.waiting, True, key=lambda tile: tile < first)

    def begin_batch(self) -> None:
        """Count the time of a batch that holds some of its tiles, until the last such batch ends."""
        self.batches_under_way += 1
        if self.batches_under_way == 1:
            self.clock.resume()

    def end_batch(self) -> None:
        """Stop counting for a batch that has ended, or that waits for the device."""
        self.batches_under_way -= 1
        if not self.batches_under_way:
            self.clock.hold()

    def begin(self) -> None:
        """Call `on_begin` when the first batch with some of its tiles goes to the device."""
        if self.on_begin is not None:
            self.on_time(self.device_s)
            self.on_begin()
            self.on_begin = None

    def accept_output(self, work: Work, tile: int, output: Any) -> None:
        """Take the output of one tile; any thread may call this."""
        if type(work).accept is Work.accept:  # no code of a model
            work.outputs[tile] = output
        else:
            with model_code("accept", self.log):
                work.accept(tile, output)
        if self.on_single_output is not None and len(work.outputs) == 1:
            self.on_single_output(work)

    def count_tile(self) -> None:
        """One more tile is done; the work is finished with the last."""
        self.accepted += 1
        self.on_time(self.device_s)
        self.on_progress(self.accepted, self.work.count)
        if self.accepted == self.work.count:
            self.finished.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End with an error, unless it has ended before."""
        self.waiting.clear()
        if not self.finished.done():
            self.finished.set_exception(error)


_arrivals = count()


class TileRef(NamedTuple):
    """One tile of a batch. The task may have been split into smaller tiles since: then `work` is no longer its work."""

    task: DeviceWork
    work: Work
    tile: int

    @property
    def key(self) -> BatchKey:
        """The batch key of this tile."""
        task = self.task
        return task.key if self.work is task.work else batch_key(task.runner, self.work)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return self.work is self.task.work and not self.task.finished.done()


Stacked: TypeAlias = "NDArray[Any] | list[Any]"
"""An array of tiles, (size, ...), or a list of one for a runner that takes one at a time."""


class DeviceBatch(Struct, eq=False):
    """Tiles that run together. `stacked` is what the runner gets, once it has been made, and `is_computed` says whether
    the device has them behind it. `tasks` are those that the tiles belong to, and `lead` is the first tile, which
    belongs to the task whose turn it was.

    Inside of `with batch` the time of its tasks counts.
    """

    tiles: list[TileRef]
    stacked: Stacked = []
    is_computed: bool = False
    tasks: Set[DeviceWork] = frozenset()

    def __post_init__(self) -> None:
        self.tasks = {task for task, _, _ in self.tiles}

    def __enter__(self) -> None:
        for task in self.tasks:
            task.begin_batch()

    def __exit__(self, *_: object) -> None:
        for task in self.tasks:
            task.end_batch()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for any of its tiles."""
        return any(tile.is_wanted for tile in self.tiles)

    @property
    def lead(self) -> TileRef:
        return self.tiles[0]

    def begin(self) -> None:
        """Tell its tasks that it is on the device, or next in line of a stream, and cannot be taken back."""
        for task in self.tasks:
            task.begin()
