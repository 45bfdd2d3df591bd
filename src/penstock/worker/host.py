"""The worker process: an arq Worker whose queue is the task store. The only importer of arq.

arq 0.28.0 is pinned, and the parts used here, underscored ones too, were read in that version.
arq's half: the main task and its signals, draining (`job_completion_wait`, then cancel), the books of running jobs
(`tasks`, `job_tasks`, `aborting_tasks`, `max_jobs`).
Ours: `main` (woken at once instead of polling), running a lease, giving it back; `claims`, `leases`, `attempt` and
`progress` beside this file; upkeep. Stock arq
polls twice a second, needs 310 s to notice a killed worker, has no priorities, no fencing, and dies when Redis blinks;
its `run_job` alone would cost three more round trips a task and keys outside of our hash tag, and its timetable goes by
the time of day, so that a clock which is set back by an hour would stop the upkeep for as long.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from signal import Signals
from typing import Any

import arq
from loguru import logger
from msgspec.structs import replace

from penstock.core.lease import Lease, RetryPolicy, is_suspect
from penstock.core.task import Progress, Stage
from penstock.errors import StoreUnavailable
from penstock.models.base import DeviceBroken
from penstock.store import Store, WorkerInfo, WorkerMemory
from penstock.telemetry import metrics
from penstock.worker.attempt import Attempts
from penstock.worker.claims import Claims, Slots
from penstock.worker.hand import Hand
from penstock.worker.leases import Leases
from penstock.worker.pipeline import Pipeline
from penstock.worker.progress import ProgressWriter
from penstock.worker.spool import Spool


class Host(arq.Worker):
    """One device's worker: claims while its device has too little to do, runs, settles."""

    def __init__(
        self,
        *,
        info: WorkerInfo,
        memory: Callable[[], WorkerMemory],
        store: Store,
        upkeep: Callable[[], Coroutine[Any, Any, None]],
        pipeline: Pipeline,
        spool: Spool,
        retry: RetryPolicy,
        slots: int,
        reserved_slots: int,
        lease_s: float,
        drain_s: int,
    ) -> None:
        super().__init__(
            functions=[_attempt],
            max_jobs=slots + reserved_slots,
            job_completion_wait=drain_s,
        )
        self._info = info
        self._memory = memory
        self._store = store
        self._upkeep = upkeep
        self._pipeline = pipeline
        self._spool = spool
        self._slots = slots
        self._hand = Hand(pipeline.streams, pipeline.streams_of, pipeline.paying_batch)
        self._leases = Leases(store, lease_s, describe=self._describe, lost=self._lease_lost)
        self._progress = ProgressWriter(store, self._leases.get)
        self._claims = Claims(
            store, info, self._hand, slots=self._free_slots, start=self._start, known=self._leases.held
        )
        self._attempts = Attempts(store, pipeline, retry, on_settling=self._settling)
        self._uploading: set[str] = set()
        self._suspects: list[str] = []
        self._freed = asyncio.Event()
        self.broken: DeviceBroken | None = None

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

    async def main(self) -> None:
        """Claim and run, with everything that goes on beside it."""
        async with AsyncExitStack() as stack:
            for name, loop in (
                ("renew", self._leases.renew),
                ("listen", self._listen),
                ("progress", self._progress.write),
                ("upkeep", self._upkeep),
            ):
                self._watch(stack, name, loop)
            await self._claims.serve()

    # --- slots ------------------------------------------------------------------------------------------------

    def _free_slots(self) -> Slots:
        """What may be claimed: nothing beside a suspect, which runs alone, and nothing while the spool is full. That
        means that the storage is away: what would be made could not be stored either."""
        if not self.allow_pick_jobs or self._suspects or self._spool.is_full:
            return Slots(0, 0)
        taken = self._slots_taken
        return Slots(self._slots - taken, self.max_jobs - max(taken, self._slots))

    @property
    def _slots_taken(self) -> int:
        # A slot is held from the claim until the device and the codecs are done with the task. An attempt that is being
        # settled only waits for Redis, and one that is being uploaded for the storage: neither holds one, so that the
        # device goes on. But a result that waits for the storage in the memory of this process does, since nothing else
        # bounds these: of the uploading attempts only as many hold none as the spool has on its disk or is sending.
        settling = self._attempts.settling
        uploading = min(len(self._uploading - settling), self._spool.on_disk + self._spool.uploads)
        return len(self.tasks) - len(settling) - uploading

    # --- attempts ---------------------------------------------------------------------------------------------

    def _start(self, lease: Lease) -> None:
        key, earlier = lease.key, self._stop_earlier(lease)

        def watch(stage: Stage, progress: Progress | None) -> None:
            self._progress.note(key, stage, progress)
            self._hand.hear(key, stage, progress, time.monotonic())
            if stage == "upload":
                self._uploading.add(key)
                self._freed.set()
            self._claims.go_on()

        async def until_free() -> None:
            if earlier:
                await asyncio.wait(earlier)
            while is_suspect(lease) and not self._may_run_alone(key):
                self._freed.clear()
                await self._freed.wait()

        attempt = self._attempts.run(lease, watch, until_free=until_free, is_aborted=lambda: key in self.aborting_tasks)
        if is_suspect(lease):
            self._suspects.append(key)
        self._leases.hold(lease)
        self._hand.take(lease, time.monotonic())
        self.job_tasks[key] = self.tasks[key] = task = asyncio.create_task(attempt, name=key)
        task.add_done_callback(lambda _: self._ended(key))
        metrics.report("tasks.in_flight", len(self.tasks), device=self._info.device)
        if lease.epoch == 1:
            metrics.report("task.wait", lease.waited_ms / 1000, model=lease.request.model, priority=lease.priority)

    def _stop_earlier(self, lease: Lease) -> list[asyncio.Task[Any]]:
        """The attempts at the same task that still run here. The lease of an older one is lost, or this one would not
        have been given: it need not go on until a renewal says so."""
        earlier = self._leases.of_task(lease.id)
        for other in earlier:
            if other.epoch < lease.epoch:
                self.abort(other.key, "claimed again")
        return [self.tasks[other.key] for other in earlier]

    def _may_run_alone(self, suspect: str) -> bool:
        """Suspects run one after the other, and only when nothing else does."""
        return self._suspects[:1] == [suspect] and self._slots_taken <= len(self._suspects)

    def _settling(self, key: str) -> None:
        self._hand.drop(key)
        self._slot_is_free()

    def _slot_is_free(self) -> None:
        self._freed.set()
        self._claims.go_on()

    def _ended(self, key: str) -> None:
        for book in (self.tasks, self.job_tasks):
            book.pop(key, None)
        self._leases.let_go(key)
        self._progress.forget(key)
        self._hand.drop(key)
        self.aborting_tasks.discard(key)
        self._uploading.discard(key)
        if self._pipeline.broken:
            self._give_up(self._pipeline.broken)
        metrics.report("tasks.in_flight", len(self.tasks), device=self._info.device)
        if key in self._suspects:
            self._suspects.remove(key)
        self._slot_is_free()

    def _give_up(self, error: DeviceBroken) -> None:
        if self.broken is None:
            logger.bind(error=str(error)).critical("device lost, process ends")
        self.broken = error
        self.allow_pick_jobs = False
        if self.main_task:
            self.main_task.cancel()

    def abort(self, key: str, why: str) -> None:
        """Stop the attempt under this lease, which must not be settled any more. Nothing happens if it does not run
        here, or its end is decided."""
        if self._may_stop(key):
            lease = self._leases[key]
            logger.bind(task_id=lease.id, attempt=lease.epoch, why=why).warning("attempt is stopped")
            self.aborting_tasks.add(key)
            self.job_tasks[key].cancel()

    def _may_stop(self, key: str) -> bool:
        return key in self.job_tasks and key not in self.aborting_tasks | self._attempts.settling

    # --- what is heard ----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for kind, subject in self._store.workers.signals():
            if kind == "cancel":
                self.abort(subject, "canceled")
            elif kind in ("drain", "resume"):
                if subject == self._info.id:
                    self._claims.heed(is_drained=kind == "drain")
                    self._claims.look()
            elif kind == "idle":
                await self._heed_ask(*subject.split())
            elif kind == "look" or (subject in self._info.models and not self._claims.is_drained):
                self._claims.look()

    async def _heed_ask(self, asker: str, *models: str) -> None:
        """Give a task back that an idle worker can begin at once, if one waits here; only one worker does for each
        time that one has asked."""
        if asker == self._info.id:
            return
        self._claims.another_asked()
        if self._spare(models) is None:
            return
        try:
            if not await self._store.workers.answer_ask(asker):
                return
        except StoreUnavailable:
            return  # it will ask again
        key = self._spare(models)  # the device has gone on meanwhile
        if key is not None:
            lease = self._leases[key]
            logger.bind(task_id=lease.id, attempt=lease.epoch, to=asker).info("task is given back to an idle worker")
            self._hand.give(key, time.monotonic())
            self.job_tasks[key].cancel()

    def _spare(self, models: tuple[str, ...]) -> str | None:
        key = self._hand.spare(models, time.monotonic())
        return key if key is not None and self._may_stop(key) else None

    def _lease_lost(self, key: str) -> None:
        self.abort(key, "lease lost")

    def _describe(self) -> WorkerInfo:
        """What this worker says of itself with each renewal."""
        for place, count in (("disk", self._spool.on_disk), ("memory", self._spool.in_memory)):
            metrics.report("worker.spool", count, device=self._info.device, place=place)
        return replace(
            self._info,
            running=len(self.tasks),
            state="READY" if self.allow_pick_jobs else "DRAINING",
            memory=self._memory(),
            spool_full=self._spool.is_full,
        )

    def _watch(self, stack: AsyncExitStack, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop for as long as the worker; if it dies, so does the worker, loudly."""
        task = asyncio.create_task(loop(), name=name)

        def stop(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and self.main_task:
                logger.opt(exception=done.exception()).critical(f"{done.get_name()} died, process ends")
                self.main_task.cancel()

        task.add_done_callback(stop)
        stack.callback(task.cancel)

    # --- arq's seams ------------------------------------------------------------------------------------------

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """The first signal drains, the second hands back at once."""
        if self.allow_pick_jobs:
            super().handle_sig_wait_for_completion(signum)
        else:
            self.handle_sig(signum)

    async def close(self) -> None:
        """Wait for the attempts to end, then leave the list of workers."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        try:
            await self._store.workers.sign_off(self._info.id)
        except StoreUnavailable:
            logger.warning("could not sign off; the worker leaves the list when its lease ends")


async def _attempt(ctx: dict[Any, Any]) -> None:
    """arq takes no worker without a function; `main` starts the attempts without it."""
