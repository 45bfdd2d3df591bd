"""The worker process: an arq Worker whose queue is the task store. The only importer of arq.

arq 0.28.0 is pinned, and its underscored and public parts used here were read in that version.
arq's half: signals and draining (`job_completion_wait`, then cancel), start and stop hooks, the slots (`max_jobs`,
`tasks`, `job_tasks`), the function registry, the timetable of cron jobs.
Ours: `main` (wake at once instead of polling), claim, running a lease, settle, renewing leases. Stock arq polls twice
a second, needs 310 s to notice a killed worker, has no priorities, no fencing, and dies when Redis blinks.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from signal import Signals
from typing import Any

import arq
from arq.cron import cron
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from penstock import telemetry
from penstock.errors import Internal, PenstockError, StoreUnavailable
from penstock.maintenance import prune, sweep
from penstock.runners.base import DeviceBroken
from penstock.storage import Storage
from penstock.store import TaskStore, WorkerInfo
from penstock.task import (
    PRIORITIES,
    TRANSITIONS,
    Lease,
    Outcome,
    Priority,
    Problem,
    Progress,
    RetryPolicy,
    Stage,
    State,
    Verb,
    verdict,
)
from penstock.worker.pipeline import Pipeline

LOOK_EVERY_S = 1.0
"""An idle worker looks at the queue this often even if no signal came: a published message can be lost."""

PROGRESS_EVERY_S = 0.2
"""Stage and progress of the running tasks are written this often, and only where they changed."""

FINAL_WRITE_S = 5.0
"""How long a stopping worker still tries to settle a finished attempt."""


class Settlement(Struct, frozen=True, eq=False):
    """How an attempt ended, and the write that says so."""

    verb: Verb
    write: Callable[[], Awaitable[bool]]
    code: str = ""


class Host(arq.Worker):
    """One device's worker: claims while it has slots, runs, settles."""

    def __init__(
        self,
        *,
        info: WorkerInfo,
        store: TaskStore,
        storage: Storage,
        pipeline: Pipeline,
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
            ctx={"store": store, "storage": storage},
        )
        self._info = info
        self._store = store
        self._pipeline = pipeline
        self._retry = retry
        self._slots = slots
        self._lease_s = lease_s
        self._leases: dict[str, Lease] = {}
        self._settling: set[str] = set()
        self._cron_tasks: set[asyncio.Task[Any]] = set()
        self._wake = asyncio.Event()
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
                    due_s = _jitter_s(failures)
                    logger.bind(error=error.detail).warning("task store unavailable")
                await self.heart_beat()
                await self._sleep(due_s)

    async def _claim_free_slots(self) -> float:
        """Claim until there is no slot or no task; seconds until the next look."""
        while self.allow_pick_jobs and len(self.tasks) < self.max_jobs:
            priorities = PRIORITIES if len(self.tasks) < self._slots else (Priority.HIGH,)
            claim = await self._store.claim(
                worker=self._info.id, device=self._info.device, models=self._info.models, priorities=priorities
            )
            if claim.lease is None:
                return LOOK_EVERY_S if claim.next_due_s is None else min(LOOK_EVERY_S, claim.next_due_s)
            self._start(claim.lease)
        return LOOK_EVERY_S

    def _start(self, lease: Lease) -> None:
        self._leases[lease.id] = lease
        self.job_tasks[lease.id] = self.tasks[lease.id] = task = asyncio.create_task(
            self.run_lease(lease), name=lease.id
        )
        task.add_done_callback(lambda _: self._ended(lease.id))
        telemetry.report("tasks.in_flight", len(self.tasks), device=self._info.device)
        if lease.epoch == 1:
            telemetry.report("task.wait", lease.waited_ms / 1000, model=lease.request.model, priority=lease.priority)

    def _ended(self, task_id: str) -> None:
        for book in (self.tasks, self.job_tasks, self._leases, self._news):
            book.pop(task_id, None)
        self.aborting_tasks.discard(task_id)
        self._settling.discard(task_id)
        telemetry.report("tasks.in_flight", len(self.tasks), device=self._info.device)
        self._wake.set()

    async def run_lease(self, lease: Lease) -> None:
        """Run one attempt and settle it. Never raises: what goes wrong is in the record and the log."""
        model, started = lease.request.model, asyncio.get_running_loop().time()
        trace = telemetry.trace_id(lease.request.traceparent)
        with logger.contextualize(task_id=lease.id, attempt=lease.epoch, model=model, trace_id=trace):
            logger.info("attempt started")
            settlement = await self._attempt(lease)
            if settlement is None:
                telemetry.report("attempts", model=model, outcome="stopped")
                logger.info("attempt stopped")
                return
            self._settling.add(lease.id)  # from here on the settle script alone decides
            kept = await self._insist(lease, settlement.write)
            took_s = asyncio.get_running_loop().time() - started
            self._count(lease, settlement, kept, took_s)
            logger.bind(seconds=round(took_s, 3), outcome=settlement.verb if kept else "lease lost").info(
                "attempt ended"
            )

    async def _attempt(self, lease: Lease) -> Settlement | None:
        """Run the pipeline; None when nothing may be written any more: the task was canceled, the lease is
        another's, or the device is gone."""
        try:
            outcome = await self._pipeline.run(lease, lambda *news: self._news.__setitem__(lease.id, news))
        except asyncio.CancelledError:
            if lease.id in self.aborting_tasks:
                return None
            return Settlement(Verb.RELEASE, lambda: self._store.release(lease))
        except DeviceBroken as error:
            self._give_up(error)
            return None
        except PenstockError as error:
            return self._judge(lease, error)
        except Exception as error:  # noqa: BLE001  around an attempt: a bug fails the task, not the worker
            logger.opt(exception=error).error("attempt failed unexpectedly")
            return self._judge(lease, Internal("an unexpected error; the worker's log has it under the task id"))
        return Settlement(Verb.COMPLETE, lambda: self._store.complete(lease, outcome))

    def _judge(self, lease: Lease, error: PenstockError) -> Settlement:
        """A transient error is tried again after a while, any other ends the task."""
        problem = Problem.of(error)
        logger.bind(code=problem.code, detail=problem.message).warning("attempt failed")
        if error.__cause__ is not None:
            logger.opt(exception=error.__cause__).debug("cause")
        if verdict(error, lease) is Verb.RETRY:
            delay_ms = self._retry.delay_ms(lease.failures + 1)
            return Settlement(Verb.RETRY, lambda: self._store.retry(lease, problem, delay_ms=delay_ms), problem.code)
        return Settlement(Verb.FAIL, lambda: self._store.fail(lease, Outcome(error=problem)), problem.code)

    def _count(self, lease: Lease, settlement: Settlement, kept: bool, took_s: float) -> None:
        model = lease.request.model
        telemetry.report("attempts", model=model, outcome=settlement.verb if kept else "fenced")
        telemetry.report("task.duration", took_s, model=model)
        if not kept:
            telemetry.report("writes.fenced", model=model)
        elif settlement.verb in (Verb.COMPLETE, Verb.FAIL):
            status = TRANSITIONS[State.RUNNING, settlement.verb]
            telemetry.report("tasks.finished", model=model, status=status, code=settlement.code)

    async def _insist(self, lease: Lease, write: Callable[[], Awaitable[bool]]) -> bool:
        """Settle, however long Redis is away: while this process lives, finished work is not lost. False when the
        lease is."""
        writing = asyncio.create_task(_until_available(write), name=f"settle {lease.id}")
        with suppress(asyncio.CancelledError):  # the worker is stopping
            return await asyncio.shield(writing)
        try:
            async with asyncio.timeout(FINAL_WRITE_S):
                return await writing
        except TimeoutError:
            logger.warning("stopping without having settled; the lease will be reclaimed")
            return False

    def _give_up(self, error: DeviceBroken) -> None:
        logger.bind(error=str(error)).critical("device lost, process ends")
        self.broken = error
        self.allow_pick_jobs = False
        if self.main_task:
            self.main_task.cancel()

    def abort(self, task_id: str, why: str) -> None:
        """Stop a running attempt that must not be settled any more."""
        task = self.job_tasks.get(task_id)
        if task is not None and task_id not in self.aborting_tasks | self._settling:
            logger.bind(task_id=task_id, why=why).warning("attempt is stopped")
            self.aborting_tasks.add(task_id)
            task.cancel()

    async def _renew(self) -> None:
        """Keep the leases; four chances before they end."""
        while True:
            state = "READY" if self.allow_pick_jobs else "DRAINING"
            info = replace(self._info, running=len(self.tasks), state=state)
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
            elif kind == "look" or subject in self._info.models:
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


async def _until_available(write: Callable[[], Awaitable[bool]]) -> bool:
    attempt = 0
    while True:
        try:
            return await write()
        except StoreUnavailable:
            attempt += 1
            await asyncio.sleep(_jitter_s(attempt))


def _jitter_s(attempt: int) -> float:
    """Full jitter up to 2 s, so that a Redis that comes back is not met by all at once."""
    return random.uniform(0.02, min(2.0, 0.1 * 2 ** min(attempt, 8)))  # noqa: S311  jitter is no secret


async def _sweep(ctx: dict[str, Any]) -> None:
    try:
        await sweep(ctx["store"])
    except StoreUnavailable:
        logger.debug("sweep skipped: task store unavailable")


async def _prune(ctx: dict[str, Any]) -> None:
    try:
        await prune(ctx["store"], ctx["storage"])
    except PenstockError as error:
        logger.bind(error=error.detail).warning("prune skipped")
