"""The work of a task, as its model prepares it: of its input, or once more for a run in fp32."""

from loguru import logger
from msgspec import Struct

from penstock.core.output import OutputOptions
from penstock.errors import DeviceOutOfMemory, ModelResultInvalid, ModelUnavailable
from penstock.models.base import BaseModelRunner, DeviceBroken, Params, ResultStream, Work
from penstock.models.members import InputMembers
from penstock.pixels.notes import in_order, noting
from penstock.worker.batcher.device_work import Runner
from penstock.worker.model_code import model_code
from penstock.worker.task_log import TaskLog


class Prepared(Struct, frozen=True, eq=False):
    """What a model has made of an input, and the stream of the result where it is written while outputs come."""

    work: Work
    stream: ResultStream | None


class ModelCall(Struct, frozen=True, eq=False):
    """What a task asks of a model: its parameters, and how its result is encoded. The `log` gets what the model
    says."""

    runner: Runner
    params: Params
    output: OutputOptions
    log: TaskLog


def prepared_by(call: ModelCall, source: bytes | InputMembers) -> Prepared:
    """Prepare an input, on a codec thread. Raises what the model raises, and ModelResultInvalid where it returns no
    work."""
    given = (source, call.params, call.output) if call.runner.reads_output else (source, call.params)
    with model_code("prepare", call.log), noting() as noted:
        work = call.runner.prepare(*given)
    if not isinstance(work, Work):
        raise ModelResultInvalid(f"the model's prepare returned a {type(work).__name__}, not a Work")
    if not work.count:
        raise ModelResultInvalid("the model's prepare returned a Work without tiles")
    work.notes = in_order(noted)
    return _with_stream(call, work)


def prepared_in_fp32(call: ModelCall, work: Work) -> Prepared | None:
    """Prepare the same work for a run in fp32, on a codec thread; None where it was run so, or the device cannot."""
    try:
        with model_code("in_fp32", call.log):
            again = call.runner.in_fp32(work)
    except (ModelUnavailable, DeviceOutOfMemory, DeviceBroken) as error:
        logger.bind(reason=str(error)).warning("the model cannot be run in fp32")
        return None
    if again is None:
        return None
    again.notes = in_order((*work.notes, "recomputed_in_fp32"))
    return _with_stream(call, again)


def _with_stream(call: ModelCall, work: Work) -> Prepared:
    if type(call.runner).stream is BaseModelRunner.stream:  # no code of a model
        return Prepared(work, None)
    with model_code("stream", call.log):
        return Prepared(work, call.runner.stream(work, call.params, call.output))
