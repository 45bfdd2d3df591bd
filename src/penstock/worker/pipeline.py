"""The five stages of an attempt: fetch, prepare, infer, postprocess, upload. Only `infer` meets other tasks."""

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from penstock.core.lease import Lease
from penstock.core.task import Outcome, Priority, Result
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
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.device_work import Runner
from penstock.worker.batcher.scheduler import DeviceRun, DeviceScheduler
from penstock.worker.fetch import Fetcher
from penstock.worker.memory import MemoryBudget, MemoryGrant
from penstock.worker.results import published
from penstock.worker.spool import Spool, StoredFile, patiently
from penstock.worker.stages import EarlyPostprocess, Stages, Watcher, milliseconds
from penstock.worker.threads import CodecThreads

T = TypeVar("T")


class Pipeline:
    """Runs attempts. A worker process has one, which all its slots use."""

    def __init__(
        self,
        runners: dict[str, Runner],
        device: DeviceScheduler,
        *,
        fetcher: Fetcher,
        storage: Storage,
        spool: Spool,
        codecs: CodecThreads,
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
        """Run the stages and return the outcome of a success.

        Raises PenstockError for everything else, DeviceBroken when this process must end. When canceled, the device and
        the codec threads are free of the task on return.

        `timeout_s` of the lease bounds what the attempt does itself: download, preparation, its own batches on the
        device and postprocessing. The clock stands while it waits behind others, for memory, a thread or the device,
        and while our own storage is away.
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
        """Milliseconds of the device that an attempt took; 0 before it has left the device, and when it was
        forgotten."""
        return milliseconds(self._device_s.get(lease.key, 0.0))

    def forget(self, lease: Lease) -> None:
        """Drop what `took_ms` returns for this attempt."""
        self._device_s.pop(lease.key, None)

    @property
    def streams(self) -> int:
        """How many batches the device runs at a time."""
        return self._device.device.streams

    def streams_of(self, model: str) -> int:
        """How many of them may be batches of this model."""
        runner = self._runners.get(model)
        return self.streams if runner is None or runner.concurrent else 1

    def paying_batch(self, model: str) -> tuple[int, float]:
        """How many tiles a batch of this model should have at least, and the seconds of one tile alone."""
        return self._device.paying_batch(model)

    async def discard(self, outcome: Outcome) -> None:
        """Delete the file of a result that nobody may see."""
        if outcome.result and outcome.result.artifact:
            await self._storage.delete(outcome.result.artifact.s3_key)

    async def discard_earlier(self, lease: Lease, outcome: Outcome) -> None:
        """Delete the files that earlier attempts may have stored without settling."""
        if lease.epoch > 1 and outcome.result and outcome.result.artifact:
            own, files = outcome.result.artifact.s3_key, self._storage.list(results_of(lease))
            await self._storage.delete(*[file.key async for file in files if file.key != own])

    async def _stages(self, lease: Lease, watch: Watcher, clock: AttemptClock) -> Outcome:
        request = lease.request
        runner = self._runners.get(request.model)
        if runner is None:
            raise ModelNotFound(f"this worker does not serve {request.model}")
        params = msgspec.convert(request.params, runner.params)
        stage = Stages(lease, watch)

        with stage("fetch"):
            source = await self._fetch(lease, clock)
        with self._memory.grant(lease.priority) as grant:
            result, file, execution = await self._make(lease, runner, source, params, stage, grant, clock)
        del source
        with stage("upload"), clock.standing():
            if file is not None:
                await self._spool.put(file)
        return Outcome(result=result, timing=stage.timing(), execution=execution)

    async def _make(
        self,
        lease: Lease,
        runner: Runner,
        source: bytes,
        params: Params,
        stage: Stages,
        grant: MemoryGrant,
        clock: AttemptClock,
    ) -> tuple[Result, StoredFile | None, dict[str, Any]]:
        """Run the three stages that hold pixels; the last of the three values is what they took of the device."""
        on_cpu = partial(self._on_cpu, lease.priority, clock)
        with stage("prepare"):
            work = await on_cpu(self._prepare_if_granted, runner, source, params, grant)
        if work is None:
            with clock.standing():
                await self._memory.wait(grant)
            with stage("prepare"):
                work = await on_cpu(runner.prepare, source, params)
        if work.size is not None:
            imaging.check_holds(lease.request.output, *work.size)
        pack = partial(self._pack, lease, runner, params)
        early = EarlyPostprocess(pack)
        with stage("infer") as infer_began:
            done = await self._device.run(
                runner,
                work,
                priority=lease.priority,
                on_progress=stage.tiles,
                on_begin=partial(stage.tiles, 0, work.count),
                on_leave=partial(self._device_s.__setitem__, lease.key),
                on_single_output=early if runner.card.produces == "data" else None,
                clock=clock,
            )
            stage.move(early.took_s, out_of="infer", to="postprocess")
        stage.reached_device(infer_began, done.waited_s)
        with stage("postprocess"):
            result, file = await on_cpu(pack, done.work) if early.result is None else early.result
        return result, file, self._execution(done)

    def _execution(self, done: DeviceRun) -> dict[str, Any]:
        work = done.work
        execution = {
            "device": self._device.device.name,
            "tiles": work.count,
            "tile": list(work.shape),
            "device_ms": milliseconds(done.device_s),
        }
        return execution if work.device_size is None else execution | {"kilopixels": work.device_size}

    def _prepare_if_granted(self, runner: Runner, source: bytes, params: Params, grant: MemoryGrant) -> Work | None:
        # There usually is memory, so that predicting how much a task needs gets no step of its own.
        enough = self._memory.take(grant, runner.memory_needed(source, params))
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
        # A bucket may have taken other bytes than were announced. Their result would be reused for everybody who has
        # the right bytes, which have the announced digest.
        announced = lease.request.source.sha256
        if announced is not None and await self._on_cpu(lease.priority, clock, _sha256, data) != announced:
            raise UploadMismatch("the bytes of the upload have another sha256 than was announced")

    async def _stored_input(self, key: str, clock: AttemptClock) -> bytes:
        """An input from our own storage. While that is away, which is no fault of the task, it waits, and its time
        starts anew."""

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

    def _pack(self, lease: Lease, runner: Runner, params: Params, work: Work) -> tuple[Result, StoredFile | None]:
        """Postprocess and check on a thread: the result as it will be published, and the file to store for it."""
        # Results are immutable: the key has the token of the lease, so that no other attempt can write over it.
        product = runner.postprocess(work, params, lease.request.output)
        return published(
            product,
            results_of(lease) + lease.token,
            produces=runner.card.produces,
            max_data_bytes=self._max_data_bytes,
        )

    async def _on_cpu(self, priority: Priority, clock: AttemptClock, work: Callable[..., T], *args: Any) -> T:
        """Run on a codec thread; the clock stands until one is free. A thread cannot be stopped, so that a cancellation
        waits for it: no stage outlives its attempt."""
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
    """The prefix of the keys of all files that attempts at this task store."""
    return f"results/{lease.tenant}/{lease.id}/"
