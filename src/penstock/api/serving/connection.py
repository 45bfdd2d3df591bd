"""One connection of a client: HTTP by uvicorn and httptools, with limits on its size and on its time.

It relies on these internals of uvicorn's `HttpToolsProtocol`; tests/api/test_serve.py fails when one of them changes:
`transport`, `parser`, `flow`, `cycle`, `pipeline`, `headers`, `url`, `client`, the names of the parser's callbacks and
of `on_response_complete`, `_unset_keepalive_if_required`, and the cycle's `disconnected`, `message_event`,
`response_started` and `response_complete`.
"""

import asyncio
from itertools import chain
from typing import Any, cast

import httptools
from loguru import logger
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from penstock.api.http.addresses import ClientAddresses
from penstock.api.http.cors import CLOSED, Cors
from penstock.api.http.headers import Headers
from penstock.api.http.request_context import UNMATCHED, complete, new_request_id, refusal
from penstock.api.serving.admission import BEHIND_PROXY, Admission, Place
from penstock.api.serving.deadlines import HEAD_S, NEVER, ReceiveClock
from penstock.api.serving.lingering import LINGER_S, LingeringTransport
from penstock.errors import MalformedRequest, PenstockError, RateLimited, RequestTimeout
from penstock.telemetry import metrics

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; most proxies allow 8 to 32 KiB."""
MAX_HEADERS = 128
"""As many as most servers and proxies allow, or more."""
HEAD_PIECE = 1024
"""So much is parsed at a time where a head is expected. Thousands of headers, and of requests, may stand in what comes
at once, and a request that is parsed takes a hundred times its bytes."""
TOO_MANY_HEADERS = f"the request has more than {MAX_HEADERS} headers"
HEAD_TOO_LONG = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"
NO_BODY = f"more than {MAX_HEAD_BYTES} bytes of a body in chunks belong to no chunk"
STALL_TIMEOUT_S = 60.0
"""A client that reads less than about 48 KiB of an answer in this time is cut off."""
CLOSING_S = LINGER_S + 5
"""Longest time from the end of a connection until what is left of its answer is taken."""


class Limits(Struct, frozen=True, kw_only=True, eq=False):
    """What the connections of a process share."""

    admission: Admission
    addresses: ClientAddresses
    cors: Cors
    receive_s: float
    receive_bytes_per_s: int
    keep_alive_s: float


class BoundedHttp(HttpToolsProtocol):
    """One connection, with limits that uvicorn does not have.

    The head of a request has a longest size and time, a request as a whole a deadline, and a connection that is silent
    is closed after `keep_alive_s`, whatever bytes it has sent that begin no request. A client that does not take its
    answer is cut off. A client that is still sending after its answer may send the rest, which is dropped
    (`LingeringTransport`). What comes after a whole request is parsed when that is answered. A request to speak another
    protocol (`Upgrade`), as some clients send with each first request, is answered in this one.

    The server calls `expire` when `due` has passed: one number for whatever the connection waits for now costs a
    request less than timers would.
    """

    def __init__(self, limits: Limits, place: Place, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.access_log = False  # `RequestContext` writes the lines, whoever listens to uvicorn's logger
        self.due = NEVER
        self._limits = limits
        self._place = place
        self._behind_proxy: str | None = None
        self._is_receiving = self._in_head = False
        self._came, self._parsed = b"", 0  # bytes of the client, and how many of them are parsed
        self._current: RequestResponseCycle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        self._clock = ReceiveClock(self._limits.receive_s, self._limits.receive_bytes_per_s)
        self._lingering = LingeringTransport(transport, lambda: self._is_receiving, self._clock)
        super().connection_made(cast(asyncio.Transport, self._lingering))
        self._in_head = True
        self._head_bytes = 0
        self.due = self.loop.time() + HEAD_S
        self._place.close = self._lingering.abort

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back the place of this connection, and stop its timers."""
        self.due = NEVER
        self._limits.admission.leave(self._place)
        self._end_of_client()
        self._is_taken()
        self._lingering.close_now()
        if self._current is not None:
            self._current.disconnected = True  # uvicorn tells the request that came last, which may wait behind it
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, keep it while the request before it is answered, or drop it after the last answer."""
        if self._lingering.is_lingering:
            self._lingering.drop(len(data))
            return
        self._came = self._came[self._parsed :] + data
        self._parsed = 0
        self._parse_rest()

    def _parse_rest(self) -> None:
        while (left := len(self._came) - self._parsed) and not self.transport.is_closing():
            is_in_body = self._is_receiving and not self._in_head
            if self._current is not None and (self.pipeline or not is_in_body):
                if left > HEAD_PIECE:
                    self.flow.pause_reading()
                return
            size = left if is_in_body else min(left, HEAD_PIECE)
            piece = self._came[self._parsed : self._parsed + size]
            self._parsed += size
            self._parse(piece)
        self._came, self._parsed = b"", 0

    def _parse(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        self._clock.received += len(piece)
        self._head_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            rest = piece[upgrade.args[0] :] + self._came[self._parsed :]
            self._came, self._parsed = self._head_without_upgrade() + rest, 0
        except httptools.HttpParserError as error:
            self._refuse_unreadable(error)
        else:
            if (self._in_head or self._is_receiving) and not self.transport.is_closing():
                self._check_head()

    def _check_head(self) -> None:
        too_long = (HEAD_TOO_LONG if self._in_head else NO_BODY) if self._head_bytes > MAX_HEAD_BYTES else ""
        too_many = TOO_MANY_HEADERS if self._is_receiving and len(self.headers) > MAX_HEADERS else ""
        if too_long or too_many:
            self._is_receiving = True
            self._refuse(MalformedRequest(too_long or too_many))

    def expire(self, now: float) -> None:
        """End the connection if what it waits for takes too long; called when `due` has passed."""
        if self.transport.is_closing():
            self._close("stalled")
        elif self._is_receiving and not self._in_head and (due := self._clock.next_look(now)) > now:
            self.due = due
        elif not self._is_receiving:
            self._close("silent")
        elif self.cycle is not None and not self.cycle.response_complete and self._in_head:
            self.due = now + HEAD_S  # the answer to the request before it is still on its way
        else:
            self._give_up()

    def _refuse_unreadable(self, error: httptools.HttpParserError) -> None:
        raised = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None  # by our callback
        self._is_receiving = True
        if isinstance(raised, PenstockError):
            self._refuse(raised)
            return
        said = _NOT_HTTP if raised is not None else f"{_NOT_HTTP}: {str(error).lower()}"
        self._refuse(MalformedRequest(said))

    def _head_without_upgrade(self) -> bytes:
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([line, *kept, b"", b""])

    def on_message_begin(self) -> None:
        """Start the time for a request, perhaps the next one of an open connection."""
        super().on_message_begin()
        self._is_receiving = True
        if not self._in_head:
            self._in_head = True
            self._head_bytes = 0
        now = self.loop.time()
        self._clock.begin(now, self._limits.receive_s)
        self.due = now + min(HEAD_S, self._limits.receive_s)

    def on_headers_complete(self) -> None:
        """Start the time for the body, and refuse a head that is too long or a client with too many requests."""
        self._head_bytes = 0
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MalformedRequest("this server is no proxy")  # ends the parser: `_refuse_unreadable` is next
            return  # `_parse` does it again without the header that asks for it
        self._in_head = False
        self.due = self._clock.first_look()
        size = len(self.url) + sum(map(len, chain.from_iterable(self.headers))) + 4 * len(self.headers)
        if size > MAX_HEAD_BYTES:
            raise MalformedRequest(HEAD_TOO_LONG)
        if len(self.headers) > MAX_HEADERS:
            raise MalformedRequest(TOO_MANY_HEADERS)
        if self._place.address == BEHIND_PROXY:
            self._count_client()
        self._limits.admission.is_busy(self._place)
        super().on_headers_complete()
        if not self.pipeline:
            self._current = self.cycle

    def on_body(self, body: bytes) -> None:
        """Note that the body goes on: what stands between its chunks and after them has a longest size."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that nothing more of the request is to come."""
        if self._in_head:
            return  # it asks for another protocol, see `on_headers_complete`
        self._is_receiving = False
        super().on_message_complete()
        answered = self.cycle is None or self.cycle.response_complete
        self.due = self.loop.time() + self._limits.keep_alive_s if answered else NEVER

    def on_response_complete(self) -> None:
        """Start the time for the next request, or anew for the rest of one that was answered early."""
        self._end_of_client()
        is_last = not self.pipeline
        self._current = None if is_last else self.pipeline[-1][0]
        super().on_response_complete()
        now = self.loop.time()
        if self.transport.is_closing():
            self.due = now + CLOSING_S
        elif self._is_receiving:
            self.due = self._clock.begin(now, min(self._limits.receive_s, self._limits.keep_alive_s))
        elif is_last:
            self.due = now + self._limits.keep_alive_s
        if is_last:
            self._limits.admission.is_silent(self._place)
        if self._came:
            self._parse_rest()

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read; every buffer on the way to it is full."""
        super().pause_writing()
        self._is_taken()
        self._stalled = self.loop.call_later(STALL_TIMEOUT_S, self._close, "stalled")

    def resume_writing(self) -> None:
        """Stop that timer: the client reads again."""
        self._is_taken()
        super().resume_writing()

    def _count_client(self) -> None:
        self._end_of_client()
        address = self._limits.addresses.of_client(self.client[0] if self.client else "", self.headers)
        if not self._limits.admission.enter(address):
            raise RateLimited("too many requests of this address are in progress", retry_after_s=1)
        self._behind_proxy = address

    def _end_of_client(self) -> None:
        if self._behind_proxy is not None:
            self._limits.admission.exit(self._behind_proxy)
            self._behind_proxy = None

    def _give_up(self) -> None:
        """Ends a request that has not come in time, with an answer if there is none yet."""
        why = "head" if self._in_head else "body"
        if self._in_head or not self.cycle.response_started:
            metrics.report("connections.closed", why=why)
            self._refuse(RequestTimeout("the request did not come in time; send it faster, or in parts"))
            self._lingering.close_now()
        else:
            self._close(why)

    def _close(self, why: str) -> None:
        metrics.report("connections.closed", why=why)
        self.due = NEVER
        self._lingering.abort()

    def _refuse(self, error: PenstockError) -> None:
        """Answers a request that reaches no handler, unless an answer has begun on this connection."""
        cycle, request_id = self._current, new_request_id()
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(written(error, request_id, self._for_other_origins()))
        self.transport.close()
        self.due = self.loop.time() + CLOSING_S
        self._limits.admission.is_silent(self._place)
        metrics.report("http.requests", 0.0, route=UNMATCHED, method="", status=str(error.status))
        logger.bind(request_id=request_id, status=error.status, reason=error.detail).info("request refused")

    def _for_other_origins(self) -> Headers:
        """The headers for a refused request, whose head may not have come or may not be one."""
        if not self.headers:
            return CLOSED
        path, _, query = self.url.partition(b"?")
        method = self.parser.get_method().decode()
        return self._limits.cors.headers_of(method, path.decode("latin-1"), query, dict(self.headers))

    def _is_taken(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def written(error: PenstockError, request_id: str, for_other_origins: Headers = CLOSED) -> bytes:
    """Return the whole answer, with which a connection ends, to a request that reaches no handler."""
    headers, body = refusal(error, request_id)
    headers += for_other_origins
    lines = [b"%b: %b\r\n" % header for header in complete(headers, request_id, closing=True)]
    return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body])


_NOT_HTTP = "the request cannot be read as HTTP/1.1"
