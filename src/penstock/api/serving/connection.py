"""One connection of a client: HTTP by uvicorn and httptools, with limits on its size and on its time.

It relies on these internals of uvicorn's `HttpToolsProtocol`; tests/api/test_serve.py fails when one of them changes:
`transport`, `parser`, `cycle`, `pipeline`, `headers`, `url`, `client`, the names of the parser's callbacks and of
`on_response_complete`, the cycle's `disconnected`, `message_event`, `response_started` and `response_complete`, and
that `send_400_response` is called while the parser's error is being handled.
"""

import asyncio
import sys
from typing import Any, cast

import httptools
from loguru import logger
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from penstock.api.http.addresses import ClientAddresses
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
HEAD_PIECE = 16 * 1024
"""So much of a head is parsed at a time: thousands of headers may stand in what comes at once."""
TOO_MANY_HEADERS = f"the request has more than {MAX_HEADERS} headers"
HEAD_TOO_LONG = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"
STALL_TIMEOUT_S = 60.0
"""A client that reads less than about 48 KiB of an answer in this time is cut off."""
CLOSING_S = LINGER_S + 5
"""Longest time from the end of a connection until what is left of its answer is taken."""


class Limits(Struct, frozen=True, kw_only=True, eq=False):
    """What the connections of a process share."""

    admission: Admission
    addresses: ClientAddresses
    receive_s: float
    receive_bytes_per_s: int
    keep_alive_s: float


class BoundedHttp(HttpToolsProtocol):
    """One connection, with limits that uvicorn does not have.

    The head of a request has a longest size and time, a request as a whole a deadline, and a connection that is silent
    is closed after `keep_alive_s`, whatever bytes it has sent that begin no request. A client that does not take its
    answer is cut off. A client that is still sending after its answer may send the rest, which is dropped
    (`LingeringTransport`).

    The server calls `expire` when `due` has passed: one number for whatever the connection waits for now costs a
    request less than timers would.
    """

    def __init__(self, limits: Limits, place: Place, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.due = NEVER
        self._limits = limits
        self._place = place
        self._behind_proxy: str | None = None
        self._is_receiving = self._in_head = False
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
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a request, and drop bytes that come after the answer."""
        if self._lingering.is_lingering:
            self._lingering.drop(len(data))
            return
        if len(data) > HEAD_PIECE and (self._in_head or not self._is_receiving):
            self.data_received(data[:HEAD_PIECE])
            if not self._lingering.is_closing():
                self.data_received(data[HEAD_PIECE:])
            return
        self._clock.received += len(data)
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._check_head()

    def _check_head(self) -> None:
        too_long = HEAD_TOO_LONG if self._head_bytes > MAX_HEAD_BYTES else ""
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

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser cannot read with a problem document, as every refusal; `msg` is uvicorn's text."""
        error = sys.exception()
        if isinstance(error, httptools.HttpParserCallbackError):
            error = error.__context__  # the error that our callback raised
        self._is_receiving = True
        if isinstance(error, PenstockError):
            self._refuse(error)
            return
        said = f"{_NOT_HTTP}: {str(error).lower()}" if isinstance(error, httptools.HttpParserError) else _NOT_HTTP
        self._refuse(MalformedRequest(said))

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
        self._in_head = False
        self.due = self._clock.first_look()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            raise MalformedRequest(HEAD_TOO_LONG)  # ends the parser, which calls `send_400_response`
        if len(self.headers) > MAX_HEADERS:
            raise MalformedRequest(TOO_MANY_HEADERS)
        if self._place.address == BEHIND_PROXY:
            self._count_client()
        self._limits.admission.is_busy(self._place)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that nothing more of the request is to come."""
        self._is_receiving = False
        super().on_message_complete()
        answered = self.cycle is None or self.cycle.response_complete
        self.due = self.loop.time() + self._limits.keep_alive_s if answered else NEVER

    def on_response_complete(self) -> None:
        """Start the time for the next request, or anew for the rest of one that was answered early."""
        self._end_of_client()
        is_last = not self.pipeline
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
        cycle, request_id = self.cycle, new_request_id()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.transport.write(written(error, request_id))
        self.transport.close()
        self.due = self.loop.time() + CLOSING_S
        self._limits.admission.is_silent(self._place)
        metrics.report("http.requests", 0.0, route=UNMATCHED, method="", status=str(error.status))
        logger.bind(request_id=request_id, status=error.status, reason=error.detail).info("request refused")

    def _is_taken(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def written(error: PenstockError, request_id: str) -> bytes:
    """Return the whole answer, with which a connection ends, to a request that reaches no handler."""
    headers, body = refusal(error, request_id)
    lines = [b"%b: %b\r\n" % header for header in complete(headers, request_id, closing=True)]
    return b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body])


_NOT_HTTP = "the request cannot be read as HTTP/1.1"
