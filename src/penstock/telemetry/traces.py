"""Trace context (W3C Trace Context, version 00): the trace to which a request and its task belong.

Penstock passes a `traceparent` on unchanged, from the request to the task, its logs and its webhooks.
"""

import re
import secrets

# A header of another version is replaced by a new trace, since its layout is not known.
_TRACEPARENT = re.compile(
    r"00-"  # the version
    r"(?P<trace>[0-9a-f]{32})-"
    r"[0-9a-f]{16}-"  # the span that sent the request
    r"[0-9a-f]{2}"  # flags
)


def accept_traceparent(header: str | None) -> str:
    """The traceparent of the header, or a new one where the header is missing or malformed."""
    return header if header and _TRACEPARENT.fullmatch(header) else _new_traceparent()


def trace_id(traceparent: str | None) -> str | None:
    """The 32 hex digits of the trace; None where the traceparent is missing or malformed."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match["trace"] if match else None


def _new_traceparent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"  # 01: the trace may be recorded
