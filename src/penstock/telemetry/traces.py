"""Trace context (W3C Trace Context, version 00): the trace to which a request and its task belong.

Penstock passes a `traceparent` on unchanged, from the request to the task, its logs and its webhooks.
"""

import re

# A header of another version is replaced by a new trace, since its layout is not known.
_TRACEPARENT = re.compile(
    r"00-"  # the version
    r"(?P<trace>[0-9a-f]{32})-"
    r"[0-9a-f]{16}-"  # the span that sent the request
    r"[0-9a-f]{2}"  # flags
)


TRACE_DIGITS = 48
"""Hex digits that a new trace is made of: 32 of the trace, 16 of its first span."""


TRACE_ID = slice(3, 35)
"""Where the id of the trace is in a traceparent."""


def accept_traceparent(header: str | None, digits: str) -> str:
    """The traceparent of the header or, where the header is missing or malformed, a new one of these random digits."""
    if header and _TRACEPARENT.fullmatch(header):
        return header
    return f"00-{digits[:32]}-{digits[32:TRACE_DIGITS]}-01"  # 01: the trace may be recorded


def trace_id(traceparent: str | None) -> str | None:
    """The 32 hex digits of the trace; None where the traceparent is missing or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match["trace"] if match else None
