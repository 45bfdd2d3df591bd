"""The server process: uvicorn with uvloop and httptools, our own listeners and connections, and a graceful shutdown.

It relies on these internals of uvicorn; tests/api/test_serve.py fails when one of them changes:
- The main loop calls `Server.on_tick` ten times a second, and the signal handlers call `Server.handle_exit`.
- The shutdown begins when `on_tick` returns true, and only then reads `config.timeout_graceful_shutdown`.
- `server_state.tasks` has one task for each request in flight, `server_state.connections` each open connection.
- `startup` with no sockets runs the lifespan and listens nowhere; `servers` are closed by the shutdown.
"""

import asyncio
import math
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol, cast

import uvicorn
from litestar import Litestar
from loguru import logger
from msgspec import Struct

from penstock import collector, service_manager
from penstock.allocator import return_large_buffers
from penstock.api.app import create_app
from penstock.api.http.addresses import ClientAddresses
from penstock.api.http.cors import Cors
from penstock.api.http.request_context import new_request_id
from penstock.api.services import open_services
from penstock.api.serving.acceptor import AT_ONCE, Acceptor
from penstock.api.serving.admission import Admission, Place
from penstock.api.serving.connection import BoundedHttp, Limits, written
from penstock.api.serving.files import Connections, connections_for, raise_file_limit
from penstock.api.serving.listeners import bound
from penstock.errors import NotReady
from penstock.settings import ApiSettings, Settings

BACKLOG = 1024
"""Connections that the kernel holds until they are accepted; Linux allows at most net.core.somaxconn (4,096)."""
START_FAILED = 3
"""The exit status of uvicorn when the server cannot start."""
SWITCH_S = 0.001
"""A thread that decodes a long body leaves the event loop its turn after this time; by default it is 5 ms."""
TICKS_PER_LOOK = 10
"""The times of connections are looked at once a second: about 1 ms for 10,000 of them."""


class Parent(Protocol):
    """The way to the process that keeps this one running: see `penstock.worker.heartbeat`."""

    def ready(self, metrics_url: str, *, drain: Callable[[], None], drain_s: float) -> None:
        """Tell it that requests are answered from now on, and where the metrics of this process are."""

    async def beat(self) -> None:
        """Tell it again and again that the event loop runs."""


class Supervised(Struct, frozen=True, kw_only=True):
    """What a parent passes to one of its processes of the API. They share the bound sockets `listen_fds`.

    `metrics_url` is where this process serves its own metrics, `metrics_of_all` where the parent serves the sum.
    """

    listen_fds: tuple[int, ...]
    metrics_url: str = ""
    metrics_of_all: str = ""
    parent: Parent | None = None


def serve(settings: Settings, supervised: Supervised | None = None) -> None:
    """Serve until SIGTERM or SIGINT, at the address of the settings or at the sockets of the parent.

    Raises ConfigurationError when a setting, or the set-up of Redis, cannot be right.
    """
    return_large_buffers()
    sys.setswitchinterval(SWITCH_S)
    server = ApiServer(settings, supervised)
    asyncio.run(_check_services(settings))
    collector.end_start()
    server.run([socket.socket(fileno=fd) for fd in supervised.listen_fds] if supervised else None)
    if server.app.state.misfit:
        raise server.app.state.misfit


class ApiServer(uvicorn.Server):
    """A uvicorn server whose shutdown loses no request.

    From the signal on, /readyz answers 503, requests that wait for the end of a task are answered, and every answer
    asks its client to close the connection. The server still accepts connections for `api.linger_s`, in which a proxy
    notices /readyz, and then until no request is in flight, for `api.drain_s` at most.
    """

    def __init__(self, settings: Settings, supervised: Supervised | None = None) -> None:
        connections = connections_for(settings.api, raise_file_limit())
        metrics_of_all = supervised.metrics_of_all if supervised else ""
        self.app: Litestar = create_app(
            settings, most_of_tenant=connections.most_of_tenant, metrics_of_all=metrics_of_all
        )
        self._supervised = supervised
        self._at_once = AT_ONCE if settings.api.processes == 1 else 1
        self._linger_s = settings.api.linger_s
        self._drain_s = settings.api.drain_s
        self._lingers_until = 0.0
        self._limits = limits_of(settings.api, connections, self.app.state.cors)
        super().__init__(
            uvicorn.Config(
                self.app,
                host=settings.api.host,
                port=settings.api.port,
                loop="uvloop",
                http=BoundedHttp,  # only `_protocol` makes them
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
        """Start a graceful shutdown, unless one goes on."""
        if not self.app.state.draining:
            service_manager.tell("STOPPING=1")
            self._lingers_until = time.monotonic() + self._linger_s
            self.app.state.draining = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open what the application needs, and listen, at these sockets or at the address of the settings."""
        await super().startup(sockets=[])
        listeners = sockets if sockets is not None else await self._bind()
        limits = self._limits
        acceptors = [
            Acceptor(listener, self._protocol, limits.admission, limits.addresses, _too_many, BACKLOG, self._at_once)
            for listener in listeners
        ]
        self.servers = cast(list[asyncio.Server], acceptors)  # they have what uvicorn calls of asyncio's servers
        self._tell_who_has_started_it()

    def _tell_who_has_started_it(self) -> None:
        beat = service_manager.beat
        if self._supervised is not None:
            if (parent := self._supervised.parent) is None:
                return
            drain_s = self._linger_s + self._drain_s
            parent.ready(self._supervised.metrics_url, drain=self.drain, drain_s=drain_s)
            beat = parent.beat
        self._beating = asyncio.create_task(beat(), name="heartbeat")

    async def _bind(self) -> list[socket.socket]:
        try:
            return bound(str(self.config.host), int(self.config.port), BACKLOG)
        except OSError as error:
            logger.error("cannot listen at {}:{}: {}", self.config.host, self.config.port, error)
            await self.lifespan.shutdown()
            sys.exit(START_FAILED)

    def _protocol(self, place: Place) -> BoundedHttp:
        return BoundedHttp(
            self._limits,
            place,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop now; uvicorn asks ten times a second."""
        now = time.monotonic()
        if counter % TICKS_PER_LOOK == 0:
            self._end_overdue(asyncio.get_running_loop().time())
        if self.app.state.misfit:  # not one more answer from a Redis that is not ours
            self.should_exit = True
        if self.app.state.draining or self.should_exit:
            self.app.state.services.end_waits()
        if self.app.state.draining and now >= self._lingers_until:
            drained_by = self._lingers_until + self._drain_s
            if not self.server_state.tasks or now >= drained_by:
                self.should_exit = True
                self.config.timeout_graceful_shutdown = max(1, round(drained_by - now))
        return await super().on_tick(counter)

    def _end_overdue(self, now: float) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedHttp) and now >= connection.due:
                connection.expire(now)


def limits_of(api: ApiSettings, connections: Connections, cors: Cors) -> Limits:
    """Return what the connections of this process share."""
    return Limits(
        admission=Admission(connections.most, connections.most_of_one),
        addresses=ClientAddresses(api.trusted_proxies),
        cors=cors,
        receive_s=api.receive_s,
        receive_bytes_per_s=api.receive_bytes_per_s,
        keep_alive_s=api.keep_alive_s,
    )


def _too_many() -> bytes:
    return written(NotReady("too many connections are open", retry_after_s=1), new_request_id())


async def _check_services(settings: Settings) -> None:
    # An error of the set-up is one line from here; from uvicorn's lifespan it would be a traceback. All else is said
    # when the services are opened again, to be used.
    logger.disable("penstock")
    logger.enable("penstock.store.conversion")  # there is nothing to convert the second time
    try:
        async with open_services(settings):
            pass
    finally:
        logger.enable("penstock")
