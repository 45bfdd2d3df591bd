"""Around every request: its id and trace, one log line, one measurement, and the headers of every answer."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, ReceiveMessage, Scope, Send
from litestar.types.asgi_types import HTTPResponseBodyEvent
from loguru import logger

from penstock import telemetry

UNMATCHED = "unmatched"
"""The route of a request for which there is none; never the path, which has no bounds."""

READ_ANYWAY_BYTES = 1024 * 1024
"""The server reads the rest of a body that was answered early, to keep the connection; a longer one is not worth it,
and one in chunks may never end."""

READ_ON_S = 1.0
"""How long it goes on reading a longer one before it closes: closed with bytes unread, a connection is reset, and the
client never sees why it was refused."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_QUIET = {"/livez", "/readyz", "/startupz", "/metrics"}
_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"same-origin")]
_NOT_STORED = (b"cache-control", b"private, no-cache")


class Envelope:
    """ASGI, outside of Litestar, so that it sees the answers to unknown paths too.

    Sets `request_id` and `traceparent` in the scope's state. Neither query strings nor keys are ever logged.
    """

    def __init__(self, app: ASGIApp, is_draining: Callable[[], bool]) -> None:
        self._app = app
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        traceparent = telemetry.accept_traceparent(headers.get(b"traceparent", b"").decode("latin-1"))
        scope["state"] |= {"request_id": request_id, "traceparent": traceparent}
        status, body_left = 500, _is_long_body(headers)
        started = time.perf_counter()

        async def receive_body() -> ReceiveMessage:
            nonlocal body_left
            message = await receive()
            body_left = body_left and bool(message.get("more_body"))
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _complete(message["headers"], request_id, closing=body_left or self._is_draining())
            elif message["type"] == "http.response.body" and body_left and not message["more_body"]:
                message["more_body"] = True
                await send(message)
                await _read_on(receive)
                message = HTTPResponseBodyEvent(type="http.response.body", body=b"", more_body=False)
            await send(message)

        with logger.contextualize(request_id=request_id, trace_id=telemetry.trace_id(traceparent)):
            try:
                await self._app(scope, receive_body, send_with_headers)
            finally:
                _record(scope, status, time.perf_counter() - started)


async def _read_on(receive: Receive) -> None:
    """The rest of a body that nobody wants, within bounds."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(READ_ON_S):
            while size < READ_ANYWAY_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
                size += len(message["body"])


def _request_id(given: bytes | None) -> str:
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def _is_long_body(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or int(length) > READ_ANYWAY_BYTES


def _complete(headers: object, request_id: str, *, closing: bool) -> list[tuple[bytes, bytes]]:
    present = [(bytes(name), bytes(value)) for name, value in headers]  # type: ignore[attr-defined]
    names = {name.lower() for name, _ in present}
    extra = [] if _NOT_STORED[0] in names else [_NOT_STORED]
    extra += [(b"connection", b"close")] if closing else []
    return [*present, *_ALWAYS, *extra, (b"x-request-id", request_id.encode())]


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = scope.get("path_template") or UNMATCHED
    method = str(scope.get("method", ""))
    worked_s = seconds - scope["state"].get("waited_s", 0.0)
    telemetry.report("http.requests", worked_s, route=route, method=method, status=str(status))
    line = logger.bind(method=method, route=route, status=status, ms=round(seconds * 1000, 1))
    line.log("DEBUG" if route in _QUIET else "INFO", "request")
