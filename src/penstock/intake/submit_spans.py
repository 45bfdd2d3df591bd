"""The spans of submits: what puts a task into the queue is the parent of everything that becomes of it."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from penstock.core.submission import EnqueuePermit
from penstock.intake.call import SubmitCall
from penstock.intake.deps import Deps
from penstock.lazy_import import lazy_import
from penstock.store import Submitted
from penstock.telemetry import traces

spans = lazy_import("penstock.telemetry.spans")


class AcceptedSubmit(Protocol):
    """The answer to a submit that was accepted."""

    @property
    def submitted(self) -> Submitted:
        """What the store says."""


R = TypeVar("R", bound=AcceptedSubmit)
S = TypeVar("S", bound=Callable[..., Awaitable[Any]])


def traced_submit(
    submit: Callable[[str, SubmitCall, Deps], Awaitable[R]],
) -> Callable[[str, SubmitCall, Deps], Awaitable[R]]:
    """Give each submit a span, which the record of its task names as its parent. Without spans it stays as it is."""
    if not traces.IS_ON:
        return submit

    async def submit_in_span(task_id: str, call: SubmitCall, deps: Deps) -> R:
        with _producing("submit", "send", task_id, call) as span:
            receipt = await submit(task_id, _within(call, span.traceparent), deps)
            done = receipt.submitted
            span.note({"messaging.message.id": done.id, "penstock.replayed": done.replayed})
            span.note({"penstock.reuse": done.reuse})
            return receipt

    return submit_in_span


def traced_line(submission_of: S) -> S:
    """Give each line of a batch that is about to be enqueued such a span. Those of one batch are in one trace, that of
    the request that has brought it."""
    if not traces.IS_ON:
        return submission_of

    async def make_in_span(
        task_id: str, call: SubmitCall, *given: Any, permit: EnqueuePermit | None = None, **named: Any
    ) -> Any:
        if permit is None:
            return await submission_of(task_id, call, *given, **named)
        with _producing("create", "create", task_id, call) as span:
            span.note({"penstock.batch.id": permit.batch, "penstock.batch.place": permit.place})
            return await submission_of(task_id, _within(call, span.traceparent), *given, permit=permit, **named)

    return make_in_span  # type: ignore[return-value]


def _producing(operation: str, kind: str, task_id: str, call: SubmitCall) -> Any:
    model, priority = call.model.id, call.task.priority.value
    attributes = spans.messaging(operation, kind, model=model, priority=priority, task_id=task_id)
    return spans.span(f"{operation} {model}", kind="producer", parent=call.traceparent, attributes=attributes)


def _within(call: SubmitCall, traceparent: str) -> SubmitCall:
    return replace(call, traceparent=traceparent) if traceparent else call
