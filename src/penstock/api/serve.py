"""The server process: uvicorn with uvloop and httptools, and a stop that no client notices."""

import asyncio
import signal
import socket
import time
from types import FrameType

import uvicorn
from litestar import Litestar

from penstock.api.app import create_app
from penstock.api.services import open_services
from penstock.runners import load_runners
from penstock.settings import Settings

BACKLOG = 1024


def serve(settings: Settings, *, listen_fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `listen_fd` is a bound socket inherited from the parent, who so knows the port.

    Raises ConfigurationError when a setting, or the set-up of Redis, cannot be right.
    """
    server = Server(settings)
    asyncio.run(_try(settings))
    server.run(None if listen_fd is None else [socket.socket(fileno=listen_fd)])


class Server(uvicorn.Server):
    """Told to stop, it says so at /readyz at once, and goes on accepting until no request is in flight, for
    `api.drain_s` at most: a proxy that still sends requests here sees no error."""

    def __init__(self, settings: Settings) -> None:
        self.app: Litestar = create_app(settings)
        self._drain_s = settings.api.drain_s
        self._drained_by = 0.0
        super().__init__(
            uvicorn.Config(
                self.app,
                host=settings.api.host,
                port=settings.api.port,
                loop="uvloop",
                http="httptools",
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
        self._drained_by = time.monotonic() + self._drain_s
        self.app.state.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop now."""
        if self.app.state.draining and not (self.server_state.tasks and time.monotonic() < self._drained_by):
            self.should_exit = True
            self.config.timeout_graceful_shutdown = max(1, round(self._drained_by - time.monotonic()))
        return await super().on_tick(counter)


async def _try(settings: Settings) -> None:
    """What is wrong with the set-up is one line here, and a traceback once uvicorn is between."""
    async with open_services(settings, tuple(load_runners(settings.models))):
        pass
