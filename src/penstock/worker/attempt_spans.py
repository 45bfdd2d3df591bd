"""The spans of attempts and their stages. Without spans, each of these decorators returns what it is given."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

from penstock.core.lease import Lease
from penstock.lazy_import import lazy_import
from penstock.telemetry import traces

spans = lazy_import("penstock.telemetry.spans")

F = TypeVar("F", bound=Callable[..., Any])
A = TypeVar("A", bound=Callable[..., Awaitable[None]])


def traced_attempt(run: A) -> A:
    """Give an attempt the span of a consumer, a child of that of the submit. It is linked to the attempt before it."""
    if not traces.IS_ON:
        return run

    async def run_in_span(attempts: Any, lease: Lease, *given: Any, **named: Any) -> None:
        asked, model = lease.request.traceparent, lease.request.model
        former = spans.attempt_context(asked, lease.id, lease.epoch - 1) if lease.epoch > 1 else None
        with spans.span(
            f"process {model}",
            kind="consumer",
            parent=asked,
            links=[former] if former else [],
            span_id=spans.attempt_span_id(lease.id, lease.epoch),
            attributes=_attributes(lease),
        ):
            await run(attempts, lease, *given, **named)

    return cast(A, run_in_span)


def _attributes(lease: Lease) -> dict[str, Any]:
    priority, line = lease.priority.value, lease.request.line
    queue: dict[str, Any] = spans.messaging(
        "process", "process", model=lease.request.model, priority=priority, task_id=lease.id
    )
    known = {
        "penstock.attempt": lease.epoch,
        "penstock.failures": lease.failures,
        "penstock.waited_ms": lease.waited_ms,
    }
    return queue | known | ({"penstock.batch.id": line.batch} if line else {})


def traced_end(tell: F) -> F:
    """Note in the span of an attempt how it ended: the verb of its end, or that its lease was lost, and the code of its
    error."""
    if not traces.IS_ON:
        return tell

    def tell_span_too(settlement: Any, kept: int, took_s: float) -> None:
        tell(settlement, kept, took_s)
        around = spans.current()
        around.note({"penstock.outcome": settlement.verb.value if kept else "lease_lost"})
        if settlement.code:
            around.fail(settlement.code)

    return cast(F, tell_span_too)


def traced_stage(begin: F) -> F:
    """Give each stage of an attempt a span."""
    if not traces.IS_ON:
        return begin

    def begin_in_span(stages: Any, name: str) -> AbstractContextManager[Any]:
        return _within_span(name, begin(stages, name))

    return cast(F, begin_in_span)


@contextmanager
def _within_span(name: str, stage: AbstractContextManager[Any]) -> Iterator[Any]:
    with spans.span(name), stage as entered:
        yield entered


def traced_wait(note: F) -> F:
    """Give the wait of a task for its device a span, when it has ended."""
    if not traces.IS_ON:
        return note

    def note_in_span(stages: Any, infer_began: float, waited_s: float) -> None:
        note(stages, infer_began, waited_s)
        spans.past("wait for device", infer_began, infer_began + waited_s)

    return cast(F, note_in_span)
