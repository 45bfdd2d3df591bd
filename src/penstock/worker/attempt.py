"""One attempt from its start until it is settled: how it ended decides the verb, which is written even if Redis is
away."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from loguru import logger
from msgspec import Struct

from penstock.core.lease import Lease, RetryPolicy, verdict
from penstock.core.task import TRANSITIONS, ErrorRecord, Outcome, State, Verb
from penstock.errors import Internal, ModelError, PenstockError, StoreUnavailable
from penstock.models.base import DeviceBroken
from penstock.store import LeaseStore, Shards
from penstock.telemetry import endings, metrics
from penstock.telemetry.logs import line_fields, write_line
from penstock.telemetry.traces import trace_id
from penstock.worker.attempt_spans import traced_attempt, traced_end
from penstock.worker.pipeline import Pipeline
from penstock.worker.stages import Watcher

SHORTEST_S = 0.001
"""The shortest time that a task counts with: its times make it zero or less if the clock of Redis was set back."""

FINAL_WRITE_S = 5.0
"""How long a stopping worker still tries to settle an attempt: the process must end before it is killed."""


class Settlement(Struct, frozen=True, eq=False):
    """How an attempt ended, and the write that says so. The write returns how many tasks ended with this one, 0 when it
    was refused, and None when nobody knows."""

    verb: Verb
    write: Callable[[], Awaitable[int | None]]
    problem: ErrorRecord | None = None
    outcome: Outcome | None = None

    @property
    def code(self) -> str:
        """The code of the problem; empty without one."""
        return self.problem.code if self.problem else ""


class Attempts:
    """Runs leases. `settling` holds the keys of the attempts whose end is decided, and `on_settling` is called with
    each: from there on the settle script alone judges, and nothing stops them."""

    def __init__(
        self,
        shards: Shards,
        pipeline: Pipeline,
        retry: RetryPolicy,
        *,
        on_settling: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._shards = shards
        self._pipeline = pipeline
        self._retry = retry
        self.on_settling = on_settling
        self.settling: set[str] = set()

    @traced_attempt
    async def run(
        self, lease: Lease, watch: Watcher, *, until_free: Callable[[], Awaitable[None]], is_stopped: Callable[[], bool]
    ) -> None:
        """Run one attempt, after `until_free`, and settle it. Never raises: what goes wrong is in the record and the
        log. When canceled, the task is released, unless `is_stopped` says that nothing may be written any more.
        """
        model, started = lease.request.model, asyncio.get_running_loop().time()
        trace = trace_id(lease.request.traceparent)
        fields = line_fields.set({"task_id": lease.id, "attempt": lease.epoch, "model": model, "trace_id": trace})
        try:
            logger.debug("attempt started")
            if lease.epoch == 1:
                metrics.report("task.wait", lease.waited_ms / 1000, model=model, priority=lease.priority)
            settlement = await self._end_of(lease, watch, until_free, is_stopped)
            if settlement is None:
                metrics.report("attempts", model=model, outcome="stopped")
                logger.info("attempt stopped")
                return
            self.settling.add(lease.key)
            self.on_settling(lease.key)
            await self._settle(lease, settlement, started)
        finally:
            self.settling.discard(lease.key)
            self._pipeline.forget(lease)
            line_fields.reset(fields)

    async def _settle(self, lease: Lease, settlement: Settlement, started: float) -> None:
        """Write the end of an attempt, count it, and delete the files that no record points to: its own if the end was
        refused, those of earlier attempts if it was accepted."""
        written, kept = await self._write(lease, settlement)
        if kept is None:
            metrics.report("attempts", model=lease.request.model, outcome="unknown")
            return
        took_s = asyncio.get_running_loop().time() - started
        _count(lease, written, kept, took_s)
        _log(written, kept, took_s)
        if settlement.outcome is None or settlement.outcome.result is None or not settlement.outcome.result.artifacts:
            return
        with suppress(PenstockError):  # what stays is deleted with the task
            if kept and written is settlement:
                await self._pipeline.discard_earlier(lease, settlement.outcome)
            elif kept or written is settlement:  # else the right end may have been written before it broke
                await self._pipeline.discard(settlement.outcome)

    async def _write(self, lease: Lease, settlement: Settlement) -> tuple[Settlement, int | None]:
        """Returns the settlement that was written, and how many tasks it has ended. If a fault of ours keeps the right
        one from being written, the task fails as `internal` now, since its next attempt would end in the same way."""
        written = settlement
        for _ in range(2):
            try:
                return written, await self._insist(written.write)
            except Exception as error:  # noqa: BLE001  around an attempt: a bug fails the task, not the worker
                logger.opt(exception=error).error("the end of an attempt could not be written")
                written = self._failure(lease, ErrorRecord.of(_unexpected()))
        return settlement, None

    async def _end_of(
        self, lease: Lease, watch: Watcher, until_free: Callable[[], Awaitable[None]], is_stopped: Callable[[], bool]
    ) -> Settlement | None:
        """Run the pipeline. Returns None when nothing may be written: the task was canceled, the lease is another's, or
        the task broke the device."""
        try:
            await until_free()
            outcome = await self._pipeline.run(lease, watch)
        except asyncio.CancelledError:
            return None if is_stopped() else self._release(lease)
        except DeviceBroken as error:
            # The guilty task is left to be reclaimed, with a crash counted; the others lose nothing.
            return None if error.guilty else self._release(lease)
        except PenstockError as error:
            return self._judge(lease, error)
        except Exception as error:  # noqa: BLE001  around an attempt: a bug fails the task, not the worker
            logger.opt(exception=error).error("attempt failed unexpectedly")
            return self._judge(lease, _unexpected())
        said = self._pipeline.said(lease)
        complete = partial(self._leases(lease).complete, lease, outcome, log=said)
        return Settlement(Verb.COMPLETE, complete, outcome=outcome)

    def _judge(self, lease: Lease, error: PenstockError) -> Settlement:
        """Retry after a transient error, and fail after any other."""
        problem = ErrorRecord.of(error)
        if error.__cause__ is not None:
            level = "ERROR" if isinstance(error, ModelError) else "DEBUG"
            logger.opt(exception=error.__cause__).log(level, "cause")
        if verdict(error, lease) is Verb.RETRY:
            delay_ms, took_ms = self._retry.delay_ms(lease.failures + 1), self._pipeline.took_ms(lease)
            said = self._pipeline.said(lease)
            write = partial(self._leases(lease).retry, lease, problem, delay_ms=delay_ms, device_ms=took_ms, log=said)
            return Settlement(Verb.RETRY, write, problem)
        return self._failure(lease, problem)

    def _release(self, lease: Lease) -> Settlement:
        took_ms, said = self._pipeline.took_ms(lease), self._pipeline.said(lease)
        write = partial(self._leases(lease).release, lease, device_ms=took_ms, log=said)
        return Settlement(Verb.RELEASE, write)

    def _failure(self, lease: Lease, problem: ErrorRecord) -> Settlement:
        outcome = Outcome(error=problem, execution={"device_ms": self._pipeline.took_ms(lease)})
        write = partial(self._leases(lease).fail, lease, outcome, log=self._pipeline.said(lease))
        return Settlement(Verb.FAIL, write, problem)

    def _leases(self, lease: Lease) -> LeaseStore:
        return self._shards.of(lease.tenant).leases

    async def _insist(self, write: Callable[[], Awaitable[int | None]]) -> int | None:
        """Write, however long Redis is away: while this process lives, finished work is not lost. Returns 0 when the
        lease is lost, and None when the write may have been done, so that the file of its result has to stay: Redis did
        not answer before this worker had to stop, or when it answered at last, the task was deleted."""
        try:
            return await _until_available(write)
        except asyncio.CancelledError:  # the worker is stopping
            pass
        try:
            async with asyncio.timeout(FINAL_WRITE_S):
                return await _until_available(write)  # a repeat: if the write before was done, Redis accepts it again
        except TimeoutError:
            logger.warning("stopping without an answer; if the task is not settled, its lease will be reclaimed")
            return None


@traced_end
def _log(settlement: Settlement, kept: int, took_s: float) -> None:
    how = {"outcome": settlement.verb.value if kept else "lease lost", "seconds": round(took_s, 3)}
    if problem := settlement.problem:
        write_line("WARNING", "attempt ended", **how, code=problem.code, detail=problem.message)
    else:
        write_line("INFO", "attempt ended", **how)


def _count(lease: Lease, settlement: Settlement, kept: int, took_s: float) -> None:
    model = lease.request.model
    metrics.report("attempts", model=model, outcome=settlement.verb if kept else "fenced")
    metrics.report("task.duration", took_s, model=model)
    if not kept:
        metrics.report("writes.fenced", model=model)
    elif settlement.verb in (Verb.COMPLETE, Verb.FAIL):
        status = TRANSITIONS[State.RUNNING, settlement.verb]
        endings.count_settled(model, status, code=settlement.code, tasks=kept)
        if settlement.verb is Verb.COMPLETE and lease.promised_ms is not None:
            true_s = lease.waited_ms / 1000 + took_s
            ratio = abs(lease.promised_ms / 1000 - true_s) / max(true_s, SHORTEST_S)
            metrics.report("eta.error.ratio", ratio, model=model)


def _unexpected() -> Internal:
    return Internal("an unexpected error; the worker's log has it under the task id")


async def _until_available(write: Callable[[], Awaitable[int | None]]) -> int | None:
    attempt = 0
    while True:
        try:
            return await write()
        except StoreUnavailable:
            attempt += 1
            await asyncio.sleep(jitter_s(attempt))


def jitter_s(attempt: int) -> float:
    """Full jitter up to 2 s, so that a Redis that comes back is not met by all at once."""
    return random.uniform(0.02, min(2.0, 0.1 * 2 ** min(attempt, 8)))  # noqa: S311  jitter is no secret
