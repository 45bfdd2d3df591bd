"""The device scheduler: tiles of all tasks in flight, highest priority first, in batches.

A CUDA device is used by one thread, which also loads the models: its memory grows without bound when runs come from
several. A CPU runs one batch for each core at a time: many runs of one thread compute more than one run of many
threads. While a batch runs on a device of one stream, the tiles of the next are cut. A task of higher priority takes
the batch after the one that is being cut, and what it passed over keeps its finished tiles.
"""

import asyncio
import math
import time
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from loguru import logger
from msgspec import Struct
from numpy.typing import NDArray

from penstock import telemetry
from penstock.device import Device
from penstock.errors import DeviceOutOfMemory, Internal, InvalidOutput, PenstockError
from penstock.runners.base import DeviceBroken, Interrupted, Outputs, Work
from penstock.task import Priority
from penstock.worker.batches import Backlog, Batch, Item, Job, Lane, Listener, Runner, lane_of

OUTPUT_BATCHES = 2
"""Batches of outputs for each stream that may wait to be taken in before it pauses: the bound on their memory."""

STUCK_S = 5.0
"""A run that goes on this long after it was told to stop will not stop: the device is taken for lost. The longest
single node of the built-in models takes under a second on a CPU."""


class Run(Struct, frozen=True, eq=False):
    """What a job took: `work` has the outputs, and is another than was given when the device could not hold its
    tiles; `device_s` of device time, `waited_s` from the call to the first batch."""

    work: Work
    device_s: float
    waited_s: float


class DeviceScheduler:
    """The one way to a device. `start` and `close` frame its life; `run` may be called by many tasks at once.

    `pool` cuts tiles and takes outputs in: it must have nothing else to do, or the device waits for that.
    """

    def __init__(self, device: Device, pool: Executor) -> None:
        self.device = device
        self._pool = pool
        self._threads = ThreadPoolExecutor(device.streams, thread_name_prefix=device.name)
        self._backlog = Backlog(device.batches, device.name)
        self._ready = asyncio.Event()
        self._ceilings: dict[tuple[str, str], int] = {}
        self._intake = asyncio.Semaphore(OUTPUT_BATCHES * device.streams)
        self._intakes: set[asyncio.Task[None]] = set()
        self._running: set[Batch] = set()
        self._busy: set[str] = set()
        self._ended = asyncio.Event()
        self._drivers: list[asyncio.Task[None]] = []
        self.broken: DeviceBroken | None = None

    async def start(self, runners: Iterable[Runner]) -> None:
        """Load and rehearse every model on a device thread, then take work."""
        loop = asyncio.get_running_loop()
        for runner in runners:
            started = time.perf_counter()
            await loop.run_in_executor(self._threads, runner.load_model, self.device)
            await loop.run_in_executor(self._threads, self._rehearse, runner)
            took_s = time.perf_counter() - started
            telemetry.report("model.load", took_s, model=runner.name, device=self.device.name)
            logger.bind(model=runner.name, device=self.device.name, seconds=round(took_s, 3)).info("model loaded")
        self._drivers = [
            asyncio.create_task(self._drive(), name=f"device driver {n}") for n in range(self.device.streams)
        ]

    async def close(self) -> None:
        """Stop. A thread that hangs on a broken device is left behind."""
        for driver in self._drivers:
            driver.cancel()
        await asyncio.gather(*self._drivers, return_exceptions=True)
        self._threads.shutdown(wait=self.broken is None, cancel_futures=True)

    async def run(self, runner: Runner, work: Work, *, priority: Priority, on_progress: Listener) -> Run:
        """Run every tile of `work`, or of a finer cut of it, and give it its outputs.

        When canceled, the device is free of this work on return. Raises what the runner raised, DeviceOutOfMemory,
        InvalidOutput, DeviceBroken.
        """
        if self.broken:
            raise DeviceBroken(str(self.broken), guilty=False)
        ceiling = self._ceilings.get((runner.name, work.lane))
        fitting = work if ceiling is None else work.recut(ceiling) or work
        job = Job(runner, fitting, priority, on_progress)
        self._backlog.add(job)
        self._ready.set()
        try:
            await job.finished
        finally:
            self._backlog.remove(job)
            await self._leave(job)
        waited_s = (job.reached_device or job.arrived) - job.arrived
        return Run(job.work, job.device_s, waited_s)

    async def _leave(self, job: Job) -> None:
        """Wait until no batch on the device holds this job any more; stop those that hold nothing else."""
        while (mine := [b for b in self._running if job in b.jobs]) and not self.broken:
            alone = all(len(batch.jobs) == 1 for batch in mine)
            if alone:
                job.runner.interrupt(job.work)
            self._ended.clear()
            try:
                async with asyncio.timeout(STUCK_S if alone else None):
                    await self._ended.wait()
            except TimeoutError:
                self._break(DeviceBroken("a run does not stop"), {job})

    def _break(self, error: DeviceBroken, guilty: set[Job]) -> None:
        """Nothing runs here any more: every task in flight hears of it."""
        self.broken = error
        for job in self._backlog:
            job.fail(error if job in guilty else DeviceBroken(str(error), guilty=False))

    async def _drive(self) -> None:
        """One stream: batch after batch."""
        loop = asyncio.get_running_loop()
        ahead = self.device.streams == 1  # several streams have other batches to run while one is cut
        following: Batch | None = None
        while True:
            batch = following or await self._next_batch()
            following = None
            if not any(item.counts for item in batch.items):
                self._release(batch.lead.job.runner)
                continue  # canceled while it was cut
            await self._intake.acquire()
            self._running.add(batch)
            running = loop.run_in_executor(self._threads, self._infer, batch)
            if ahead:
                following = await self._cut(self._choose())
            outputs = await asyncio.gather(running, return_exceptions=True)
            self._running.discard(batch)
            self._ended.set()
            self._release(batch.lead.job.runner)
            intake = asyncio.create_task(self._take_in(batch, outputs[0]), name="take in")
            self._intakes.add(intake)
            intake.add_done_callback(self._intakes.discard)

    async def _next_batch(self) -> Batch:
        while True:
            self._ready.clear()
            batch = await self._cut(self._choose())
            if batch:
                return batch
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backlog.patience_s()):
                    await self._ready.wait()

    def _choose(self) -> list[Item]:
        items = self._backlog.choose(self._busy)
        if items and self.device.streams > 1 and not items[0].job.runner.concurrent:
            self._busy.add(items[0].job.runner.name)
        return items

    def _release(self, runner: Runner) -> None:
        """A model that runs one batch at a time is free again."""
        if runner.name in self._busy:
            self._busy.discard(runner.name)
            self._ready.set()

    async def _cut(self, items: list[Item]) -> Batch | None:
        if not items:
            return None
        loop = asyncio.get_running_loop()
        try:
            tiles = await loop.run_in_executor(self._pool, self._stack, items)
        except Exception as error:  # noqa: BLE001  a runner's own code: its task fails, the device goes on
            self._release(items[0].job.runner)
            self._recover(Batch(items, np.empty(0)), error)
            return None
        return Batch(items, tiles)

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
        telemetry.report("device.busy", took_s / self.device.streams, device=self.device.name)
        telemetry.report("batch.tiles", len(batch.items), model=runner.name, device=self.device.name)
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
        try:
            if isinstance(outputs, BaseException):
                self._recover(batch, outputs)
                return
            loop = asyncio.get_running_loop()
            for item, output in zip(batch.items, outputs, strict=False):
                try:
                    await loop.run_in_executor(self._pool, item.work.accept, item.tile, output)
                except Exception as error:  # noqa: BLE001  its task fails, the others of the batch go on
                    item.job.fail(error if isinstance(error, PenstockError) else _unexpected(error))
                    continue
                if item.work is item.job.work:
                    item.job.accept()
        finally:
            self._intake.release()

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


def _unexpected(error: BaseException) -> Internal:
    wrapped = Internal("the model failed on this input")
    wrapped.__cause__ = error
    return wrapped
