"""One attempt at one task: five stages, then the result. Only `infer` meets other tasks."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from penstock.core.lease import Lease
from penstock.core.task import Outcome, Priority, Progress, Result, Stage
from penstock.errors import (
    ExecutionTimeout,
    InputNotFound,
    Internal,
    ModelNotFound,
    ResultExpired,
    StorageUnavailable,
    UploadMismatch,
)
from penstock.models import imaging
from penstock.models.base import DeviceBroken, Params, Work
from penstock.storage import Storage
from penstock.telemetry import metrics
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.backlog import Runner
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import Codecs
from penstock.worker.fetch import Fetcher
from penstock.worker.memory import MemoryBudget, Room
from penstock.worker.results import published
from penstock.worker.spool import Parcel, Spool, patiently

T = TypeVar("T")

Watcher = Callable[[Stage, Progress | None], None]
"""Hears where an attempt is; must not block."""


class Pipeline:
    """Runs attempts; one in a worker process, used by all its slots."""

    def __init__(
        self,
        runners: dict[str, Runner],
        device: DeviceScheduler,
        *,
        fetcher: Fetcher,
        storage: Storage,
        spool: Spool,
        codecs: Codecs,
        memory: MemoryBudget,
        max_data_bytes: int,
    ) -> None:
        self._runners = runners
        self._device = device
        self._fetcher = fetcher
        self._storage = storage
        self._spool = spool
        self._codecs = codecs
        self._memory = memory
        self._max_data_bytes = max_data_bytes
        self._device_s: dict[str, float] = {}

    async def run(self, lease: Lease, watch: Watcher) -> Outcome:
        """The outcome of a success. Raises PenstockError for everything else, DeviceBroken when this process is done
        for; when canceled, the device and the CPU pool are free of the task on return.

        `timeout_s` bounds what the attempt does itself: download, preparation, its own batches on the device and
        postprocessing. The clock stands while it waits behind others, for memory, a thread or the device, and while
        our own storage is away.
        """
        clock = AttemptClock(lease.timeout_s)
        try:
            async with clock:
                return await self._stages(lease, watch, clock)
        except (TimeoutError, DeviceBroken) as error:
            if clock.has_expired:
                raise ExecutionTimeout(f"the attempt worked longer than {lease.timeout_s:g} s") from error
            raise

    @property
    def broken(self) -> DeviceBroken | None:
        """Why this process must end, if it must."""
        return self._device.broken

    def took_ms(self, lease: Lease) -> float:
        """What an attempt that has ended took of the device, until it is forgotten."""
        return _ms(self._device_s.get(lease.key, 0.0))

    def forget(self, lease: Lease) -> None:
        """Nobody asks for this attempt any more."""
        self._device_s.pop(lease.key, None)

    @property
    def streams(self) -> int:
        """How many batches the device runs at a time."""
        return self._device.device.streams

    def streams_of(self, model: str) -> int:
        """How many of them may be of this model."""
        runner = self._runners.get(model)
        return self.streams if runner is None or runner.concurrent else 1

    def paying_batch(self, model: str) -> tuple[int, float]:
        """How many tiles of it one run should have, and the seconds of one alone."""
        return self._device.paying_batch(model)

    async def discard(self, outcome: Outcome) -> None:
        """Delete the file of a result that nobody may see."""
        if outcome.result and outcome.result.artifact:
            await self._storage.delete(outcome.result.artifact.s3_key)

    async def discard_earlier(self, lease: Lease, outcome: Outcome) -> None:
        """Delete what attempts before this one may have stored and never settled."""
        if lease.epoch > 1 and outcome.result and outcome.result.artifact:
            own, files = outcome.result.artifact.s3_key, self._storage.list(results_of(lease))
            await self._storage.delete(*[file.key async for file in files if file.key != own])

    async def _stages(self, lease: Lease, watch: Watcher, clock: AttemptClock) -> Outcome:
        request = lease.request
        runner = self._runners.get(request.model)
        if runner is None:
            raise ModelNotFound(f"this worker does not serve {request.model}")
        params = msgspec.convert(request.params, runner.params)
        stage = _Stages(lease, watch)

        with stage("fetch"):
            source = await self._fetch(lease, clock)
        with self._memory.room(lease.priority) as room:
            result, parcel, execution = await self._make(lease, runner, source, params, stage, room, clock)
        del source
        with stage("upload"), clock.standing():
            if parcel is not None:
                await self._spool.put(parcel)
        return Outcome(result=result, timing=stage.timing(), execution=execution)

    async def _make(
        self,
        lease: Lease,
        runner: Runner,
        source: bytes,
        params: Params,
        stage: "_Stages",
        room: Room,
        clock: AttemptClock,
    ) -> tuple[Result, Parcel | None, dict[str, Any]]:
        """The three stages that hold pixels; what they took on the device."""
        on_cpu = partial(self._on_cpu, lease.priority, clock)
        with stage("prepare"):
            work = await on_cpu(self._prepare_if_room, runner, source, params, room)
        if work is None:
            with clock.standing():
                await self._memory.wait(room)
            with stage("prepare"):
                work = await on_cpu(runner.prepare, source, params)
        if work.size is not None:
            imaging.check_holds(lease.request.output, *work.size)
        pack = partial(self._pack, lease, runner, params)
        at_once = pack if runner.card.produces == "data" else None  # a file takes its time, on a codec thread
        with stage("infer") as infer:
            done = await self._device.run(
                runner,
                work,
                priority=lease.priority,
                on_progress=stage.tiles,
                on_begin=partial(stage.tiles, 0, work.count),
                on_leave=partial(self._device_s.__setitem__, lease.key),
                finish=at_once,
                clock=clock,
            )
            work, infer.of_another_s = done.work, done.finish_s
        stage.reached_device(infer, done.waited_s)
        with stage("postprocess", before_s=done.finish_s):
            result, parcel = done.product or await on_cpu(pack, work)
        device = self._device.device.name
        execution = {"device": device, "tiles": work.count, "tile": list(work.shape), "device_ms": _ms(done.device_s)}
        if work.device_size is not None:
            execution["kilopixels"] = work.device_size
        return result, parcel, execution

    def _prepare_if_room(self, runner: Runner, source: bytes, params: Params, room: Room) -> Work | None:
        """On a codec thread. There usually is room, so that predicting its size is no step of its own."""
        enough = self._memory.take(room, runner.footprint(source, params))
        return runner.prepare(source, params) if enough else None

    async def _fetch(self, lease: Lease, clock: AttemptClock) -> bytes:
        source = lease.request.source
        if source.data is not None:
            return source.data
        if source.key is not None:
            data = await self._stored_input(source.key, clock)
            await self._check(lease, data, clock)
            return data
        if source.url is None:
            raise Internal("the record has no input")
        return await self._fetcher.fetch(source.url)

    async def _check(self, lease: Lease, data: bytes, clock: AttemptClock) -> None:
        """A bucket may have taken other bytes than were announced: what they give would be taken for the result of all
        who have the right ones."""
        announced = lease.request.source.sha256
        if announced is not None and await self._on_cpu(lease.priority, clock, _sha256, data) != announced:
            raise UploadMismatch("the bytes of the upload have another sha256 than was announced")

    async def _stored_input(self, key: str, clock: AttemptClock) -> bytes:
        """Our own storage being away is no fault of the task: it waits, and its time starts anew."""

        async def get() -> bytes:
            return await self._storage.get(key, limit=self._fetcher.max_bytes)

        try:
            try:
                return await get()
            except StorageUnavailable:
                clock.start_anew()
                with clock.standing():
                    return await patiently(get)
        except ResultExpired as error:
            raise InputNotFound("the input that was sent is gone") from error

    def _pack(self, lease: Lease, runner: Runner, params: Params, work: Work) -> tuple[Result, Parcel | None]:
        """On a thread: the result as it will be published, and the file to store for it. Results are immutable: the key
        holds the token of the lease, so that no other attempt can write over it."""
        product = runner.postprocess(work, params, lease.request.output)
        return published(
            product,
            results_of(lease) + lease.token,
            produces=runner.card.produces,
            max_data_bytes=self._max_data_bytes,
        )

    async def _on_cpu(self, priority: Priority, clock: AttemptClock, work: Callable[..., T], *args: Any) -> T:
        """Run on a codec thread; the clock stands until one is free. A thread cannot be stopped: a cancellation waits
        for it, so that no stage of an attempt outlives it."""
        clock.hold()
        future = self._codecs.of_priority(priority).run(work, *args, on_begin=clock.resume)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            future.exception()
            raise


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def results_of(lease: Lease) -> str:
    """The prefix of all that attempts at a task store."""
    return f"results/{lease.tenant}/{lease.id}/"


class _Stages:
    """Times the stages, tells the watcher, and names none that was not reached."""

    def __init__(self, lease: Lease, watch: Watcher) -> None:
        self._lease = lease
        self._model = lease.request.model
        self._watch = watch
        self._started = time.perf_counter()
        self._timing: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: Stage, *, before_s: float = 0.0) -> Iterator["_Span"]:
        """One stage, `before_s` of which went by in another."""
        self._watch(name, None)
        span = _Span(time.perf_counter())
        yield span
        took_s = before_s + time.perf_counter() - span.began - span.of_another_s
        self._timing[f"{name}_ms"] = _ms(took_s)
        metrics.report("stage.duration", took_s, model=self._model, stage=name)

    def tiles(self, done: int, total: int) -> None:
        """A listener for the device's progress."""
        self._watch("infer", Progress(done=done, total=total))

    def reached_device(self, infer: "_Span", waited_s: float) -> None:
        """The first batch began so long after `infer` did."""
        to_device_s = self._lease.waited_ms / 1000 + infer.began - self._started + waited_s
        self._timing["to_device_ms"] = _ms(to_device_s)
        metrics.report("task.to_device", to_device_s, model=self._model, priority=self._lease.priority)

    def timing(self) -> dict[str, float]:
        """Milliseconds by stage, with the wait in the queue, the time from the submit to the first batch on the device,
        and the sum."""
        waited_ms = self._lease.waited_ms
        total = waited_ms + _ms(time.perf_counter() - self._started)
        return {"queue_ms": round(waited_ms, 3), **self._timing, "total_ms": round(total, 3)}


class _Span(Struct):
    """When a stage began, and what of it belongs to another."""

    began: float
    of_another_s: float = 0.0


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
