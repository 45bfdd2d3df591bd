"""The worker process as an arq Worker whose queue is the task store. The only importer of arq.

arq 0.28.0 is pinned, and the parts used here, underscored ones too, were read in that version.
arq's half: the main task and its signals, draining (`job_completion_wait`, then cancel), and the dict of running tasks
(`tasks`) that both go by.
Our half: `main`, which claims when it is woken instead of polling, and all that goes on beside it: see `claims`,
`running`, `signals`, `leases` and `progress`.
Why not more of arq: it polls twice a second, needs 310 s to notice a killed worker, has no priorities, no fencing, and
dies when Redis blinks; its `run_job` alone would cost three more round trips a task and keys outside of our hash tag,
and its timetable goes by the time of day, so that a clock which is set back by an hour would stop the upkeep for as
long.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from signal import Signals as Signal
from typing import Any

import arq
from loguru import logger
from msgspec.structs import replace

from penstock.core.lease import RetryPolicy
from penstock.models.base import DeviceBroken
from penstock.store import Shards, Store, WorkerInfo, WorkerMemory
from penstock.telemetry import metrics
from penstock.worker.attempt import Attempts
from penstock.worker.claims import Claims, Slots
from penstock.worker.heartbeat import PARENT_DIED
from penstock.worker.leases import Leases
from penstock.worker.pipeline import Pipeline
from penstock.worker.prefetch import Prefetch
from penstock.worker.progress import ProgressWriter
from penstock.worker.residency.residents import Residents
from penstock.worker.running import RunningAttempts
from penstock.worker.signals import Signals
from penstock.worker.spool import Spool

Loop = Callable[[], Coroutine[Any, Any, None]]


class Host(arq.Worker):
    """One device's worker: claims while its device has too little to do, runs, settles.

    The loops of `beside`, by their names, run for as long. `look_for_models` is called when there may be others than
    `models` has.
    """

    def __init__(
        self,
        *,
        info: WorkerInfo,
        models: Residents,
        beside: Mapping[str, Loop],
        look_for_models: Callable[[], None],
        memory: Callable[[], WorkerMemory],
        shards: Shards,
        pipeline: Pipeline,
        spool: Spool,
        retry: RetryPolicy,
        slots: int,
        reserved_slots: int,
        lease_s: float,
        drain_s: int,
    ) -> None:
        super().__init__(functions=[_attempt], max_jobs=slots + reserved_slots, job_completion_wait=drain_s)
        self._add_signal_handler(PARENT_DIED, lambda _: self.drain())
        self._info = info
        self.models = models
        self._beside = beside
        self._memory = memory
        self._shards = shards
        self._pipeline = pipeline
        self._spool = spool
        self.broken: DeviceBroken | None = None
        prefetch = Prefetch(pipeline.streams, pipeline.streams_of, pipeline.paying_batch)
        self._leases = Leases(
            shards,
            lease_s,
            describe=self._describe,
            lost=lambda key: self.running.stop(key, "lease lost"),
            silent=self._without_store,
        )
        self._lease_s = lease_s
        self._goodbye: asyncio.Task[None] | None = None
        self._gives_up = False
        self._progress = ProgressWriter(shards, self._leases.get, pipeline.took_so_far_ms)
        self.running = RunningAttempts(
            self.tasks,
            Attempts(shards, pipeline, retry),
            device=info.device,
            leases=self._leases,
            prefetch=prefetch,
            progress=self._progress,
            spool=spool,
            slots=slots,
            reserved_slots=reserved_slots,
            on_end=self.check_device,
        )
        self._claims = Claims(
            shards,
            info,
            prefetch,
            models=lambda: models.models,
            slots=self._free_slots,
            start=self.running.start,
            known=self._leases.held,
        )
        self.running.on_free = self._claims.go_on
        self._signals = [
            Signals(
                store,
                info,
                models=models,
                look_for_models=look_for_models,
                claims=self._claims,
                running=self.running,
                prefetch=prefetch,
            )
            for store in shards
        ]
        self._served = models.models
        models.on_change = self._models_changed

    async def serve(self) -> None:
        """Work until a signal; returns when every task has ended or been handed back.

        Raises DeviceBroken when the device is lost: the process must end, its leases are reclaimed.
        """
        try:
            await self.async_run()
        except asyncio.CancelledError:
            if self.broken:
                raise self.broken from None
        finally:
            await self.close()

    # --- arq's seams ------------------------------------------------------------------------------------------

    async def main(self) -> None:
        """Claim and run, with everything that goes on beside it."""
        async with AsyncExitStack() as stack:
            for name, loop in (
                *(("listen", signals.listen) for signals in self._signals),
                *(pair for store in self._shards for pair in self._in_shard(store)),
                *self._beside.items(),
            ):
                self._watch(stack, name, loop)
            await self._claims.serve()

    def _in_shard(self, store: Store) -> Iterator[tuple[str, Loop]]:
        yield "renew", partial(self._leases.renew, store)
        yield "progress", partial(self._progress.write, store)

    def handle_sig_wait_for_completion(self, signum: Signal) -> None:
        """Drain with the first signal, and hand everything back at once with the second."""
        if self.allow_pick_jobs:
            self._drain(signum)
        else:
            self.handle_sig(signum)

    def drain(self) -> None:
        """Drain as with a first SIGTERM; nothing happens if the worker drains already."""
        if self.allow_pick_jobs:
            self._drain(Signal.SIGTERM)

    def _drain(self, signum: Signal) -> None:
        super().handle_sig_wait_for_completion(signum)
        self.running.give_back_late()
        # At once: where a machine goes down, Redis was told at the same time, and what dies unsaid is a crash.
        self._goodbye = asyncio.create_task(self._say_stopping(), name="goodbye")

    async def close(self) -> None:
        """Wait for the attempts to end, hand back what a claim was given that the stop has cut off, and leave the list
        of workers."""
        await asyncio.gather(*self.tasks.values(), *filter(None, [self._goodbye]), return_exceptions=True)
        if not await self._shards.reach(self._leave):
            logger.warning("could not sign off; the worker leaves the list when its lease ends")

    # --- between the parts ------------------------------------------------------------------------------------

    async def _leave(self, store: Store) -> None:
        await self._claims.hand_back_unknown(store)
        await store.workers.sign_off(self._info.id)

    async def _say_stopping(self) -> None:
        await self._shards.reach(self._leases.renew_once)

    def _without_store(self, seconds: float) -> None:
        """Stop waiting for the attempts when this worker is stopping and Redis has been away for a whole lease: then
        Redis goes down as well, and what the attempts still do could not be written."""
        if not self.allow_pick_jobs and seconds > self._lease_s and not self._gives_up:
            self._gives_up = True
            logger.warning("stopping while Redis is away: nothing more is waited for")
            self.handle_sig(Signal.SIGTERM)

    def _free_slots(self) -> Slots:
        return self.running.free_slots() if self.allow_pick_jobs and self.models.models else Slots(0, 0)

    def _models_changed(self) -> None:
        self._leases.tell()
        if self.models.models != self._served:  # tasks of another one may wait already
            self._served = self.models.models
            self._claims.look()

    def _describe(self) -> WorkerInfo:
        """What this worker says of itself with each renewal."""
        for place, count in (("disk", self._spool.on_disk), ("memory", self._spool.in_memory)):
            metrics.report("worker.spool", count, device=self._info.device, place=place)
        memory = self._memory()
        metrics.report("worker.pinned", memory.pinned, device=self._info.device)
        return replace(
            self._info,
            models=self.models.models,
            residence=self.models.residence(),
            running=len(self.tasks),
            state="READY" if self.allow_pick_jobs else "DRAINING",
            memory=memory,
            spool_full=self._spool.is_full,
        )

    def check_device(self) -> None:
        """End the process if its device is lost."""
        if self._pipeline.broken is None:
            return
        if self.broken is None:
            logger.bind(error=str(self._pipeline.broken)).critical("device lost, process ends")
        self.broken = self._pipeline.broken
        self.allow_pick_jobs = False
        if self.main_task:
            self.main_task.cancel()

    def _watch(self, stack: AsyncExitStack, name: str, loop: Loop) -> None:
        """Run a loop for as long as the worker; if it dies, so does the worker, loudly."""
        task = asyncio.create_task(loop(), name=name)

        def stop(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and self.main_task:
                logger.opt(exception=done.exception()).critical(f"{done.get_name()} died, process ends")
                self.main_task.cancel()

        task.add_done_callback(stop)
        stack.callback(task.cancel)


async def _attempt(ctx: dict[Any, Any]) -> None:
    """Does nothing: arq takes no worker without a function, and `main` starts the attempts without it."""
