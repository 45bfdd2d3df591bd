"""The worker process: an arq Worker whose queue is the task store. The only importer of arq.

arq 0.28.0 is pinned, and the parts used here, underscored ones too, were read in that version.
arq's half: the main task and its signals, draining (`job_completion_wait`, then cancel), the books of running jobs
(`tasks`, `job_tasks`, `aborting_tasks`, `max_jobs`), the timetable of cron jobs.
Ours: `main` (woken at once instead of polling), claim, running a lease, settle, renewing leases. Stock arq polls twice
a second, needs 310 s to notice a killed worker, has no priorities, no fencing, and dies when Redis blinks; its
`run_job` alone would cost three more round trips a task and keys outside of our hash tag.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from signal import Signals
from typing import Any

import arq
from arq.cron import cron
from loguru import logger
from msgspec.structs import replace

from penstock import telemetry
from penstock.errors import PenstockError, StoreUnavailable
from penstock.maintenance import prune, sweep
from penstock.runners.base import DeviceBroken
from penstock.storage import Storage
from penstock.store import BatchStore, Claim, Condemned, TaskStore, WorkerInfo, WorkerMemory
from penstock.task import (
    PRIORITIES,
    Lease,
    Priority,
    Progress,
    RetryPolicy,
    Stage,
    is_suspect,
)
from penstock.worker.attempt import Attempts, jitter_s
from penstock.worker.pipeline import Pipeline
from penstock.worker.spool import Spool

LOOK_EVERY_S = 1.0
"""An idle worker looks at the queue this often even if no signal came: a published message can be lost."""

SLOW_CLAIM_S = 0.02
"""When a claim takes this long, the next are sent for all free slots at once: one after the other they would leave the
device waiting for the network."""

PROGRESS_EVERY_S = 0.2
"""Stage and progress of the running tasks are written this often, and only where they changed."""


class Host(arq.Worker):
    """One device's worker: claims while it has slots, runs, settles."""

    def __init__(
        self,
        *,
        info: WorkerInfo,
        memory: Callable[[], WorkerMemory],
        store: TaskStore,
        batches: BatchStore,
        condemned: Condemned,
        storage: Storage,
        pipeline: Pipeline,
        spool: Spool,
        retry: RetryPolicy,
        slots: int,
        reserved_slots: int,
        lease_s: float,
        drain_s: int,
    ) -> None:
        super().__init__(
            cron_jobs=[cron(_sweep, second=set(range(60)), microsecond=0), cron(_prune, second=0)],
            max_jobs=slots + reserved_slots,
            job_completion_wait=drain_s,
            ctx={"store": store, "storage": storage, "batches": batches, "condemned": condemned},
        )
        self._info = info
        self._memory = memory
        self._store = store
        self._pipeline = pipeline
        self._spool = spool
        self._attempts = Attempts(store, pipeline, retry, on_settling=self._slot_is_free)
        self._slots = slots
        self._lease_s = lease_s
        self._leases: dict[str, Lease] = {}
        self._uploading: set[str] = set()
        self._cron_tasks: set[asyncio.Task[Any]] = set()
        self._claim_s = 0.0
        self._suspects: list[str] = []
        self._freed = asyncio.Event()
        self._wake = asyncio.Event()
        self._is_dry = False
        self._is_drained = False
        self._news: dict[str, tuple[Stage, Progress | None]] = {}
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
        """Claim whenever there is a free slot, woken by a submit, an ended task, or a due retry."""
        async with AsyncExitStack() as stack:
            for loop in (self._renew, self._listen, self._write_progress):
                self._watch(stack, loop)
            failures = 0
            while True:
                self._wake.clear()  # before looking, so that no signal falls between
                try:
                    if failures:  # the answer to a claim may have been lost
                        await self._store.disown(self._info.id, tuple(self._leases))
                    failures = 0
                    due_s = await self._claim_free_slots()
                except StoreUnavailable as error:
                    failures += 1
                    due_s = jitter_s(failures)
                    logger.bind(error=error.detail).warning("task store unavailable")
                await self.heart_beat()
                await self._sleep(due_s)

    async def _claim_free_slots(self) -> float:
        """Claim until there is no slot or no task; seconds until the next look."""
        self._is_dry = False
        while self.allow_pick_jobs and self._slots_taken < self.max_jobs and not self._suspects:
            free = self._slots - self._slots_taken
            priorities = PRIORITIES if free > 0 else (Priority.HIGH,)
            at_once = max(1, free) if self._claim_s > SLOW_CLAIM_S else 1
            claims = await self._claim(priorities, at_once)
            self._heed(is_drained=claims[-1].is_drained)
            for claim in claims:
                if claim.lease is None:
                    self._is_dry = free > 0 and not self._wake.is_set()
                    return LOOK_EVERY_S if claim.next_due_s is None else min(LOOK_EVERY_S, claim.next_due_s)
        return LOOK_EVERY_S

    async def _claim(self, priorities: Sequence[Priority], count: int) -> list[Claim]:
        """Claim and start; raises StoreUnavailable after what was given has been started."""
        started = time.monotonic()
        ask = partial(
            self._store.claim,
            worker=self._info.id,
            device=self._info.device,
            models=self._info.models,
            priorities=priorities,
        )
        answers = await asyncio.gather(*(ask() for _ in range(count)), return_exceptions=True)
        self._claim_s = time.monotonic() - started
        claims = [answer for answer in answers if isinstance(answer, Claim)]
        for claim in claims:
            if claim.lease is not None:
                self._start(claim.lease)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return claims

    def _heed(self, *, is_drained: bool) -> None:
        if is_drained != self._is_drained:
            logger.info("drained: nothing more is claimed" if is_drained else "resumed: tasks are claimed again")
        self._is_drained = is_drained

    @property
    def _slots_taken(self) -> int:
        """What only waits for the storage or for Redis holds no slot: the device goes on."""
        settling = self._attempts.settling
        uploading = min(len(self._uploading - settling), self._spool.waiting + self._spool.uploads)
        return len(self.tasks) - len(settling) - uploading

    def _start(self, lease: Lease) -> None:
        def watch(stage: Stage, progress: Progress | None) -> None:
            self._news[lease.id] = (stage, progress)
            if stage == "upload":
                self._uploading.add(lease.id)
                self._slot_is_free()

        async def until_free() -> None:
            while is_suspect(lease) and not self._may_run_alone(lease):
                self._freed.clear()
                await self._freed.wait()

        attempt = self._attempts.run(
            lease, watch, until_free=until_free, is_aborted=lambda: lease.id in self.aborting_tasks
        )
        if is_suspect(lease):
            self._suspects.append(lease.id)
        self._leases[lease.id] = lease
        self.job_tasks[lease.id] = self.tasks[lease.id] = task = asyncio.create_task(attempt, name=lease.id)
        task.add_done_callback(lambda _: self._ended(lease.id))
        telemetry.report("tasks.in_flight", len(self.tasks), device=self._info.device)
        if lease.epoch == 1:
            telemetry.report("task.wait", lease.waited_ms / 1000, model=lease.request.model, priority=lease.priority)

    def _may_run_alone(self, suspect: Lease) -> bool:
        """Suspects run one after the other, and only when nothing else does."""
        return self._suspects[0] == suspect.id and self._slots_taken <= len(self._suspects)

    def _slot_is_free(self) -> None:
        """Time for a claim, unless nothing was waiting at the last one: what comes since then is signaled."""
        self._freed.set()
        if not self._is_dry:
            self._wake.set()

    def _ended(self, task_id: str) -> None:
        for book in (self.tasks, self.job_tasks, self._leases, self._news):
            book.pop(task_id, None)
        self.aborting_tasks.discard(task_id)
        self._uploading.discard(task_id)
        if self._pipeline.broken:
            self._give_up(self._pipeline.broken)
        telemetry.report("tasks.in_flight", len(self.tasks), device=self._info.device)
        if task_id in self._suspects:
            self._suspects.remove(task_id)
        self._slot_is_free()

    def _give_up(self, error: DeviceBroken) -> None:
        if self.broken is None:
            logger.bind(error=str(error)).critical("device lost, process ends")
        self.broken = error
        self.allow_pick_jobs = False
        if self.main_task:
            self.main_task.cancel()

    def abort(self, task_id: str, why: str) -> None:
        """Stop a running attempt that must not be settled any more."""
        task = self.job_tasks.get(task_id)
        if task is not None and task_id not in self.aborting_tasks | self._attempts.settling:
            logger.bind(task_id=task_id, why=why).warning("attempt is stopped")
            self.aborting_tasks.add(task_id)
            task.cancel()

    async def _renew(self) -> None:
        """Keep the leases; four chances before they end."""
        while True:
            state = "READY" if self.allow_pick_jobs else "DRAINING"
            info = replace(self._info, running=len(self.tasks), state=state, memory=self._memory())
            try:
                for task_id in await self._store.renew(info, tuple(self._leases.values())):
                    self.abort(task_id, "lease lost")
            except StoreUnavailable:
                await asyncio.sleep(self._lease_s / 16)
                continue
            await asyncio.sleep(self._lease_s / 4)

    async def _listen(self) -> None:
        async for kind, subject in self._store.signals():
            if kind == "cancel":
                self.abort(subject, "canceled")
            elif kind in ("drain", "resume"):
                if subject == self._info.id:
                    self._heed(is_drained=kind == "drain")
                    self._look()
            elif kind == "look" or (subject in self._info.models and not self._is_drained):
                self._look()

    def _look(self) -> None:
        self._is_dry = False
        self._wake.set()

    async def _write_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            news, self._news = self._news, {}
            try:
                for task_id, (stage, progress) in news.items():
                    if task_id in self._leases:
                        await self._store.progress(self._leases[task_id], stage, progress)
            except StoreUnavailable:
                continue  # progress is best effort

    def _watch(self, stack: AsyncExitStack, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a loop for as long as the worker; if it dies, so does the worker, loudly."""
        task = asyncio.create_task(loop(), name=loop.__name__)

        def stop(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and self.main_task:
                logger.opt(exception=done.exception()).critical(f"{done.get_name()} died, process ends")
                self.main_task.cancel()

        task.add_done_callback(stop)
        stack.callback(task.cancel)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    # --- arq's seams ------------------------------------------------------------------------------------------

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
        """Run what is due here, not through a queue: every sweep is idempotent, and any worker may do it."""
        for job in self.cron_jobs:
            if job.next_run is not None and job.next_run <= n:
                task = asyncio.create_task(job.coroutine(self.ctx), name=job.name)
                self._cron_tasks.add(task)
                task.add_done_callback(self._cron_tasks.discard)
            if job.next_run is None or job.next_run <= n:
                job.calculate_next(n)

    async def record_health(self) -> None:
        """Nothing: `_renew` says that this worker lives."""

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """The first signal drains, the second hands back at once."""
        if self.allow_pick_jobs:
            super().handle_sig_wait_for_completion(signum)
        else:
            self.handle_sig(signum)

    async def close(self) -> None:
        """Wait for the attempts to end, then leave the list of workers."""
        await asyncio.gather(*self.tasks.values(), *self._cron_tasks, return_exceptions=True)
        try:
            await self._store.sign_off(self._info.id)
        except StoreUnavailable:
            logger.warning("could not sign off; the worker leaves the list when its lease ends")


async def _sweep(ctx: dict[str, Any]) -> None:
    try:
        await sweep(ctx["store"])
    except StoreUnavailable:
        logger.debug("sweep skipped: task store unavailable")


async def _prune(ctx: dict[str, Any]) -> None:
    try:
        await prune(ctx["store"], ctx["batches"], ctx["condemned"], ctx["storage"])
    except PenstockError as error:
        logger.bind(error=error.detail).warning("prune skipped")
