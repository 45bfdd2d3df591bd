"""Spans of OpenTelemetry: what a request, a task and a batch on the device did, when, and how it ended.

Only a process that makes spans imports this (`traces.IS_ON`). Attributes hold ids, names and numbers of ours: no
secret, and no URL of a client, whose path or query may be one.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags

from penstock.errors import PenstockError
from penstock.telemetry.traces import TRACEPARENT

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | bool | int | float]

SYSTEM = "penstock"
"""The `messaging.system` of our queue."""

_tracer: trace.Tracer = trace.NoOpTracer()
_span_id: ContextVar[int] = ContextVar("penstock_span_id", default=0)


class OpenSpan:
    """A span that goes on; any thread may use it. Where its trace is not sampled, all that is said of it is dropped."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def context(self) -> SpanContext:
        """What others refer to it by."""
        return self._span.get_span_context()

    @property
    def is_recorded(self) -> bool:
        """Whether it will be sent."""
        return self._span.is_recording()

    @property
    def traceparent(self) -> str:
        """What makes another span its child, as a header; empty where there is no trace."""
        own = self.context
        if not own.is_valid:
            return ""
        return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes({**attributes})

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def link(self, other: "OpenSpan") -> None:
        """Refer to another span, of this trace or of another."""
        self._span.add_link(other.context)

    def fail(self, error_type: str) -> None:
        """Mark it as failed, with the code of an error."""
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(StatusCode.ERROR)


def use(tracer: trace.Tracer) -> None:
    """Make spans with this tracer from now on; before, none are made."""
    global _tracer
    _tracer = tracer


@contextmanager
def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: str | OpenSpan | None = None,
    links: Iterable[SpanContext] = (),
    span_id: int = 0,
    attributes: Attributes | None = None,
) -> Iterator[OpenSpan]:
    """Make a span of the block. It is the child of `parent`, which may be a traceparent, or else of the span around it.

    What the block raises marks it as failed, a cancellation does not. It gets this id, if one is given.
    """
    given = _span_id.set(span_id)
    opened = _tracer.start_span(
        name,
        _context_of(parent),
        SpanKind[kind.upper()],
        {**(attributes or {})},
        [Link(context) for context in links],
    )
    _span_id.reset(given)
    one = OpenSpan(opened)
    with trace.use_span(opened, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield one
        except Exception as error:
            one.fail(error.code if isinstance(error, PenstockError) else type(error).__qualname__)
            raise


def past(name: str, began: float, ended: float) -> None:
    """Make a span of what has happened inside of the one around it, between two moments of `time.perf_counter`."""
    now_ns, now = time.time_ns(), time.perf_counter()
    first_ns, last_ns = (now_ns - int((now - moment) * 1e9) for moment in (began, ended))
    _tracer.start_span(name, start_time=first_ns).end(max(first_ns, last_ns))


def current() -> OpenSpan:
    """The span around the caller, which is none that is recorded where there is no other."""
    return OpenSpan(trace.get_current_span())


def sampled_trace_id() -> str | None:
    """The 32 hex digits of the trace that is recorded around the caller, if one is."""
    around = trace.get_current_span()
    return f"{around.get_span_context().trace_id:032x}" if around.is_recording() else None


def attempt_span_id(task_id: str, epoch: int) -> int:
    """The id of the span of an attempt. It follows from the number of the claim, so that the next attempt, of another
    worker, can refer to it: nothing of it is stored."""
    return int.from_bytes(sha256(f"{task_id} {epoch}".encode()).digest()[:8]) or 1


def attempt_context(traceparent: str | None, task_id: str, epoch: int) -> SpanContext | None:
    """What refers to the span of another attempt at a task with this traceparent."""
    asked = _remote(traceparent)
    if asked is None:
        return None
    return SpanContext(asked.trace_id, attempt_span_id(task_id, epoch), is_remote=True, trace_flags=asked.trace_flags)


def messaging(operation: str, kind: str, *, model: str, priority: str, task_id: str) -> Attributes:
    """The attributes of a span of the queue, as OpenTelemetry names them. The queue of a task is that of its model and
    its priority."""
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": f"{model}/{priority}",
        "messaging.message.id": task_id,
        "penstock.model": model,
        "penstock.priority": priority,
    }


class SpanIds(RandomIdGenerator):
    """Random ids, but for a span that is given its own."""

    def generate_span_id(self) -> int:
        """Return the id that is given, else a random one."""
        return _span_id.get() or super().generate_span_id()


def _context_of(parent: str | OpenSpan | None) -> Context | None:
    context = parent.context if isinstance(parent, OpenSpan) else _remote(parent)
    return None if context is None else trace.set_span_in_context(NonRecordingSpan(context), Context())


def _remote(traceparent: str | None) -> SpanContext | None:
    match = TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    flags = TraceFlags(int(match["flags"], 16))
    context = SpanContext(int(match["trace"], 16), int(match["span"], 16), is_remote=True, trace_flags=flags)
    return context if context.is_valid else None
