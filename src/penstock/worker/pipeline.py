"""The five stages of an attempt: fetch, prepare, infer, postprocess, upload. Only `infer` meets other tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from loguru import logger

from penstock.core.lease import Lease
from penstock.core.request import Request
from penstock.core.task import Outcome, Result
from penstock.errors import ExecutionTimeout, InvalidOutput, InvalidRequest
from penstock.models.base import DeviceBroken, Params, Work
from penstock.models.members import InputMembers
from penstock.models.products import product_of
from penstock.pixels.formats import check_holds, check_result_size
from penstock.pixels.notes import Note, noting
from penstock.settings import LimitSettings
from penstock.storage import Storage
from penstock.telemetry import metrics
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.device_work import Runner
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import CodecThreads
from penstock.worker.gate import NOTHING, GateReport, QualityGate, with_report
from penstock.worker.inputs import Inputs
from penstock.worker.memory import MemoryBudget, MemoryGrant
from penstock.worker.model_code import model_code
from penstock.worker.output_options import options_for, told
from penstock.worker.preparing import ModelCall, Prepared, prepared_by, prepared_in_fp32
from penstock.worker.residency.resident import Use
from penstock.worker.residency.residents import Residents
from penstock.worker.results import announced, check_bytes, published
from penstock.worker.spool import Spool, StoredFiles
from penstock.worker.stages import EarlyPostprocess, Stages, Watcher, milliseconds
from penstock.worker.streamed_upload import StreamedUpload
from penstock.worker.streaming import StreamedResult
from penstock.worker.task_log import TaskLog

if TYPE_CHECKING:
    from penstock.models.scoring import ImageScoring

SHOWN_CHARACTERS = 200
"""How much a task shows of what is wrong with its parameters."""


class Pipeline:
    """Runs attempts. A worker process has one, which all its slots use."""

    def __init__(
        self,
        models: Residents,
        device: DeviceScheduler,
        *,
        inputs: Inputs,
        storage: Storage,
        spool: Spool,
        codecs: CodecThreads,
        memory: MemoryBudget,
        limits: LimitSettings,
    ) -> None:
        self.models = models
        self._device = device
        self._inputs = inputs
        self._storage = storage
        self._spool = spool
        self._codecs = codecs
        self._memory = memory
        self._limits = limits
        self._gate = QualityGate(models)
        self._device_s: dict[str, float] = {}
        self._logs: dict[str, TaskLog] = {}

    async def run(self, lease: Lease, watch: Watcher) -> Outcome:
        """Run the stages and return the outcome of a success.

        Raises PenstockError for everything else, DeviceBroken when this process must end. When canceled, the device and
        the codec threads are free of the task on return.

        `timeout_s` of the lease bounds what the attempt does itself: download, preparation, its own batches on the
        device and postprocessing. The clock stands while it waits behind others, for its model, memory, a thread or
        the device, and while our own storage is away.
        """
        clock, self._logs[lease.key] = AttemptClock(lease.timeout_s), TaskLog()
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
        """Milliseconds of the device that an attempt took; 0 when it has not come to the device, or was forgotten."""
        return self.took_so_far_ms(lease) or 0.0

    def took_so_far_ms(self, lease: Lease) -> float | None:
        """Milliseconds of the device that an attempt has taken by its last tile that is done; None before the device
        has begun with it, and when it was forgotten."""
        device_s = self._device_s.get(lease.key)
        return None if device_s is None else milliseconds(device_s)

    def said(self, lease: Lease) -> bytes:
        """What the code of the model has said during an attempt; empty for most, and when it was forgotten."""
        log = self._logs.get(lease.key)
        return log.text(lease.epoch) if log else b""

    def forget(self, lease: Lease) -> None:
        """Drop what `took_ms` and `said` return for this attempt."""
        self._device_s.pop(lease.key, None)
        self._logs.pop(lease.key, None)

    @property
    def streams(self) -> int:
        """How many batches the device runs at a time."""
        return self._device.device.streams

    def streams_of(self, model: str) -> int:
        """How many of them may be batches of this model."""
        runner = self.models.runner_of(model)
        return self.streams if runner is None or runner.concurrent else 1

    def paying_batch(self, model: str) -> tuple[int, float]:
        """How many tiles a batch of this model should have at least, and the seconds of one tile alone."""
        return self._device.paying_batch(model)

    async def discard(self, outcome: Outcome) -> None:
        """Delete the files of a result that nobody may see."""
        if outcome.result and outcome.result.artifacts:
            await self._storage.delete(*(file.s3_key for file in outcome.result.artifacts))

    async def discard_earlier(self, lease: Lease, outcome: Outcome) -> None:
        """Delete the files that earlier attempts may have stored without settling."""
        if lease.epoch > 1 and outcome.result and outcome.result.artifacts:
            own, files = {file.s3_key for file in outcome.result.artifacts}, self._storage.list(results_of(lease))
            await self._storage.delete(*[file.key async for file in files if file.key not in own])
            await self._storage.give_up(*[file async for file in self._storage.list_unfinished(results_of(lease))])

    async def _stages(self, lease: Lease, watch: Watcher, clock: AttemptClock) -> Outcome:
        stage = Stages(lease, watch)
        with self.models.expecting(lease.request.model) as takes:
            with stage("fetch"):
                source = await self._inputs.collect(lease, takes, clock)
            use = await self._model(lease, stage, clock)
        with self.models.using(use) as runner:
            params = _params_of(lease.request, runner)
            with self._gate.ready(params) as scorer, self._memory.grant(lease.priority) as grant:
                result, files, execution = await self._make(lease, runner, source, params, scorer, stage, grant, clock)
        if lease.request.digest and use.digest not in ("", lease.request.digest):
            execution |= {"model_digest": use.digest}  # other files than the catalogue had at the submit
        del source
        with stage("upload"), clock.standing():
            if isinstance(files, StreamedUpload):
                await files.publish()
            elif files is not None:
                await self._spool.put(files)
        return Outcome(result=result, timing=stage.timing(), execution=execution)

    async def _model(self, lease: Lease, stage: Stages, clock: AttemptClock) -> Use:
        """The model of a task, which waits where it is not loaded."""
        use = self.models.take(lease.request.model)
        if use is None:
            with stage("load"), clock.standing():
                use = await self.models.wait(lease.request.model, lease.priority, self._logs[lease.key])
        return use

    async def _make(
        self,
        lease: Lease,
        runner: Runner,
        source: bytes | InputMembers,
        params: Params,
        scorer: ImageScoring | None,
        stage: Stages,
        grant: MemoryGrant,
        clock: AttemptClock,
    ) -> tuple[Result, StoredFiles | StreamedUpload | None, dict[str, Any]]:
        """Run the three stages that hold pixels; the last of the three values is what they took of the device."""
        on_cpu, log = partial(self._codecs.run, lease.priority, clock), self._logs[lease.key]
        output = lease.request.output if runner.card.produces == "data" else options_for(lease.request.output, source)
        call = ModelCall(runner, params, output, log)
        with stage("prepare"):
            prepared = await on_cpu(self._prepare_if_granted, grant, call, source)
        if prepared is None:
            with clock.standing():
                await self._memory.wait(grant)
            with stage("prepare"):
                prepared = await on_cpu(prepared_by, call, source)
        try:
            return await self._run(lease, call, prepared, scorer, stage, clock)
        except InvalidOutput as error:
            wrong = error
        with stage("prepare"):
            again = await on_cpu(prepared_in_fp32, call, prepared.work)
        self._tell_of(wrong, runner, "failed" if again is None else "recomputed")
        if again is None:
            raise wrong
        del wrong, prepared  # and the rows of the result that they hold
        stage.run_again()
        return await self._run(lease, call, again, scorer, stage, clock)

    def _tell_of(self, error: InvalidOutput, runner: Runner, outcome: Literal["failed", "recomputed"]) -> None:
        device = self._device.device.name
        metrics.report("outputs.invalid", model=runner.name, device=device, outcome=outcome)
        logger.bind(device=device, reason=error.detail, outcome=outcome).warning("the output of a model is invalid")

    async def _run(
        self,
        lease: Lease,
        call: ModelCall,
        prepared: Prepared,
        scorer: ImageScoring | None,
        stage: Stages,
        clock: AttemptClock,
    ) -> tuple[Result, StoredFiles | StreamedUpload | None, dict[str, Any]]:
        """Run the work on the device, and make the result of its outputs."""
        on_cpu = partial(self._codecs.run, lease.priority, clock)
        work, streamed = prepared.work, self._streamed(lease, call, prepared)
        if work.size is not None:
            check_holds(call.output, *work.size)
            check_result_size(self._limits, *work.size)
        pack = partial(self._pack, lease, call, work.notes)
        early = EarlyPostprocess(pack)
        with stage("infer") as inferring:
            on_device = self._device.run(
                call.runner,
                work,
                priority=lease.priority,
                on_progress=stage.tiles if streamed is None else partial(_told, stage, streamed),
                on_begin=partial(stage.tiles, 0, work.count),
                on_time=self._adding_time(lease),
                on_single_output=early if call.runner.card.produces == "data" else None,
                clock=clock,
                log=call.log,
            )
            done = await (on_device if streamed is None else streamed.beside(on_device))
            stage.move(early.took_s, out_of="infer", to="postprocess")
            stage.reached_device(inferring.began, done.waited_s)
        files: StoredFiles | StreamedUpload | None
        with stage("postprocess"):
            if streamed is not None:
                result, files = await streamed.finish(clock)
            elif early.result is not None:
                result, files = early.result
            else:
                beside = partial(self._beside, lease, clock)
                report = await self._gate.report(call, done.work, scorer, on_cpu=on_cpu, on_device=beside)
                result, files = await on_cpu(pack, done.work, report)
        return result, files, self._execution(done.work, self.took_ms(lease))

    async def _beside(self, lease: Lease, clock: AttemptClock, runner: Runner, work: Work) -> Work:
        """Run work of another model for a task."""
        done = await self._device.run(
            runner,
            work,
            priority=lease.priority,
            on_progress=lambda *_: None,
            on_time=self._adding_time(lease),
            clock=clock,
            log=self._logs[lease.key],
        )
        return done.work

    def _adding_time(self, lease: Lease) -> Callable[[float], None]:
        """Take the seconds of a run on the device, and add them to those that the attempt has taken before."""
        before_s = self._device_s.get(lease.key, 0.0)
        return lambda seconds: self._device_s.__setitem__(lease.key, before_s + seconds)

    def _execution(self, work: Work, device_ms: float) -> dict[str, Any]:
        execution = {
            "device": self._device.device.name,
            "tiles": work.count,
            "tile": list(work.shape),
            "device_ms": device_ms,
        }
        return execution if work.device_size is None else execution | {"kilopixels": work.device_size}

    def _prepare_if_granted(self, grant: MemoryGrant, call: ModelCall, source: bytes | InputMembers) -> Prepared | None:
        # There usually is memory, so that predicting how much a task needs gets no step of its own.
        with model_code("memory_needed", call.log):
            needed = call.runner.memory_for(source, call.params, call.output)
        return prepared_by(call, source) if self._memory.take(grant, needed) else None

    def _streamed(self, lease: Lease, call: ModelCall, prepared: Prepared) -> StreamedResult | None:
        if prepared.stream is None:
            return None
        key = results_of(lease) + lease.token
        produces = call.runner.card.produces
        notes = told(prepared.work.notes, call.output, produces=produces)
        result = announced(prepared.stream.product, key, produces=produces, limits=self._limits, notes=notes)
        (artifact,) = result.artifacts
        return StreamedResult(
            result,
            prepared.stream.writer,
            StreamedUpload(self._spool, artifact.s3_key, artifact.content_type),
            call.log,
            on_cpu=partial(self._codecs.run, lease.priority),
            check_bytes=partial(check_bytes, limits=self._limits),
            on_written=self._device.wake,
        )

    def _pack(
        self, lease: Lease, call: ModelCall, notes: Iterable[Note], work: Work, report: GateReport = NOTHING
    ) -> tuple[Result, StoredFiles | None]:
        """Postprocess and check on a thread: the result as it will be published, and the files to store for it."""
        # Results are immutable: their keys have the token of the lease, so that no other attempt can write over it.
        runner, output = call.runner, call.output
        with model_code("postprocess", call.log), noting() as noted:
            product = product_of(runner.postprocess(work, call.params, output), output)
        return published(
            with_report(product, report, output, self._limits),
            results_of(lease) + lease.token,
            produces=runner.card.produces,
            limits=self._limits,
            notes=told((*notes, *noted), output, produces=runner.card.produces),
        )


def _told(stage: Stages, streamed: StreamedResult, done: int, total: int) -> None:
    stage.tiles(done, total)
    streamed.look()


def results_of(lease: Lease) -> str:
    """The prefix of the keys of all files that attempts at this task store."""
    return f"results/{lease.tenant}/{lease.id}/"


def _params_of(request: Request, runner: Runner) -> Params:
    try:
        params: Params = msgspec.convert(request.params, runner.params)
    except msgspec.ValidationError as error:  # of a check that no JSON Schema says, or by another version of the model
        raise InvalidRequest(str(error)[:SHOWN_CHARACTERS], param="params") from error
    return params
