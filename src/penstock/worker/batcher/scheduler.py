"""The device scheduler: tiles of all tasks in flight, highest priority and shortest task first, in batches.

A CUDA device is used by one thread, which also loads the models: its memory grows without bound when runs come from
several. While a batch runs, other threads cut the tiles of the next and take in the outputs of the last.
A CPU runs one batch for each core at a time: many runs of one thread compute more than one run of many threads. Each
thread cuts, runs and takes in its own batch, since no core has anything better to do.
A task of higher priority takes the batch after the one that is being cut, and what it passed over keeps its finished
tiles.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from loguru import logger
from msgspec import Struct
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.errors import DeviceOutOfMemory, Internal, InvalidOutput, PenstockError
from penstock.models.base import DeviceBroken, Interrupted, Outputs, Work
from penstock.telemetry import metrics
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.backlog import Backlog, Batch, Finish, Item, Job, Lane, Listener, Runner, lane_of
from penstock.worker.threads import Threads

OUTPUT_BATCHES = 2
"""Batches of outputs that may wait to be taken in before the device pauses: the bound on their memory."""

AHEAD_S = 0.05
"""A CPU whose streams are all busy is given one more run that takes less than this, so that the thread which is free
first goes on at once, not after a turn of the event loop; what comes with a higher priority waits so much longer."""

STUCK_S = 5.0
"""A run that goes on this long after it was told to stop will not stop: the device is taken for lost. The longest
single node of the built-in models takes under a second on a CPU."""


Taken = list[Exception | None]
"""For each item of a batch, what its task said to its output: None is fine."""


class Run(Struct, frozen=True, eq=False):
    """What a job took: `work` has the outputs, and is another than was given when the device could not hold its
    tiles; `device_s` of device time, `waited_s` from the call to the first batch; `product` of `finish`, after
    `finish_s`, None where that was not called."""

    work: Work
    device_s: float
    waited_s: float
    product: Any
    finish_s: float


class DeviceScheduler:
    """The one way to a device. `start` and `close` frame its life; `run` may be called by many tasks at once.

    `pool` cuts tiles and takes outputs in: it must have nothing else to do, or the device waits for that. `guard` is
    that of the backlog.
    """

    def __init__(self, device: Device, pool: Threads, *, guard: int = 0) -> None:
        self.device = device
        self._pool = pool
        self._threads = Threads(device.streams, device.name)
        self._backlog = Backlog(device.batches, device.name, guard)
        self._ready = asyncio.Event()
        self._ceilings: dict[tuple[str, str], int] = {}
        self._intake = asyncio.Semaphore(OUTPUT_BATCHES)
        self._intakes: set[asyncio.Task[None]] = set()
        self._running: set[Batch] = set()
        self._busy: set[str] = set()
        self._ended = asyncio.Event()
        self._drivers: list[asyncio.Task[None]] = []
        self.broken: DeviceBroken | None = None

    async def start(self, runners: Iterable[Runner]) -> None:
        """Load and rehearse every model on a device thread, then take work."""
        for runner in runners:
            started = time.perf_counter()
            await self._threads.run(runner.load_model, self.device)
            await self._threads.run(self._rehearse, runner)
            took_s = time.perf_counter() - started
            metrics.report("model.load", took_s, model=runner.name, device=self.device.name)
            logger.bind(model=runner.name, device=self.device.name, seconds=round(took_s, 3)).info("model loaded")
        drives = [self._drive_ahead] if self.device.streams == 1 else [self._drive_in_place] * (self.device.streams + 1)
        self._drivers = [asyncio.create_task(drive(), name=f"device driver {n}") for n, drive in enumerate(drives)]
        for driver in self._drivers:
            driver.add_done_callback(self._driver_ended)

    async def close(self) -> None:
        """Stop. A thread that hangs on a broken device is left behind."""
        for driver in self._drivers:
            driver.cancel()
        await asyncio.gather(*self._drivers, return_exceptions=True)
        self._threads.close(wait=self.broken is None)

    def paying_batch(self, model: str) -> tuple[int, float]:
        """How many tiles of a model should wait so that none runs in a batch that is too small to pay, and the seconds
        of one alone."""
        return self._backlog.costs.paying(model) if self.device.batches[-1] > 1 else (1, 1.0)

    async def run(
        self,
        runner: Runner,
        work: Work,
        *,
        priority: Priority,
        on_progress: Listener,
        on_begin: Callable[[], None] = lambda: None,
        on_leave: Callable[[float], None] = lambda _: None,
        finish: Finish | None = None,
        clock: AttemptClock | None = None,
    ) -> Run:
        """Run every tile of `work`, or of a finer cut of it, and give it its outputs. Of a work of one tile, `finish`
        makes the product then and there: for what is done sooner than a thread is changed. `on_begin` is called once,
        when a batch with its first tiles goes to the device; however it ends, `on_leave` hears the seconds that it has
        had the device. The `clock` stands while none of its tiles is worked at.

        When canceled, the device is free of this work on return. Raises what the runner raised, DeviceOutOfMemory,
        InvalidOutput, DeviceBroken.
        """
        if self.broken:
            raise DeviceBroken(str(self.broken), guilty=False)
        ceiling = self._ceilings.get((runner.name, work.lane))
        fitting = work if ceiling is None else work.recut(ceiling) or work
        job = Job(runner, fitting, priority, on_progress, finish, clock)
        job.on_begin = on_begin
        with job.clock.standing():
            self._backlog.add(job)
            self._ready.set()
            try:
                await job.finished
            finally:
                self._backlog.remove(job)
                await self._leave(job)
                on_leave(job.device_s)
        waited_s = (job.reached_device or job.arrived) - job.arrived
        return Run(job.work, job.device_s, waited_s, job.product, job.finish_s)

    async def _leave(self, job: Job) -> None:
        """Wait until no batch on the device holds this job any more; stop those that hold no other that is wanted."""
        while (mine := [b for b in self._running if job in b.jobs]) and not self.broken:
            unwanted = [batch for batch in mine if not any(other in self._backlog for other in batch.jobs)]
            for _, work, _ in [batch.lead for batch in unwanted]:
                job.runner.interrupt(work)
            self._ended.clear()
            try:
                async with asyncio.timeout(STUCK_S if len(unwanted) == len(mine) else None):
                    await self._ended.wait()
            except TimeoutError:
                self._break(DeviceBroken("a run does not stop"), set())

    def _break(self, error: DeviceBroken, guilty: set[Job]) -> None:
        """Nothing runs here any more: every task in flight hears of it."""
        self.broken = error
        self._ended.set()
        for job in self._backlog:
            job.fail(error if job in guilty else DeviceBroken(str(error), guilty=False))

    def _driver_ended(self, driver: asyncio.Task[None]) -> None:
        """By a fault of ours: without this, every task would wait for a device that nobody drives."""
        if not driver.cancelled() and (error := driver.exception()) is not None:
            logger.opt(exception=error).critical("a device driver died")
            self._break(DeviceBroken("a device driver died"), set())

    async def _drive_ahead(self) -> None:
        """The stream of a device that has only one: batch after batch, the next one cut while this one runs."""
        following: Batch | None = None
        while True:
            batch = following or await self._cut(await self._next())
            following = None
            if batch is None or not batch.counts:
                continue
            await self._intake.acquire()
            with self._holding(batch):
                batch.begin()
                running = self._threads.run(self._infer, batch)
                following = await self._cut(self._choose())
                outputs, *_ = await asyncio.gather(running, return_exceptions=True)
            intake = asyncio.create_task(self._take_in(batch, outputs), name="take in")
            self._intakes.add(intake)
            intake.add_done_callback(self._intakes.discard)

    async def _drive_in_place(self) -> None:
        """Run after run for a device that is the CPU itself: there is a driver for each stream, and one ahead."""
        while True:
            batch = Batch(await self._next())
            with self._holding(batch):
                batch.begin()
                running = self._threads.run(self._run_in_place, batch)
                taken, *_ = await asyncio.gather(running, return_exceptions=True)
            self._free(batch.lead.job.runner)
            self._conclude(batch, taken)

    @contextmanager
    def _holding(self, batch: Batch) -> Iterator[None]:
        """A thread works at this batch: the time of its jobs counts, and none of them has left before the end."""
        self._running.add(batch)
        try:
            with batch.being_worked_at():
                yield
        finally:
            self._running.discard(batch)
            self._ended.set()

    def _run_in_place(self, batch: Batch) -> Taken:
        batch.tiles = self._stack(batch.items)
        return _taken(batch, self._infer(batch)) if batch.counts else []

    async def _next(self) -> list[Item]:
        """The items of the next batch, as soon as there are any."""
        while True:
            self._ready.clear()
            items = self._choose()
            if items:
                return items
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backlog.patience_s()):
                    await self._ready.wait()

    def _choose(self) -> list[Item]:
        is_ahead = 1 < self.device.streams <= len(self._running)
        items = self._backlog.choose(self._busy, AHEAD_S if is_ahead else math.inf)
        if items and self.device.streams > 1 and not items[0].job.runner.concurrent:
            self._busy.add(items[0].job.runner.name)
        return items

    def _free(self, runner: Runner) -> None:
        """A model that runs one batch at a time may run the next."""
        if runner.name in self._busy:
            self._busy.discard(runner.name)
            self._ready.set()

    async def _cut(self, items: list[Item]) -> Batch | None:
        if not items:
            return None
        batch = Batch(items)
        try:
            with self._holding(batch):
                batch.tiles = await self._pool.run(self._stack, items)
        except Exception as error:  # noqa: BLE001  a runner's own code: its task fails, the device goes on
            self._conclude(batch, error)
            return None
        return batch

    def _stack(self, items: list[Item]) -> NDArray[Any]:
        """One array; padded to a batch size that the device knows."""
        tiles = [item.work.tile(item.tile) for item in items]
        size = next(b for b in self.device.batches if b >= len(tiles))
        return np.stack(tiles + [np.zeros_like(tiles[0])] * (size - len(tiles)))

    def _infer(self, batch: Batch) -> Outputs:
        """On a device thread."""
        runner, work = batch.lead.job.runner, batch.lead.work
        started = time.perf_counter()
        for job in batch.jobs:
            job.reached_device = job.reached_device or time.monotonic()
        outputs = runner.infer(batch.tiles, work)
        took_s = time.perf_counter() - started
        self._backlog.costs.note(batch.lead.lane, len(batch.tiles), took_s)
        metrics.report("device.busy", took_s / self.device.streams, device=self.device.name)
        metrics.report("batch.tiles", len(batch.items), model=runner.name, device=self.device.name)
        for item in batch.items:
            item.job.device_s += took_s / len(batch.items)
        if len(outputs) != len(batch.tiles):
            raise InvalidOutput(f"the runner gave {len(outputs)} outputs for {len(batch.tiles)} tiles")
        return outputs

    def _rehearse(self, runner: Runner) -> None:
        """On a device thread: show the device every shape that it will be given, at every batch size that it can
        hold, and remember what each takes. The first run of a shape is slow, the second is measured."""
        for work in runner.rehearsal():
            lane = lane_of(runner, work)
            for size in self.device.batches:
                tiles = np.stack([work.tile(0)] * size)
                try:
                    runner.infer(tiles, work)
                    if len(self.device.batches) > 1:
                        started = time.perf_counter()
                        runner.infer(tiles, work)
                        self._backlog.costs.note(lane, size, time.perf_counter() - started)
                except DeviceOutOfMemory:
                    self._shrink(lane, size)
                    break

    async def _take_in(self, batch: Batch, outputs: Outputs | BaseException) -> None:
        """Beside the device, which runs the next batch."""
        try:
            if isinstance(outputs, BaseException):
                self._conclude(batch, outputs)
                return
            with batch.being_worked_at():
                self._conclude(batch, await self._pool.run(_taken, batch, outputs))
        finally:
            self._intake.release()

    def _conclude(self, batch: Batch, taken: Taken | BaseException) -> None:
        """What the end of a batch means for each task in it. A runner's own code may fail here too."""
        try:
            if isinstance(taken, BaseException):
                self._recover(batch, taken)
            else:
                self._accept(batch, taken)
        except Exception as error:  # noqa: BLE001  or the device would have no driver, or the tasks no end
            for job in batch.jobs:
                job.fail(_unexpected(error))

    def _accept(self, batch: Batch, taken: Taken) -> None:
        for item, error in zip(batch.items, taken, strict=False):
            if error is not None:  # its task fails, the others of the batch go on
                item.job.fail(error if isinstance(error, PenstockError) else _unexpected(error))
            elif item.work is item.job.work:
                item.job.accept()

    def _recover(self, batch: Batch, error: BaseException) -> None:
        """Decide what a failed batch means for each task in it."""
        if isinstance(error, DeviceBroken):
            self._break(error, batch.jobs)
        elif isinstance(error, Interrupted):
            self._put_back(batch)
        elif isinstance(error, DeviceOutOfMemory):
            self._make_room(batch, error)
        elif len(batch.jobs) > 1:
            for job in batch.jobs:
                job.alone = True
            self._put_back(batch)
        else:
            known = isinstance(error, PenstockError)
            batch.lead.job.fail(error if known else _unexpected(error))

    def _make_room(self, batch: Batch, error: DeviceOutOfMemory) -> None:
        """Run the same tiles in smaller batches; where one alone is too much, cut its task into smaller tiles."""
        job, work, _ = batch.lead
        if self._shrink(batch.lead.lane, len(batch.tiles)):
            self._put_back(batch)
            return
        if work is not job.work:
            return  # another of its tiles has failed before, and it was cut anew
        smaller = work.recut(math.prod(work.shape))
        if smaller is None:
            job.fail(error)
            return
        job.take(smaller)
        self._ready.set()

    def _shrink(self, lane: Lane, size: int) -> int:
        """Remember that the device cannot hold this; the batch size that is left, 0 when a single tile is too much."""
        left = self._backlog.costs.forbid(lane, size)
        if left:
            logger.bind(lane=str(lane), batch=left).warning("device out of memory, batches made smaller")
        else:
            self._ceilings[lane.model, lane.work] = math.prod(lane.shape)
            logger.bind(lane=str(lane)).warning("device out of memory, tiles made smaller")
        return left

    def _put_back(self, batch: Batch) -> None:
        self._backlog.put_back(batch)
        self._ready.set()


def _taken(batch: Batch, outputs: Outputs) -> Taken:
    """Give every task its outputs."""
    return [_refused(item, output) for item, output in zip(batch.items, outputs, strict=False)]


def _refused(item: Item, output: Any) -> Exception | None:
    try:
        item.job.take_in(item.work, item.tile, output)
    except Exception as error:  # noqa: BLE001  a runner's own code
        return error
    return None


def _unexpected(error: BaseException) -> Internal:
    wrapped = Internal("the model failed on this input")
    wrapped.__cause__ = error
    return wrapped
