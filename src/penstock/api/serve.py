"""The server process: uvicorn with uvloop and httptools, limits on its connections, and a graceful shutdown.

It relies on these internals of uvicorn; tests/api/test_serve.py fails when one of them changes:
- The main loop calls `Server.on_tick` ten times a second, and the signal handlers call `Server.handle_exit`.
- The shutdown begins when `on_tick` returns true, and only then reads `config.timeout_graceful_shutdown`.
- `server_state.tasks` has one task for each request in flight.
- `HttpToolsProtocol` has the attributes and callbacks that `BoundedHttp` names.
"""

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
from penstock.settings import Settings
from penstock.telemetry import metrics

BACKLOG = 1024
"""Connections that the kernel holds until they are accepted; Linux allows at most net.core.somaxconn (4,096)."""
FILES = 65_536
"""Limit of open files to ask for: more than the connections that one process can serve."""
MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; most proxies allow 8 to 32 KiB."""
HEAD_TOO_LONG = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"
HEAD_TIMEOUT_S = 10.0
"""Longest time from the connection, or from the first byte of a later request, to the end of the headers."""
STALL_TIMEOUT_S = 60.0
"""A client that reads less than about 48 KiB of an answer in this time is cut off."""


def serve(settings: Settings, *, listen_fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `listen_fd` is a bound socket that the parent process passes on.

    Raises ConfigurationError when a setting, or the set-up of Redis, cannot be right.
    """
    _raise_file_limit()
    server = ApiServer(settings)
    asyncio.run(_check_services(settings))
    server.run(None if listen_fd is None else [socket.socket(fileno=listen_fd)])


def _raise_file_limit() -> None:
    # Many systems start a process with a limit of 1,024, fewer than the clients and webhooks of a busy server.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if 0 <= most < FILES else FILES, most))


class ApiServer(uvicorn.Server):
    """A uvicorn server whose shutdown loses no request.

    From the signal on, /readyz answers 503, requests that wait for the end of a task are answered, and every answer
    asks its client to close the connection. The server still accepts connections for `api.linger_s`, in which a proxy
    notices /readyz, and then until no request is in flight, for `api.drain_s` at most.
    """

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
                proxy_headers=False,  # `http.origins` reads these headers, and knows which proxies to trust
                timeout_keep_alive=math.ceil(settings.api.keep_alive_s),
                timeout_graceful_shutdown=max(1, round(settings.api.drain_s)),
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, and stop at once at a second SIGINT.

        uvicorn would raise the signal again after the shutdown; this does not, since a requested stop is a success.
        """
        if self.app.state.draining:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
        else:
            self.drain()

    def drain(self) -> None:
        """Start a graceful shutdown."""
        self._lingers_until = time.monotonic() + self._linger_s
        self.app.state.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop now; uvicorn asks ten times a second."""
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
    """One connection, with limits that uvicorn does not have.

    It answers 400 and closes when the head of a request is too long, and closes without an answer when the head takes
    too long: else one client that never ends a header holds a connection and any amount of memory. It cuts off a client
    that does not read its answer, which would be held in memory as long. A client that is still sending after its
    answer may send the rest, which is dropped (`LingeringTransport`).

    Internals of `HttpToolsProtocol` that it relies on: `transport`, `parser`, `cycle`, `headers`, `url`,
    `timeout_keep_alive` and its timer `timeout_keep_alive_task`, the names of the parser's callbacks, the cycle's
    `disconnected`, `message_event`, `response_started` and `response_complete`, and that `send_400_response` is called
    while the parser's error is being handled.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        self._is_receiving = False
        self._lingering = LingeringTransport(transport, lambda: self._is_receiving)
        super().connection_made(cast(asyncio.Transport, self._lingering))
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers of this connection."""
        self._head_is_here()
        self._is_taken()
        self._lingering.close_now()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head, and drop bytes that come after the answer."""
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
        """Answer what the parser cannot read with a problem document, as every refusal; `msg` is uvicorn's text."""
        error = sys.exception()
        if isinstance(error, httptools.HttpParserCallbackError):
            error = error.__context__  # the error that our callback raised
        self._is_receiving = True
        is_ours = isinstance(error, _HeadTooLong)
        said = f"{_NOT_HTTP}: {str(error).lower()}" if isinstance(error, httptools.HttpParserError) else _NOT_HTTP
        self._refuse(str(error) if is_ours else said)

    def on_message_begin(self) -> None:
        """Start the timer for a request, perhaps the next one of an open connection."""
        super().on_message_begin()
        self._is_receiving = True
        self._await_head()

    def on_headers_complete(self) -> None:
        """Stop the timer, and refuse a head that is too long."""
        self._head_is_here()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            raise _HeadTooLong(HEAD_TOO_LONG)  # ends the parser, which calls `send_400_response`
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that nothing more of the request is to come."""
        self._is_receiving = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read; every buffer on the way to it is full."""
        super().pause_writing()
        self._is_taken()
        self._stalled = self.loop.call_later(STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that timer: the client reads again."""
        self._is_taken()
        super().resume_writing()

    def _refuse(self, detail: str) -> None:
        """Answers a request that reaches no handler, unless an answer has begun on this connection."""
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
        # Bytes of a request that is answered already make uvicorn stop the keep-alive timer, and nothing restarts it.
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
    """Ends the parser from within one of its callbacks."""


_NOT_HTTP = "the request cannot be read as HTTP/1.1"


async def _check_services(settings: Settings) -> None:
    # An error of the set-up is one line from here; from uvicorn's lifespan it would be a traceback.
    async with open_services(settings):
        pass
