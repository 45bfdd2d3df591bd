"""The server process: uvicorn with uvloop and httptools, bounds on what it listens to, a stop that nobody notices."""

import asyncio
import math
import resource
import signal
import socket
import sys
import time
from types import FrameType
from typing import cast

import httptools
import uvicorn
from litestar import Litestar
from loguru import logger
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from penstock.api.app import create_app
from penstock.api.http.lingering import LingeringTransport
from penstock.api.http.request_context import UNMATCHED, complete, new_request_id, refusal
from penstock.api.services import open_services
from penstock.errors import MalformedRequest
from penstock.models import load_runners
from penstock.settings import Settings
from penstock.telemetry import metrics

BACKLOG = 1024
FILES = 65_536
MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; most proxies allow 8 to 32 KiB."""
HEAD_TOO_LONG = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"
HEAD_TIMEOUT_S = 10.0
"""From the connection, or the first byte of a later request, to the end of its headers."""
STALL_TIMEOUT_S = 60.0
"""A client that takes less than about 48 KiB of an answer in this time is cut off."""


def serve(settings: Settings, *, listen_fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `listen_fd` is a bound socket inherited from the parent, who so knows the port.

    Raises ConfigurationError when a setting, or the set-up of Redis, cannot be right.
    """
    _allow_files()
    server = Server(settings)
    asyncio.run(_try(settings))
    server.run(None if listen_fd is None else [socket.socket(fileno=listen_fd)])


def _allow_files() -> None:
    """As many open files as this process may ask for: many systems start it with 1,024, fewer than the clients and
    webhooks of a busy server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if 0 <= most < FILES else FILES, most))


class Server(uvicorn.Server):
    """Told to stop, it says so at /readyz at once, answers those who wait for a task's end, and asks every client to
    close its connection, but goes on accepting for `api.linger_s` and until no request is in flight, for `api.drain_s`
    at most: a proxy that looks at /readyz in that time sees no error."""

    def __init__(self, settings: Settings) -> None:
        self.app: Litestar = create_app(settings)
        self._linger_s = settings.api.linger_s
        self._drain_s = settings.api.drain_s
        self._lingers_until = 0.0
        super().__init__(
            uvicorn.Config(
                self.app,
                host=settings.api.host,
                port=settings.api.port,
                loop="uvloop",
                http=BoundedHttp,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                proxy_headers=False,  # `origins` knows whom to believe, and what else proxies say
                timeout_keep_alive=math.ceil(settings.api.keep_alive_s),
                timeout_graceful_shutdown=max(1, round(settings.api.drain_s)),
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second SIGINT stops at once. Nothing is raised again afterwards: a stop on
        request is a success."""
        if self.app.state.draining:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
        else:
            self.drain()

    def drain(self) -> None:
        """Stop, politely."""
        self._lingers_until = time.monotonic() + self._linger_s
        self.app.state.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop now."""
        now = time.monotonic()
        if self.app.state.draining:
            self.app.state.services.waiting.end_all()
            self.app.state.services.watching.end_all()
        if self.app.state.draining and now >= self._lingers_until:
            drained_by = self._lingers_until + self._drain_s
            if not self.server_state.tasks or now >= drained_by:
                self.should_exit = True
                self.config.timeout_graceful_shutdown = max(1, round(drained_by - now))
        return await super().on_tick(counter)


class BoundedHttp(HttpToolsProtocol):
    """Answers 400 and closes when the head of a request is too long; closes without a word when it takes too long.
    Without these bounds, one client that never ends a header holds a connection and any amount of memory. A client that
    does not take its answer is cut off: what waits for it would be held for as long as it likes. One that is still
    sending when it has its answer may send the rest, which nobody reads.

    Of uvicorn's protocol it relies on `transport`, `parser`, `cycle`, `headers`, `url` and `timeout_keep_alive`, on the
    names of the parser's callbacks, and on `send_400_response` being called while the error is handled.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is open: the client has to say something."""
        self._is_receiving = False
        self._lingering = LingeringTransport(transport, lambda: self._is_receiving)
        super().connection_made(cast(asyncio.Transport, self._lingering))
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_is_here()
        self._is_taken()
        self._lingering.close_now()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, of a body, or of both; or of what nobody reads."""
        if self._lingering.is_lingering:
            self._lingering.drop(len(data))
            return
        if self._deadline is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._is_receiving = True
            self._refuse(HEAD_TOO_LONG)
        self._limit_idle_time()

    def send_400_response(self, msg: str) -> None:
        """What the parser cannot read is answered as every refusal is; its own words say what it is."""
        error = sys.exception()
        if isinstance(error, httptools.HttpParserCallbackError):
            error = error.__context__
        self._is_receiving = True
        is_ours = isinstance(error, _HeadTooLong)
        said = f"{_NOT_HTTP}: {str(error).lower()}" if isinstance(error, httptools.HttpParserError) else _NOT_HTTP
        self._refuse(str(error) if is_ours else said)

    def on_message_begin(self) -> None:
        """A request begins, perhaps the next one of an open connection."""
        super().on_message_begin()
        self._is_receiving = True
        self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is here."""
        self._head_is_here()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            raise _HeadTooLong(HEAD_TOO_LONG)  # the parser stops, and what it says is answered
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is here."""
        self._is_receiving = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        """What was sent has filled every buffer on the way to the client."""
        super().pause_writing()
        self._is_taken()
        self._stalled = self.loop.call_later(STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client goes on taking it."""
        self._is_taken()
        super().resume_writing()

    def _refuse(self, detail: str) -> None:
        """Answer a request that reaches no handler, unless another answer is on its way over this connection."""
        cycle, error, request_id = self.cycle, MalformedRequest(detail), new_request_id()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        headers, body = refusal(error, request_id)
        lines = [b"%b: %b\r\n" % header for header in complete(headers, request_id, closing=True)]
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))
        self.transport.close()
        metrics.report("http.requests", 0.0, route=UNMATCHED, method="", status=str(error.status))
        logger.bind(request_id=request_id, status=error.status, reason=detail).info("request refused")

    def _limit_idle_time(self) -> None:
        """Of a connection with bytes that belong to an answered request: uvicorn has stopped its clock, and would not
        start it again."""
        answered = self.cycle is not None and self.cycle.response_complete
        if answered and self._deadline is None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _is_taken(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _await_head(self) -> None:
        if self._deadline is None:
            self._head_bytes = 0
            self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._lingering.close_now)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _HeadTooLong(ValueError):
    """Raised in a callback of the parser."""


_NOT_HTTP = "the request cannot be read as HTTP/1.1"


async def _try(settings: Settings) -> None:
    """What is wrong with the set-up is one line here, and a traceback once uvicorn is between."""
    async with open_services(settings, tuple(load_runners(settings.models))):
        pass
