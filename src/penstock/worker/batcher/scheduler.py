"""The device scheduler: it feeds a device with batches of tiles of all tasks in flight.

A GPU has two batches in flight, each on a thread of its own: while one computes, the results of the other are copied,
and the tiles of the next are stacked, which then waits for its turn. Other threads stack, and accept outputs. The first
thread of the device loads the models, and alone runs those that are not `concurrent`.
A CPU runs one batch for each core at a time: many runs of one thread compute more than one run of many threads. Each
thread stacks, runs and accepts its own batch, since no core has anything better to do.
A task of higher priority gets the batch after the one that waits for its turn, and the task that it passes over keeps
its finished tiles.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from typing import Any

from loguru import logger
from msgspec import Struct

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.models.base import DeviceBroken, Outputs, Work
from penstock.telemetry import metrics
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.acceptance import Acceptance, TileErrors, accept_outputs
from penstock.worker.batcher.backlog import Backlog
from penstock.worker.batcher.device_line import DeviceLine
from penstock.worker.batcher.device_runs import DeviceRuns
from penstock.worker.batcher.device_threads import DeviceThreads
from penstock.worker.batcher.device_work import DeviceBatch, DeviceWork, Listener, Runner, TileRef
from penstock.worker.batcher.loader import ModelLoader
from penstock.worker.batcher.outcomes import Outcomes
from penstock.worker.batcher.stop_patience import StopPatience
from penstock.worker.batcher.warm_up import warm_up
from penstock.worker.model_code import load_errors
from penstock.worker.task_log import TaskLog
from penstock.worker.threads import Threads
from penstock.worker.waiters import Waiters

LOAD_ENDS_S = 5.0
"""How long a worker that stops waits for a load that is under way: `penstock up` kills it after 10."""

CHOSEN = 2
"""Batches of a GPU whose tiles are chosen: the one that computes, and the one that is stacked or waits for its turn. A
task of high priority waits for these at most."""

UNACCEPTED = 2
"""Batches of outputs that may wait to be accepted, besides those that are in flight, before no further batch is begun:
the bound on their memory. The outputs of 8 tiles of 512 x 512 px are 101 MB as bytes, so that four batches are 0.4
GB."""

AHEAD_S = 0.05
"""A CPU whose streams are all busy is given one more run that takes less than this, so that the thread which is free
first goes on at once, not after a turn of the event loop; what comes with a higher priority waits so much longer."""


class DeviceRun(Struct, frozen=True, eq=False):
    """A task's finished work. `work` has the outputs; it is another object than the one that was passed in when the
    device could not hold its tiles. `device_s` is its device time, `waited_s` the time from the call to its first
    batch."""

    work: Work
    device_s: float
    waited_s: float


class DeviceScheduler:
    """The one way to a device. `start` and `close` frame its life; `run` may be called by many tasks at once. `loader`
    loads and unloads further models in between.

    `pool` accepts outputs: it must have nothing else to do, or the device waits for that. `guard` is that of the
    backlog.
    """

    def __init__(self, device: Device, pool: Threads, *, guard: int = 0) -> None:
        self.device = device
        self._acceptance = Acceptance(pool)
        self._threads = DeviceThreads(device)
        self._stacking = Threads(1, "stack")  # none that accepts outputs, or the device would wait for those
        self._line = DeviceLine()
        self._backlog = Backlog(device.batches, device.name, guard)
        self._runs = DeviceRuns(device, self._backlog.costs)
        self._ready = Waiters()
        self._outcomes = Outcomes(self._backlog, wake=self._ready.wake_one, lose_device=self.lose)
        self.loader = ModelLoader(device, self._threads.first, self._backlog.costs, self._outcomes)
        self._chosen = asyncio.Semaphore(CHOSEN)
        self._unaccepted = asyncio.Semaphore(device.in_flight + UNACCEPTED)
        self._flights: set[asyncio.Task[None]] = set()
        self._running: set[DeviceBatch] = set()
        self._busy: set[str] = set()
        self._batch_ended = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self.broken: DeviceBroken | None = None

    async def start(self, runners: Iterable[Runner]) -> None:
        """Load and warm up every model on a device thread, then take work."""
        took_s = {runner: await self._load(runner) for runner in runners}
        first, costs = self._threads.first, self._backlog.costs
        warm_up_s = await first.run(warm_up, self.device, list(took_s), costs, self._outcomes)
        for runner, load_s in took_s.items():
            seconds = load_s + warm_up_s[runner]
            metrics.report("model.load", seconds, model=runner.name, device=self.device.name)
            logger.bind(model=runner.name, device=self.device.name, seconds=round(seconds, 3)).info("model loaded")
        self._loops = [asyncio.create_task(loop, name=f"device loop {n}") for n, loop in enumerate(self._feeds())]
        for loop in self._loops:
            loop.add_done_callback(self._loop_ended)

    async def _load(self, runner: Runner) -> float:
        started = time.perf_counter()
        with load_errors(runner):
            await self._threads.first.run(runner.load_model, self.device)
        return time.perf_counter() - started

    def _feeds(self) -> list[Coroutine[Any, Any, None]]:
        if self.device.streams == 1:
            return [self._gpu_loop()]
        # One more loop than streams: while every stream runs a batch, it puts one short batch (AHEAD_S) into the queue
        # of the threads. The first thread that is free takes it up there, without a turn of the event loop between.
        return [self._cpu_loop() for _ in range(self.device.streams + 1)]

    async def close(self) -> None:
        """Stop. A thread that hangs on a broken device is left behind, and so is one that goes on loading a model."""
        tasks = [*self._loops, *self._flights]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        wait = self.broken is None and await self.loader.has_ended(within_s=LOAD_ENDS_S)
        for threads in (self._threads, self._stacking, self.loader):
            threads.close(wait=wait)

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
        on_time: Callable[[float], None] = lambda _: None,
        on_single_output: Callable[[Work], None] | None = None,
        clock: AttemptClock | None = None,
        log: TaskLog | None = None,
    ) -> DeviceRun:
        """Run every tile of `work` and give it its outputs.

        `on_begin` is called once, when a batch with the first of the tiles goes to the device; before it and each call
        of `on_progress`, and however the run ends, `on_time` is called with its seconds on the device.
        `on_single_output` is called with work of a single tile, on the thread that has accepted the output; what it
        raises fails the task. The `clock` stands while none of the tiles is under way. The `log` gets what the model
        says while it runs some of them.

        When canceled, the device is free of this work on return. Raises what the runner raised, DeviceOutOfMemory,
        InvalidOutput, DeviceBroken.
        """
        if self.broken:
            raise DeviceBroken(str(self.broken), guilty=False)
        fitting = self._outcomes.fitting(runner, work)
        task = DeviceWork(runner, fitting, priority, on_progress, on_single_output, clock, log)
        task.on_begin, task.on_time = on_begin, on_time
        with task.clock.standing():
            self._backlog.add(task)
            self._ready.wake_one()
            try:
                await task.finished
            finally:
                self._backlog.remove(task)
                await self._leave(task)
                on_time(task.device_s)
        return DeviceRun(task.work, task.device_s, (task.reached_device or task.arrived) - task.arrived)

    def wake(self) -> None:
        """Look for tiles that may run now: the work of a task has given outputs away."""
        self._ready.wake_one()

    async def _leave(self, task: DeviceWork) -> None:
        """Wait until no batch on the device holds this task any more; stop those that hold no other that is wanted."""
        patience = StopPatience(self._backlog.costs.longest_s)
        while (mine := [b for b in self._running if task in b.tasks]) and not self.broken:
            if patience.is_over:
                self.lose(DeviceBroken("a run does not stop"), set())
                return
            unwanted = [batch for batch in mine if not any(other in self._backlog for other in batch.tasks)]
            for _, work, _ in [batch.lead for batch in unwanted]:
                task.runner.interrupt(work)
            await patience.wait(self._batch_ended, counts=len(unwanted) == len(mine))

    def lose(self, error: DeviceBroken, guilty: Collection[DeviceWork] = ()) -> None:
        """Run nothing any more, and fail every task in flight."""
        self.broken = self.broken or error
        self._batch_ended.set()
        for task in self._backlog:
            task.fail(error if task in guilty else DeviceBroken(str(error), guilty=False))

    def _loop_ended(self, loop: asyncio.Task[None]) -> None:
        # Only a fault of ours ends a loop. Without this every task would wait for a device that nobody feeds.
        if not loop.cancelled() and (error := loop.exception()) is not None:
            logger.opt(exception=error).critical("a device loop died")
            self.lose(DeviceBroken("a device loop died"), set())

    # --- loops ------------------------------------------------------------------------------------------------

    async def _gpu_loop(self) -> None:
        """Feed a device that computes one batch at a time: choose and stack the next one while others are computed and
        copied."""
        while True:
            await self._chosen.acquire()
            await self._begin_next()  # a call of its own, so that no pixels stay in this frame while nothing waits

    async def _begin_next(self) -> None:
        batch = await self._stacked(await self._next())
        if batch is None:
            self._chosen.release()
            return
        await self._unaccepted.acquire()
        thread = await self._threads.take(batch.lead.task.runner)
        flight = asyncio.create_task(self._fly(batch, thread), name="device batch")
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)
        flight.add_done_callback(self._loop_ended)

    async def _fly(self, batch: DeviceBatch, thread: Threads) -> None:
        """Run a batch and accept its outputs, if somebody still wants it."""
        try:
            outputs = await self._outputs(batch, thread) if batch.is_wanted else None
            self._threads.give_back(thread)
            self._computed(batch)
            if outputs is not None:
                await self._accept(batch, outputs)
        finally:
            self._unaccepted.release()

    async def _outputs(self, batch: DeviceBatch, thread: Threads) -> Outputs | BaseException:
        computed = partial(asyncio.get_running_loop().call_soon_threadsafe, self._computed, batch)
        with self._holding(batch), self._line.joined(batch):
            outputs, *_ = await asyncio.gather(thread.run(self._runs.infer, batch, computed), return_exceptions=True)
            if isinstance(outputs, DeviceBroken):  # which of the batches broke it, nobody can tell
                self.lose(outputs, self._line.tasks)
        return outputs

    def _computed(self, batch: DeviceBatch) -> None:
        """Let the next batch be chosen: the device has this one behind it, but for the copy of its results."""
        if not batch.is_computed:
            batch.is_computed = True
            self._chosen.release()

    async def _cpu_loop(self) -> None:
        """Feed a stream of a device that is the CPU itself: one thread does all that a batch needs."""
        errors: TileErrors | Exception
        while True:
            batch = DeviceBatch(await self._next())
            with self._holding(batch), batch:
                batch.begin()
                try:
                    errors = await self._threads.first.run(self._run_on_cpu, batch)
                except Exception as error:  # noqa: BLE001  a runner's own code: its task fails, the device goes on
                    errors = error
            self._free(batch.lead.task.runner)
            self._outcomes.conclude(batch, errors)
            del batch, errors  # no pixels stay in this frame while nothing waits

    def _holding(self, batch: DeviceBatch) -> "_Holding":
        """Inside of this block a thread works at the batch: none of its tasks can leave before the end."""
        return _Holding(self._running, batch, self._batch_ended)

    async def _next(self) -> list[TileRef]:
        """Wait for the tiles of the next batch."""
        while not (tiles := self._choose()):
            await self._ready.wait(self._backlog.patience_s())
        if self._backlog.has_open_tile:  # another loop may have a stream for them
            self._ready.wake_one()
        return tiles

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
            self._ready.wake_one()

    async def _stacked(self, tiles: list[TileRef]) -> DeviceBatch | None:
        """A batch of these tiles that can run; None where a runner could not cut them, or nobody wants them now."""
        batch = DeviceBatch(tiles)
        try:
            with self._holding(batch), batch:
                batch.stacked = await self._stacking.run(self._runs.stack, tiles)
        except Exception as error:  # noqa: BLE001  a runner's own code: its task fails, the device goes on
            self._outcomes.conclude(batch, error)
            return None
        return batch if batch.is_wanted else None

    async def _accept(self, batch: DeviceBatch, outputs: Outputs | BaseException) -> None:
        """Accept the outputs of a batch beside the device, which runs the next one."""
        if isinstance(outputs, BaseException):
            self._outcomes.conclude(batch, outputs)
            return
        try:
            with batch:
                errors = await self._acceptance.accept(batch, outputs)
        except Exception as error:  # noqa: BLE001  no sequence, or a runner's own SystemExit: as in `_stacked`
            self._outcomes.conclude(batch, error)
        else:
            self._outcomes.conclude(batch, errors)

    # --- on threads -------------------------------------------------------------------------------------------

    def _run_on_cpu(self, batch: DeviceBatch) -> TileErrors:
        batch.stacked = self._runs.stack(batch.tiles)
        return accept_outputs(batch.tiles, self._runs.infer(batch)) if batch.is_wanted else []


class _Holding(Struct, frozen=True, eq=False):
    """A batch is among the running ones inside of this block. A generator would take twice the calls."""

    running: set[DeviceBatch]
    batch: DeviceBatch
    ended: asyncio.Event

    def __enter__(self) -> None:
        self.running.add(self.batch)

    def __exit__(self, *_: object) -> None:
        self.running.discard(self.batch)
        self.ended.set()
