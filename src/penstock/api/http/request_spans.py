"""The span of a request: HTTP's semantic conventions of OpenTelemetry, and the context of everything that follows."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from penstock.lazy_import import lazy_import
from penstock.telemetry import traces

spans = lazy_import("penstock.telemetry.spans")

UNTRACED = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""Paths that machines poll: each look would be a trace of its own."""

SERVER_ERROR = 500
"""The first status that is the fault of the server: to it, an answer of 4xx is a success."""


class RequestSpans:
    """An ASGI middleware around all others. What is inside finds the span of the request in the header `traceparent`,
    so that a task, its log lines and its webhooks belong to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection; what is not HTTP, or is a poll of a machine, passes through."""
        if scope["type"] != ScopeType.HTTP or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        status = 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        asked = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        with spans.span(scope["method"], kind="server", parent=asked, attributes=_asked_for(scope)) as span:
            inside: HTTPScope = {**scope, "headers": _headers(scope, span.traceparent)}
            try:
                await self._app(inside, receive, send_noting)
            finally:
                if route := inside.get("path_template"):
                    span.rename(f"{scope['method']} {route}")
                    span.note({"http.route": route})
                if status:
                    span.note({"http.response.status_code": status})
                if code := inside["state"].get("error_code"):
                    span.note({"error.type": code})
                if status >= SERVER_ERROR:
                    span.fail(code or str(status))


def with_spans(app: ASGIApp) -> ASGIApp:
    """Return the application with a span for each request, where spans are made; else as it is."""
    return RequestSpans(app) if traces.IS_ON else app


def _headers(scope: HTTPScope, traceparent: str) -> list[tuple[bytes, bytes]]:
    others = [header for header in scope["headers"] if header[0] != b"traceparent"]
    return [*others, (b"traceparent", traceparent.encode())] if traceparent else others


def _asked_for(scope: HTTPScope) -> dict[str, str]:
    """What is known before the request is handled. Its query is left out: it may hold what only its client may know."""
    return {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
