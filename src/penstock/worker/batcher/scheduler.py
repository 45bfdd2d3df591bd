"""The device scheduler: it feeds a device with batches of tiles of all tasks in flight.

A CUDA device is used by one thread, which also loads the models: its memory grows without bound when runs come from
several. While a batch runs, other threads stack the tiles of the next and accept the outputs of the last.
A CPU runs one batch for each core at a time: many runs of one thread compute more than one run of many threads. Each
thread stacks, runs and accepts its own batch, since no core has anything better to do.
A task of higher priority gets the batch after the one that is being stacked, and the task that it passes over keeps its
finished tiles.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from loguru import logger
from msgspec import Struct
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.errors import InvalidOutput
from penstock.models.base import DeviceBroken, Outputs, Work
from penstock.telemetry import metrics
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.backlog import Backlog
from penstock.worker.batcher.device_work import DeviceBatch, DeviceWork, Listener, Runner, TileRef
from penstock.worker.batcher.outcomes import Outcomes, TileErrors, accept_outputs
from penstock.worker.batcher.warm_up import warm_up
from penstock.worker.threads import Threads

OUTPUT_BATCHES = 2
"""Batches of outputs that may wait to be accepted before the device pauses: the bound on their memory."""

AHEAD_S = 0.05
"""A CPU whose streams are all busy is given one more run that takes less than this, so that the thread which is free
first goes on at once, not after a turn of the event loop; what comes with a higher priority waits so much longer."""

STUCK_S = 5.0
"""A run that goes on this long after it was told to stop will not stop: the device is considered lost. The longest
single node of the built-in models takes under a second on a CPU."""


class DeviceRun(Struct, frozen=True, eq=False):
    """A task's finished work. `work` has the outputs; it is another object than the one that was passed in when the
    device could not hold its tiles. `device_s` is its device time, `waited_s` the time from the call to its first
    batch."""

    work: Work
    device_s: float
    waited_s: float


class DeviceScheduler:
    """The one way to a device. `start` and `close` frame its life; `run` may be called by many tasks at once.

    `pool` stacks tiles and accepts outputs: it must have nothing else to do, or the device waits for that. `guard` is
    that of the backlog.
    """

    def __init__(self, device: Device, pool: Threads, *, guard: int = 0) -> None:
        self.device = device
        self._pool = pool
        self._threads = Threads(device.streams, device.name)
        self._backlog = Backlog(device.batches, device.name, guard)
        self._ready = asyncio.Event()
        self._outcomes = Outcomes(self._backlog, wake=self._ready.set, lose_device=self._lose_device)
        self._unaccepted = asyncio.Semaphore(OUTPUT_BATCHES)
        self._accepting: set[asyncio.Task[None]] = set()
        self._running: set[DeviceBatch] = set()
        self._busy: set[str] = set()
        self._batch_ended = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self.broken: DeviceBroken | None = None

    async def start(self, runners: Iterable[Runner]) -> None:
        """Load and warm up every model on a device thread, then take work."""
        took_s = {runner: await self._load(runner) for runner in runners}
        warm_up_s = await self._threads.run(warm_up, self.device, list(took_s), self._backlog.costs, self._outcomes)
        for runner, load_s in took_s.items():
            seconds = load_s + warm_up_s[runner]
            metrics.report("model.load", seconds, model=runner.name, device=self.device.name)
            logger.bind(model=runner.name, device=self.device.name, seconds=round(seconds, 3)).info("model loaded")
        # One more loop than streams: while every stream runs a batch, it puts one short batch (AHEAD_S) into the queue
        # of the threads. The first thread that is free takes it up there, without a turn of the event loop between.
        loops = [self._gpu_loop] if self.device.streams == 1 else [self._cpu_loop] * (self.device.streams + 1)
        self._loops = [asyncio.create_task(loop(), name=f"device loop {n}") for n, loop in enumerate(loops)]
        for loop in self._loops:
            loop.add_done_callback(self._loop_ended)

    async def _load(self, runner: Runner) -> float:
        started = time.perf_counter()
        await self._threads.run(runner.load_model, self.device)
        return time.perf_counter() - started

    async def close(self) -> None:
        """Stop. A thread that hangs on a broken device is left behind."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._threads.close(wait=self.broken is None)

    def paying_batch(self, model: str) -> tuple[int, float]:
        """How many tiles of a model should wait for the device, so that its next batch is large enough to pay; and the
        seconds of one tile alone. See `Costs.paying`."""
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
        on_single_output: Callable[[Work], None] | None = None,
        clock: AttemptClock | None = None,
    ) -> DeviceRun:
        """Run every tile of `work` and give it its outputs.

        `on_begin` is called once, when a batch with the first of the tiles goes to the device; however the run ends,
        `on_leave` is called with its seconds on the device. `on_single_output` is called with work of a single tile, on
        the thread that has accepted the output; what it raises fails the task. The `clock` stands while none of the
        tiles is under way.

        When canceled, the device is free of this work on return. Raises what the runner raised, DeviceOutOfMemory,
        InvalidOutput, DeviceBroken.
        """
        if self.broken:
            raise DeviceBroken(str(self.broken), guilty=False)
        fitting = self._outcomes.fitting(runner, work)
        task = DeviceWork(runner, fitting, priority, on_progress, on_single_output, clock)
        task.on_begin = on_begin
        with task.clock.standing():
            self._backlog.add(task)
            self._ready.set()
            try:
                await task.finished
            finally:
                self._backlog.remove(task)
                await self._leave(task)
                on_leave(task.device_s)
        return DeviceRun(task.work, task.device_s, (task.reached_device or task.arrived) - task.arrived)

    async def _leave(self, task: DeviceWork) -> None:
        """Wait until no batch on the device holds this task any more; stop those that hold no other that is wanted."""
        while (mine := [b for b in self._running if task in b.tasks]) and not self.broken:
            unwanted = [batch for batch in mine if not any(other in self._backlog for other in batch.tasks)]
            for _, work, _ in [batch.lead for batch in unwanted]:
                task.runner.interrupt(work)
            self._batch_ended.clear()
            try:
                async with asyncio.timeout(STUCK_S if len(unwanted) == len(mine) else None):
                    await self._batch_ended.wait()
            except TimeoutError:
                self._lose_device(DeviceBroken("a run does not stop"), set())

    def _lose_device(self, error: DeviceBroken, guilty: Collection[DeviceWork]) -> None:
        """Run nothing any more, and fail every task in flight."""
        self.broken = error
        self._batch_ended.set()
        for task in self._backlog:
            task.fail(error if task in guilty else DeviceBroken(str(error), guilty=False))

    def _loop_ended(self, loop: asyncio.Task[None]) -> None:
        # Only a fault of ours ends a loop. Without this every task would wait for a device that nobody feeds.
        if not loop.cancelled() and (error := loop.exception()) is not None:
            logger.opt(exception=error).critical("a device loop died")
            self._lose_device(DeviceBroken("a device loop died"), set())

    # --- loops ------------------------------------------------------------------------------------------------

    async def _gpu_loop(self) -> None:
        """Feed a device of one stream: batch after batch, and while one runs the next is stacked."""
        following: DeviceBatch | None = None
        while True:
            batch = following or await self._stacked(await self._next())
            following = None
            if batch is None or not batch.is_wanted:
                continue
            await self._unaccepted.acquire()
            with self._holding(batch):
                batch.begin()
                running = self._threads.run(self._infer, batch)
                following = await self._stacked(self._choose())
                outputs, *_ = await asyncio.gather(running, return_exceptions=True)
            accepting = asyncio.create_task(self._accept(batch, outputs), name="accept outputs")
            self._accepting.add(accepting)
            accepting.add_done_callback(self._accepting.discard)

    async def _cpu_loop(self) -> None:
        """Feed a stream of a device that is the CPU itself: one thread does all that a batch needs."""
        while True:
            batch = DeviceBatch(await self._next())
            with self._holding(batch):
                batch.begin()
                running = self._threads.run(self._run_on_cpu, batch)
                errors, *_ = await asyncio.gather(running, return_exceptions=True)
            self._free(batch.lead.task.runner)
            self._outcomes.conclude(batch, errors)

    @contextmanager
    def _holding(self, batch: DeviceBatch) -> Iterator[None]:
        """Inside of this block a thread works at the batch: the time of its tasks counts, and none of them can leave
        before the end."""
        self._running.add(batch)
        try:
            with batch.under_way():
                yield
        finally:
            self._running.discard(batch)
            self._batch_ended.set()

    async def _next(self) -> list[TileRef]:
        """Wait for the tiles of the next batch."""
        while True:
            self._ready.clear()
            tiles = self._choose()
            if tiles:
                return tiles
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backlog.patience_s()):
                    await self._ready.wait()

    def _choose(self) -> list[TileRef]:
        is_ahead = 1 < self.device.streams <= len(self._running)
        tiles = self._backlog.choose(self._busy, AHEAD_S if is_ahead else math.inf)
        if tiles and self.device.streams > 1 and not tiles[0].task.runner.concurrent:
            self._busy.add(tiles[0].task.runner.name)
        return tiles

    def _free(self, runner: Runner) -> None:
        """Let a model that runs one batch at a time run the next."""
        if runner.name in self._busy:
            self._busy.discard(runner.name)
            self._ready.set()

    async def _stacked(self, tiles: list[TileRef]) -> DeviceBatch | None:
        """A batch of these tiles that can run; None where there are none, or where a runner could not cut them."""
        if not tiles:
            return None
        batch = DeviceBatch(tiles)
        try:
            with self._holding(batch):
                batch.stacked = await self._pool.run(self._stack, tiles)
        except Exception as error:  # noqa: BLE001  a runner's own code: its task fails, the device goes on
            self._outcomes.conclude(batch, error)
            return None
        return batch

    async def _accept(self, batch: DeviceBatch, outputs: Outputs | BaseException) -> None:
        """Accept the outputs of a batch beside the device, which runs the next one."""
        try:
            if isinstance(outputs, BaseException):
                self._outcomes.conclude(batch, outputs)
                return
            with batch.under_way():
                self._outcomes.conclude(batch, await self._pool.run(accept_outputs, batch, outputs))
        finally:
            self._unaccepted.release()

    # --- on threads -------------------------------------------------------------------------------------------

    def _run_on_cpu(self, batch: DeviceBatch) -> TileErrors:
        batch.stacked = self._stack(batch.tiles)
        return accept_outputs(batch, self._infer(batch)) if batch.is_wanted else []

    def _stack(self, tiles: list[TileRef]) -> NDArray[Any]:
        """One array of the pixels of these tiles, padded to a batch size that the device knows."""
        work = tiles[0].work
        size = next(b for b in self.device.batches if b >= len(tiles))
        pixels = np.empty((size, *work.shape), work.dtype)
        for tile, place in zip(tiles, pixels, strict=False):
            tile.work.write_tile(tile.tile, place)
        pixels[len(tiles) :] = 0
        return pixels

    def _infer(self, batch: DeviceBatch) -> Outputs:
        runner, work = batch.lead.task.runner, batch.lead.work
        started = time.perf_counter()
        for task in batch.tasks:
            task.reached_device = task.reached_device or time.monotonic()
        outputs = runner.infer(batch.stacked, work)
        took_s = time.perf_counter() - started
        self._backlog.costs.note(batch.lead.key, len(batch.stacked), took_s)
        metrics.report("device.busy", took_s / self.device.streams, device=self.device.name)
        metrics.report("device.batch.tiles", len(batch.tiles), model=runner.name, device=self.device.name)
        for tile in batch.tiles:
            tile.task.device_s += took_s / len(batch.tiles)
        if len(outputs) != len(batch.stacked):
            raise InvalidOutput(f"the runner gave {len(outputs)} outputs for {len(batch.stacked)} tiles")
        return outputs
