"""Trace context (W3C Trace Context, version 00): the trace to which a request and its task belong, and whether this
process makes spans of it.

Without spans, Penstock passes a `traceparent` on unchanged, from the request to the task, its logs and its webhooks.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.lazy_import import lazy_import
from penstock.settings import traces_wanted

span_export = lazy_import("penstock.telemetry.span_export")

IS_ON = traces_wanted()
"""Whether this process makes spans. It is known before anything is defined, so that what makes a span can stand around
a function as a decorator which is not there otherwise: without spans a task takes not one call more."""

# A header of another version is replaced by a new trace, since its layout is not known.
TRACEPARENT = re.compile(
    r"00-"  # the version
    r"(?P<trace>[0-9a-f]{32})-"
    r"(?P<span>[0-9a-f]{16})-"  # the span that sent the request
    r"(?P<flags>[0-9a-f]{2})"
)


TRACE_DIGITS = 48
"""Hex digits that a new trace is made of: 32 of the trace, 16 of its first span."""


TRACE_ID = slice(3, 35)
"""Where the id of the trace is in a traceparent."""


def accept_traceparent(header: str | None, digits: str) -> str:
    """The traceparent of the header or, where the header is missing or malformed, a new one of these random digits."""
    if header and TRACEPARENT.fullmatch(header):
        return header
    return f"00-{digits[:32]}-{digits[32:TRACE_DIGITS]}-01"  # 01: the trace may be recorded


def trace_id(traceparent: str | None) -> str | None:
    """The 32 hex digits of the trace; None where the traceparent is missing or malformed."""
    match = TRACEPARENT.fullmatch(traceparent or "")
    return match["trace"] if match else None


@contextmanager
def tracing(service: str, process: str) -> Iterator[None]:
    """Send the spans of this process while the block runs, and what is left of them at its end, for 2 s at most.

    `service` is its name in the traces where OTEL_SERVICE_NAME gives none. Nothing happens where the environment wants
    no spans.
    """
    if not IS_ON:
        yield
        return
    span_export.begin(service, process)
    try:
        yield
    finally:
        span_export.end()
