"""The worker process: an arq Worker whose queue is the task store. The only importer of arq.

arq 0.28.0 is pinned, and the parts used here, underscored ones too, were read in that version.
arq's half: the main task and its signals, draining (`job_completion_wait`, then cancel), the books of running jobs
(`tasks`, `job_tasks`, `aborting_tasks`, `max_jobs`).
Ours: `main` (woken at once instead of polling), claim, running a lease, settle, renewing leases, upkeep. Stock arq
polls twice a second, needs 310 s to notice a killed worker, has no priorities, no fencing, and dies when Redis blinks;
its `run_job` alone would cost three more round trips a task and keys outside of our hash tag, and its timetable goes by
the time of day, so that a clock which is set back by an hour would stop the upkeep for as long.

Everything that is known of a running attempt is kept by the key of its lease, not by the id of its task: a task that
was canceled and retried, or whose lease was lost, can come back while its old attempt still holds the device.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from signal import Signals
from typing import Any

import arq
from loguru import logger
from msgspec.structs import replace

from penstock import telemetry
from penstock.errors import StoreUnavailable
from penstock.runners.base import DeviceBroken
from penstock.store import Claim, TaskStore, WorkerInfo, WorkerMemory
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
        self._attempts = Attempts(store, pipeline, retry, on_settling=self._slot_is_free)
        self._slots = slots
        self._lease_s = lease_s
        self._leases: dict[str, Lease] = {}
        self._uploading: set[str] = set()
        self._claim_s = 0.0
        self._round = 0
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
            for loop in (self._renew, self._listen, self._write_progress, self._keep_up):
                self._watch(stack, loop)
            failures = 0
            while True:
                self._wake.clear()  # before looking, so that no signal falls between
                try:
                    if failures:  # the answer to a claim may have been lost, or the claim be on its way
                        self._round += 1
                        await self._store.disown(self._info.id, self._leases.values(), before=self._round)
                    failures = 0
                    due_s = await self._claim_free_slots()
                except StoreUnavailable as error:
                    failures += 1
                    due_s = jitter_s(failures)
                    logger.bind(error=error.detail).warning("task store unavailable")
                await self._sleep(due_s)

    async def _claim_free_slots(self) -> float:
        """Claim until there is no slot, no task, or no room for results; seconds until the next look."""
        self._is_dry = False
        while self._may_claim:
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
            round=self._round,
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

    @property
    def _may_claim(self) -> bool:
        """A full spool means that the storage is away: what would be made could not be stored either."""
        has_slot = self._slots_taken < self.max_jobs
        return self.allow_pick_jobs and has_slot and not self._suspects and not self._spool.is_full

    def _heed(self, *, is_drained: bool) -> None:
        if is_drained != self._is_drained:
            logger.info("drained: nothing more is claimed" if is_drained else "resumed: tasks are claimed again")
        self._is_drained = is_drained

    @property
    def _slots_taken(self) -> int:
        """What only waits for the storage or for Redis holds no slot: the device goes on."""
        settling = self._attempts.settling
        uploading = min(len(self._uploading - settling), self._spool.on_disk + self._spool.uploads)
        return len(self.tasks) - len(settling) - uploading

    def _start(self, lease: Lease) -> None:
        key, earlier = lease.key, self._stop_earlier(lease)

        def watch(stage: Stage, progress: Progress | None) -> None:
            self._news[key] = (stage, progress)
            if stage == "upload":
                self._uploading.add(key)
                self._slot_is_free()

        async def until_free() -> None:
            if earlier:
                await asyncio.wait(earlier)
            while is_suspect(lease) and not self._may_run_alone(key):
                self._freed.clear()
                await self._freed.wait()

        attempt = self._attempts.run(lease, watch, until_free=until_free, is_aborted=lambda: key in self.aborting_tasks)
        if is_suspect(lease):
            self._suspects.append(key)
        self._leases[key] = lease
        self.job_tasks[key] = self.tasks[key] = task = asyncio.create_task(attempt, name=key)
        task.add_done_callback(lambda _: self._ended(key))
        telemetry.report("tasks.in_flight", len(self.tasks), device=self._info.device)
        if lease.epoch == 1:
            telemetry.report("task.wait", lease.waited_ms / 1000, model=lease.request.model, priority=lease.priority)

    def _stop_earlier(self, lease: Lease) -> list[asyncio.Task[Any]]:
        """The attempts at the same task that still run here. The lease of an older one is lost, or this one would not
        have been given: it need not go on until a renewal says so."""
        earlier = [other for other in self._leases.values() if other.id == lease.id]
        for other in earlier:
            if other.epoch < lease.epoch:
                self.abort(other.key, "claimed again")
        return [self.tasks[other.key] for other in earlier]

    def _may_run_alone(self, suspect: str) -> bool:
        """Suspects run one after the other, and only when nothing else does."""
        return self._suspects[:1] == [suspect] and self._slots_taken <= len(self._suspects)

    def _slot_is_free(self) -> None:
        """Time for a claim, unless nothing was waiting at the last one: what comes since then is signaled."""
        self._freed.set()
        if not self._is_dry:
            self._wake.set()

    def _ended(self, key: str) -> None:
        for book in (self.tasks, self.job_tasks, self._leases, self._news):
            book.pop(key, None)
        self.aborting_tasks.discard(key)
        self._uploading.discard(key)
        if self._pipeline.broken:
            self._give_up(self._pipeline.broken)
        telemetry.report("tasks.in_flight", len(self.tasks), device=self._info.device)
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
        task = self.job_tasks.get(key)
        if task is not None and key not in self.aborting_tasks | self._attempts.settling:
            lease = self._leases[key]
            logger.bind(task_id=lease.id, attempt=lease.epoch, why=why).warning("attempt is stopped")
            self.aborting_tasks.add(key)
            task.cancel()

    async def _renew(self) -> None:
        """Keep the leases; four chances before they end."""
        while True:
            state = "READY" if self.allow_pick_jobs else "DRAINING"
            info = replace(
                self._info,
                running=len(self.tasks),
                state=state,
                memory=self._memory(),
                spool_full=self._spool.is_full,
            )
            self._report_spool()
            try:
                for key in await self._store.renew(info, tuple(self._leases.values())):
                    self.abort(key, "lease lost")
            except StoreUnavailable:
                await asyncio.sleep(self._lease_s / 16)
                continue
            await asyncio.sleep(self._lease_s / 4)

    def _report_spool(self) -> None:
        for place, count in (("disk", self._spool.on_disk), ("memory", self._spool.in_memory)):
            telemetry.report("worker.spool", count, device=self._info.device, place=place)

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
                for key, (stage, progress) in news.items():
                    if key in self._leases:
                        await self._store.progress(self._leases[key], stage, progress)
            except StoreUnavailable:
                continue  # progress is best effort

    async def _keep_up(self) -> None:
        await self._upkeep()

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
            await self._store.sign_off(self._info.id)
        except StoreUnavailable:
            logger.warning("could not sign off; the worker leaves the list when its lease ends")


async def _attempt(ctx: dict[Any, Any]) -> None:
    """arq takes no worker without a function; `main` starts the attempts without it."""
