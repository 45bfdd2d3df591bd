"""Loads and unloads models on a device beside the batches that run there."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from loguru import logger

from penstock.core.device import Device
from penstock.errors import ModelUnavailable
from penstock.telemetry import metrics
from penstock.worker.batcher.costs import Costs
from penstock.worker.batcher.device_work import Runner
from penstock.worker.batcher.outcomes import Outcomes
from penstock.worker.batcher.warm_up import warm_up
from penstock.worker.model_code import said_by_model
from penstock.worker.task_log import TaskLog
from penstock.worker.threads import Threads


class ModelLoader:
    """Loads models on a thread of its own, so that the threads of the device go on with batches; only a model that is
    not `concurrent` is loaded on `first`, the thread that also runs it."""

    def __init__(self, device: Device, first: Threads, costs: Costs, outcomes: Outcomes) -> None:
        self._device = device
        self._first = first
        self._costs = costs
        self._outcomes = outcomes
        self._own = Threads(1, "load")
        self._hung: list[Threads] = []
        self._loading: set[asyncio.Future[None]] = set()
        self._dropping: set[asyncio.Task[None]] = set()

    async def load(
        self, runner: Runner, log: TaskLog, *, limit_s: float, on_dropped: Callable[[], None] = lambda: None
    ) -> float:
        """Load and warm up a model; returns the seconds. What it says goes to `log`. Raises what the model raises, and
        ModelUnavailable when it takes longer than `limit_s`: its thread is left behind, and what it may still load is
        dropped. Then it calls `on_dropped`."""
        threads, started = self._threads_of(runner), time.perf_counter()
        loading = threads.run(self._load, runner, log)
        self._loading.add(loading)
        loading.add_done_callback(self._loading.discard)
        await asyncio.wait([loading], timeout=limit_s)
        if not loading.done():
            self._leave_behind(threads, runner, loading, on_dropped)
            raise ModelUnavailable(f"the model was not loaded within {limit_s:g} s")
        loading.result()
        seconds = time.perf_counter() - started
        metrics.report("model.load", seconds, model=runner.name, device=self._device.name)
        logger.bind(model=runner.name, device=self._device.name, seconds=round(seconds, 3)).info("model loaded")
        return seconds

    async def unload(self, runner: Runner) -> None:
        """Unload a model that no task uses, and forget what its batches took. What it raises is logged."""
        try:
            await self._threads_of(runner).run(runner.unload)
        except Exception as error:  # noqa: BLE001  a model's own code; its memory is looked at anyway
            logger.bind(model=runner.name).opt(exception=error).error("the model could not be unloaded")
        self._costs.forget_model(runner.name)
        self._outcomes.forget_model(runner.name)

    async def has_ended(self, *, within_s: float) -> bool:
        """Whether no load goes on; waits so long for one that does."""
        if self._loading:
            await asyncio.wait(self._loading, timeout=within_s)
        return not self._loading

    def close(self, *, wait: bool) -> None:
        """End the thread; without `wait` one that still loads is left behind."""
        self._own.close(wait=wait)
        for threads in self._hung:
            threads.close(wait=False)

    def _threads_of(self, runner: Runner) -> Threads:
        return self._own if runner.concurrent else self._first

    def _load(self, runner: Runner, log: TaskLog) -> None:
        with said_by_model("load_model", log):
            runner.load_model(self._device)
            warm_up(self._device, [runner], self._costs, self._outcomes)

    def _leave_behind(
        self, threads: Threads, runner: Runner, loading: asyncio.Future[None], on_dropped: Callable[[], None]
    ) -> None:
        if threads is self._own:
            self._hung.append(self._own)
            self._own = Threads(1, "load")

        async def drop() -> None:
            with suppress(Exception):
                await loading
                await self._threads_of(runner).run(runner.unload)
            on_dropped()

        dropping = asyncio.create_task(drop(), name="drop a late load")
        self._dropping.add(dropping)
        dropping.add_done_callback(self._dropping.discard)
