"""Middleware around every request: its id, trace and origin, a log line, a metric, and the headers of all answers."""

import os
import re
import time
from collections.abc import Callable, Mapping

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, ReceiveMessage, Scope, Send
from litestar.types.asgi_types import HTTPResponseBodyEvent, HTTPResponseStartEvent
from msgspec import Struct

from penstock.api.http.cors import Cors, is_preflight
from penstock.api.http.headers import Headers, with_policies
from penstock.api.http.origins import Origins
from penstock.api.http.problems import MEDIA_TYPE, help_of, problem_of
from penstock.api.http.wrong_keys import WrongKeys, credential_of
from penstock.errors import MalformedRequest, PenstockError, RateLimited, Unauthorized
from penstock.telemetry import metrics
from penstock.telemetry.logs import line_fields, write_line
from penstock.telemetry.traces import TRACE_DIGITS, TRACE_ID, accept_traceparent

UNMATCHED = "unmatched"
"""The label `route` of a request that matches no route; its path would make a new label value each time."""
PREFLIGHT = "preflight"
"""The label `route` of all preflights of browsers: no route answers them."""

READ_ANYWAY_BYTES = 1024 * 1024
"""After an early answer, uvicorn reads the rest of a body of this size, to keep the connection. It is told to close the
connection of a longer body, and of one in chunks, which may never end."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER_METHOD = "other"
"""The label `method` of all methods that no route has: a client may send dozens."""
UNAUTHORIZED = Unauthorized.status

ID_DIGITS = 24
ID_BYTES = (ID_DIGITS + TRACE_DIGITS) // 2
"""All random bytes of a request are read at once: its id is made of the first, its trace of the others."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_QUIET = {"/livez", "/readyz", "/startupz", "/metrics", "/v1/stats", "/v1/queues", "/v1/workers"}
"""Routes whose reads are polls: they are logged as DEBUG, as are preflights and answers that nothing has changed."""
NOT_MODIFIED = 304
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
# Most answers are no page. What a browser takes for one loads nothing, runs nothing, and is framed by nobody.
_NO_PAGE = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox")
_NOT_STORED = (b"cache-control", b"no-store")
_NO_REFERRER = (b"referrer-policy", b"no-referrer")


class RequestContext:
    """An ASGI middleware outside of Litestar, so that it sees the answers to unknown paths too.

    It sets the `headers` by name (of several, the last), `request_id`, `traceparent`, `base_url`, and an empty
    `task_token` and `rate` in the scope's state. It answers HEAD with the headers that GET would have, and preflights
    by itself. Query strings and keys are never logged.
    """

    def __init__(
        self,
        app: ASGIApp,
        origins: Origins,
        cors: Cors,
        allowed: Mapping[str, str],
        wrong_keys: WrongKeys,
        is_draining: Callable[[], bool],
    ) -> None:
        """`allowed` has the methods of each path, as the answer to OPTIONS names them."""
        self._app = app
        self._origins = origins
        self._cors = cors
        self._allowed = allowed
        self._wrong_keys = wrong_keys
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection; what is not HTTP passes through."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        digits = os.urandom(ID_BYTES).hex()
        given = headers.get(b"x-request-id")
        request_id = given.decode() if given and _REQUEST_ID.fullmatch(given) else new_request_id(digits)
        traceparent = accept_traceparent(headers.get(b"traceparent", b"").decode("latin-1"), digits[-TRACE_DIGITS:])
        scope["state"] |= {
            "headers": headers,
            "request_id": request_id,
            "traceparent": traceparent,
            "task_token": "",
            "rate": None,
        }
        credential = credential_of(scope, headers)
        is_head = scope["method"] == "HEAD"
        inner: HTTPScope = {**scope, "method": "GET"} if is_head else scope
        exchange = _Exchange(
            receive=receive,
            send=send,
            scope=inner,
            origins=self._origins,
            cors=self._cors,
            allowed=self._allowed,
            is_draining=self._is_draining,
            is_head=is_head,
            is_long_body_left=_is_long_body(headers),
        )
        started = time.perf_counter()
        fields = line_fields.set({"request_id": request_id, "trace_id": traceparent[TRACE_ID]})
        try:
            scope["state"]["base_url"] = self._origins.of(scope)
            if scope["method"] == "OPTIONS" and is_preflight(headers):
                inner["path_template"] = PREFLIGHT
                await _allow(exchange.send_message)
                return
            if self._wrong_keys.late:
                await self._wrong_keys.check(scope, credential)
            await self._app(inner, exchange.receive_body, exchange.send_message)
        except (MalformedRequest, RateLimited) as error:  # Litestar, which answers all others, has not been called
            exchange.is_long_body_left = exchange.is_long_body_left or "is_last" in scope["state"]
            await _refuse(error, request_id, exchange.send_message)
        finally:
            if exchange.status == UNAUTHORIZED:
                self._wrong_keys.count(scope, credential)
            elif credential and inner.get("auth") is not None:
                self._wrong_keys.is_right(credential)
            _record(inner, str(scope["method"]), exchange.status, time.perf_counter() - started)
            line_fields.reset(fields)


class _Exchange(Struct, eq=False):
    """One request and its answer; it adds the headers of every answer, and leaves out the body of an answer to HEAD."""

    receive: Receive
    send: Send
    scope: HTTPScope
    origins: Origins
    cors: Cors
    allowed: Mapping[str, str]
    is_draining: Callable[[], bool]
    is_head: bool
    is_long_body_left: bool
    status: int = 500
    is_over: bool = False

    async def receive_body(self) -> ReceiveMessage:
        message = await self.receive()
        self.is_long_body_left = self.is_long_body_left and bool(message.get("more_body"))
        return message

    async def send_message(self, message: Message) -> None:
        if self.is_over:
            return  # HEAD is answered by now; a stream learns from this that its client has gone
        if message["type"] != "http.response.start":
            await self.send(message)
            return
        self.status = message["status"]
        headers, scope, state = [*message["headers"]], self.scope, self.scope["state"]
        if self.origins.are_public:
            headers = self.origins.absolute(headers)
        if scope["method"] == "OPTIONS" and (allow := self.allowed.get(scope.get("path_template", ""))):
            headers = [*(header for header in headers if header[0] != b"allow"), (b"allow", allow.encode())]
        if state["rate"]:
            headers = with_policies(headers, state["rate"])
        headers += self.cors.headers_of(
            scope["method"], scope["path"], scope["query_string"], state["headers"], scope.get("auth")
        )
        is_closing = self.is_long_body_left or self.is_draining()
        message["headers"] = complete(headers, state["request_id"], closing=is_closing)
        await self.send(message)
        if self.is_head:
            self.is_over = True
            await self.send(_end())


def refusal(error: PenstockError, request_id: str) -> tuple[Headers, bytes]:
    """Return the headers and the problem document that answer a request which reaches no handler."""
    body = msgspec.json.encode(problem_of(error, request_id))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    headers.append((b"link", help_of(error.code).encode()))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    return headers, body


def complete(headers: Headers, request_id: str, *, closing: bool) -> Headers:
    """Return the headers with those that every answer has added."""
    names = dict(headers)
    extra = [] if _NOT_STORED[0] in names else [_NOT_STORED]
    extra += [] if _NO_PAGE[0] in names else [_NO_PAGE]
    extra += [] if _NO_REFERRER[0] in names else [_NO_REFERRER]
    extra += [(b"connection", b"close")] if closing else []
    return [*headers, _NO_SNIFFING, *extra, (b"x-request-id", request_id.encode())]


def new_request_id(digits: str = "") -> str:
    """Return an id for a request that brings none, of the first of these random hex digits."""
    return f"req_{(digits or os.urandom(ID_BYTES).hex())[:ID_DIGITS]}"


async def _allow(send: Send) -> None:
    """Answer a preflight; its headers are those of every answer to it."""
    await send(HTTPResponseStartEvent(type="http.response.start", status=204, headers=[]))
    await send(_end())


async def _refuse(error: PenstockError, request_id: str, send: Send) -> None:
    headers, body = refusal(error, request_id)
    await send(HTTPResponseStartEvent(type="http.response.start", status=error.status, headers=headers))
    await send(HTTPResponseBodyEvent(type="http.response.body", body=body, more_body=False))


def _end() -> HTTPResponseBodyEvent:
    return HTTPResponseBodyEvent(type="http.response.body", body=b"", more_body=False)


def _is_long_body(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or int(length) > READ_ANYWAY_BYTES


def _record(scope: Scope, method: str, status: int, seconds: float) -> None:
    route = scope.get("path_template") or UNMATCHED
    method = method if method in METHODS else OTHER_METHOD
    # A request may wait for the end of its task; that time says nothing about how fast the server is.
    worked_s = seconds - scope["state"].get("waited_s", 0.0)
    metrics.report("http.requests", worked_s, route=route, method=method, status=str(status))
    is_poll = status == NOT_MODIFIED or route == PREFLIGHT or (route in _QUIET and method in ("GET", "HEAD"))
    level = "DEBUG" if is_poll else "INFO"
    write_line(level, "request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))
