"""The server process: uvicorn with uvloop and httptools, bounds on what it listens to, a stop that nobody notices."""

import asyncio
import resource
import signal
import socket
import time
from types import FrameType

import uvicorn
from litestar import Litestar
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.api.app import create_app
from penstock.api.services import open_services
from penstock.runners import load_runners
from penstock.settings import Settings

BACKLOG = 1024
FILES = 65_536
MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; most proxies allow 8 to 32 KiB."""
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
    does not take its answer is cut off: what waits for it would be held for as long as it likes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is open: the client has to say something."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_is_here()
        self._is_taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, of a body, or of both."""
        if self._deadline is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """A request begins, perhaps the next one of an open connection."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is here."""
        self._head_is_here()
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD_BYTES:
            raise ValueError("the head of the request is too long")  # the parser stops, and uvicorn answers 400
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """What was sent has filled every buffer on the way to the client."""
        super().pause_writing()
        self._is_taken()
        self._stalled = self.loop.call_later(STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client goes on taking it."""
        self._is_taken()
        super().resume_writing()

    def _is_taken(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _await_head(self) -> None:
        if self._deadline is None:
            self._head_bytes = 0
            self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def _try(settings: Settings) -> None:
    """What is wrong with the set-up is one line here, and a traceback once uvicorn is between."""
    async with open_services(settings, tuple(load_runners(settings.models))):
        pass
