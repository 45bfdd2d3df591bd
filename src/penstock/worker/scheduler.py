"""The device scheduler: tiles of all tasks in flight, highest priority first, in batches, on one thread.

One thread for each device, which also loads the models: CUDA memory grows without bound when runs come from several
threads. While a batch runs, the tiles of the next are cut; outputs are taken in on the CPU pool. A task of higher
priority takes the batch after the one that is being cut, and what it passed over keeps its finished tiles.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
from loguru import logger
from msgspec import Struct
from numpy.typing import NDArray

from penstock import telemetry
from penstock.errors import DeviceOutOfMemory, Internal, InvalidOutput, PenstockError
from penstock.runners.base import BaseModelRunner, Device, DeviceBroken, Interrupted, Outputs, Work
from penstock.task import PRIORITIES, Priority

OUTPUT_BATCHES = 3
"""Batches of outputs that may wait to be taken in before the device pauses: the bound on their memory."""

STUCK_S = 5.0
"""A run that goes on this long after it was told to stop will not stop: the device is taken for lost. The longest
single node of the built-in models takes under a second on a CPU."""

Runner = BaseModelRunner[Any]
Lane = tuple[str, str, tuple[int, ...]]


class _Job:
    """One task's work on the device. `alone` after it was in a batch that failed: it then runs by itself."""

    def __init__(self, runner: Runner, work: Work, rank: tuple[int, int], on_progress: Callable[[int], None]) -> None:
        self.runner = runner
        self.work = work
        self.rank = rank
        self.on_progress = on_progress
        self.lane: Lane = (runner.name, work.lane, work.shape)
        self.waiting = list(reversed(range(work.count)))
        self.accepted = 0
        self.device_s = 0.0
        self.alone = False
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)


class _Batch(Struct, eq=False):
    items: list[tuple[_Job, int]]
    tiles: NDArray[Any]

    @property
    def jobs(self) -> set[_Job]:
        return {job for job, _ in self.items}


class DeviceScheduler:
    """The one way to a device. `start` and `close` frame its life; `run` may be called by many tasks at once."""

    def __init__(self, device: Device, cpu_pool: Executor) -> None:
        self.device = device
        self._cpu_pool = cpu_pool
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=device.name)
        self._jobs: list[_Job] = []
        self._ready = asyncio.Event()
        self._arrivals = count()
        self._limits: dict[Lane, int] = {}
        self._intake = asyncio.Semaphore(OUTPUT_BATCHES)
        self._intakes: set[asyncio.Task[None]] = set()
        self._running: _Batch | None = None
        self._last_lead: _Job | None = None
        self._idle = asyncio.Event()
        self._driver: asyncio.Task[None] | None = None
        self.broken: DeviceBroken | None = None

    async def start(self, runners: Iterable[Runner]) -> None:
        """Load and warm up every model on the device thread, then take work."""
        loop = asyncio.get_running_loop()
        for runner in runners:
            started = time.perf_counter()
            await loop.run_in_executor(self._thread, runner.load_model, self.device)
            took_s = time.perf_counter() - started
            telemetry.report("model.load", took_s, model=runner.name, device=self.device.name)
            logger.bind(model=runner.name, device=self.device.name, seconds=round(took_s, 3)).info("model loaded")
        self._driver = asyncio.create_task(self._drive(), name="device driver")

    async def close(self) -> None:
        """Stop. A thread that hangs on a broken device is left behind."""
        if self._driver:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
        self._thread.shutdown(wait=self.broken is None, cancel_futures=True)

    async def run(self, runner: Runner, work: Work, *, priority: Priority, on_progress: Callable[[int], None]) -> float:
        """Run every tile of `work` and give its outputs to it; the seconds of device time it took.

        `on_progress` hears how many tiles are done. When canceled, the device is free of this work on return.
        Raises what the runner raised, DeviceOutOfMemory, InvalidOutput, DeviceBroken.
        """
        if self.broken:
            raise DeviceBroken(str(self.broken), guilty=False)
        job = _Job(runner, work, (PRIORITIES.index(priority), next(self._arrivals)), on_progress)
        self._jobs.append(job)
        self._jobs.sort(key=lambda j: j.rank)
        self._ready.set()
        try:
            await job.finished
        finally:
            self._jobs.remove(job)
            await self._leave(job)
        return job.device_s

    async def _leave(self, job: _Job) -> None:
        """Wait until no batch on the device holds this job any more; stop one that holds nothing else."""
        job.waiting.clear()
        while self._running and job in self._running.jobs and not self.broken:
            alone = len(self._running.jobs) == 1
            if alone:
                job.runner.interrupt()
            self._idle.clear()
            try:
                async with asyncio.timeout(STUCK_S if alone else None):
                    await self._idle.wait()
            except TimeoutError:
                self._break(DeviceBroken("a run does not stop"), {job})

    def _break(self, error: DeviceBroken, guilty: set[_Job]) -> None:
        """Nothing runs here any more: every task in flight hears of it."""
        self.broken = error
        for job in tuple(self._jobs):
            job.fail(error if job in guilty else DeviceBroken(str(error), guilty=False))

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        following: _Batch | None = None
        while True:
            batch = following or await self._next_batch()
            following = None
            if not any(job in self._jobs for job in batch.jobs):
                continue  # canceled while it was cut
            await self._intake.acquire()
            self._running = batch
            running = loop.run_in_executor(self._thread, self._infer, batch)
            following = await self._cut(self._choose())
            outputs = await asyncio.gather(running, return_exceptions=True)
            self._running = None
            self._idle.set()
            intake = asyncio.create_task(self._take_in(batch, outputs[0]), name="take in")
            self._intakes.add(intake)
            intake.add_done_callback(self._intakes.discard)

    async def _next_batch(self) -> _Batch:
        while True:
            self._ready.clear()
            batch = await self._cut(self._choose())
            if batch:
                return batch
            await self._ready.wait()

    def _choose(self) -> list[tuple[_Job, int]]:
        """Tiles for one batch: those of the first job in rank, filled up from later ones of the same lane."""
        lead = next((job for job in self._jobs if job.waiting), None)
        if lead is None:
            return []
        self._count_preemption(lead)
        room = min(self.device.batches[-1], self._limits.get(lead.lane, self.device.batches[-1]))
        mates = [lead] if lead.alone else [j for j in self._jobs if j.lane == lead.lane and not j.alone]
        chosen: list[tuple[_Job, int]] = []
        for job in mates:
            while job.waiting and len(chosen) < room:
                chosen.append((job, job.waiting.pop()))
        return chosen

    def _count_preemption(self, lead: _Job) -> None:
        passed_over = self._last_lead
        if passed_over and passed_over is not lead and passed_over.waiting and lead.rank < passed_over.rank:
            telemetry.report("preemptions", device=self.device.name)
        self._last_lead = lead

    async def _cut(self, items: list[tuple[_Job, int]]) -> _Batch | None:
        if not items:
            return None
        loop = asyncio.get_running_loop()
        try:
            tiles = await loop.run_in_executor(self._cpu_pool, self._stack, items)
        except Exception as error:  # noqa: BLE001  a runner's own code: its task fails, the device goes on
            self._recover(_Batch(items, np.empty(0)), error)
            return None
        return _Batch(items, tiles)

    def _stack(self, items: list[tuple[_Job, int]]) -> NDArray[Any]:
        """One array; padded to a batch size that the device knows."""
        tiles = [job.work.tile(index) for job, index in items]
        size = next(b for b in self.device.batches if b >= len(tiles))
        return np.stack(tiles + [np.zeros_like(tiles[0])] * (size - len(tiles)))

    def _infer(self, batch: _Batch) -> Outputs:
        """On the device thread."""
        job = batch.items[0][0]
        started = time.perf_counter()
        outputs = job.runner.infer(batch.tiles, job.work)
        took_s = time.perf_counter() - started
        telemetry.report("device.busy", took_s, device=self.device.name)
        telemetry.report("batch.tiles", len(batch.items), model=job.runner.name, device=self.device.name)
        for owner, _ in batch.items:
            owner.device_s += took_s / len(batch.items)
        if len(outputs) != len(batch.tiles):
            raise InvalidOutput(f"the runner gave {len(outputs)} outputs for {len(batch.tiles)} tiles")
        return outputs

    async def _take_in(self, batch: _Batch, outputs: Outputs | BaseException) -> None:
        try:
            if isinstance(outputs, BaseException):
                self._recover(batch, outputs)
                return
            loop = asyncio.get_running_loop()
            for (job, index), output in zip(batch.items, outputs, strict=False):
                try:
                    await loop.run_in_executor(self._cpu_pool, job.work.accept, index, output)
                except Exception as error:  # noqa: BLE001  its task fails, the others of the batch go on
                    job.fail(error if isinstance(error, PenstockError) else _unexpected(error))
                    continue
                self._count_tile(job)
        finally:
            self._intake.release()

    def _count_tile(self, job: _Job) -> None:
        job.accepted += 1
        job.on_progress(job.accepted)
        if job.accepted == job.work.count and not job.finished.done():
            job.finished.set_result(None)

    def _recover(self, batch: _Batch, error: BaseException) -> None:
        """Decide what a failed batch means for each task in it."""
        if isinstance(error, DeviceBroken):
            self._break(error, batch.jobs)
        elif isinstance(error, Interrupted):
            self._put_back(batch)
        elif isinstance(error, DeviceOutOfMemory) and len(batch.items) > 1:
            lane = batch.items[0][0].lane
            self._limits[lane] = max(1, len(batch.items) // 2)
            logger.bind(lane=str(lane), batch=self._limits[lane]).warning("device out of memory, batch made smaller")
            self._put_back(batch)
        elif len(batch.jobs) > 1:
            for job in batch.jobs:
                job.alone = True
            self._put_back(batch)
        else:
            known = isinstance(error, PenstockError)
            batch.items[0][0].fail(error if known else _unexpected(error))

    def _put_back(self, batch: _Batch) -> None:
        for job, index in batch.items:
            if job in self._jobs and not job.finished.done():
                job.waiting.append(index)
        self._ready.set()


def _unexpected(error: BaseException) -> Internal:
    wrapped = Internal("the model failed on this input")
    wrapped.__cause__ = error
    return wrapped
