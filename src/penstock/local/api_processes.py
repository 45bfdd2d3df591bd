"""The processes of the API: one or several that accept from the same sockets, kept running by a parent.

They inherit the sockets. With SO_REUSEPORT each would have a queue of its own: what waits in that of a process which
dies is lost, what waits in that of a busy one is not served by one that is free, and any other program of this user
could take a part of the connections.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from socket import socket

from loguru import logger

from penstock import service_manager
from penstock.api.serving.listeners import bound
from penstock.errors import ConfigurationError
from penstock.local.children import Child, Launch, Patience, python
from penstock.local.spares import SpareProcess
from penstock.local.supervisor import Supervisor
from penstock.settings import ApiSettings, Settings, clean_environment, environment_of
from penstock.telemetry.exposition import serve_collector
from penstock.telemetry.summed import Summed

API = "api"
"""The label of all processes together in the metrics, and the name of each with its number behind."""

LOOPBACK = "127.0.0.1"

PATIENCE = Patience(start_s=120.0, silence_s=60.0)
"""A process of the API beats from its event loop. One that is silent for so long answers nobody, and the connections
that it has accepted are lost either way. A start takes a second; it may take longer while the machine is busy."""


class ApiProcesses:
    """The processes of the API as children of a supervisor. A process that dies is replaced; connections that wait at
    the sockets meanwhile are accepted by the others, or by the next.

    `metrics` is the sum over all, and `is_with_own` adds what this process counts itself.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket],
        supervisor: Supervisor,
        *,
        is_with_own: bool = False,
        spares: Sequence[SpareProcess] = (),
    ) -> None:
        self._settings = settings
        self._fds = tuple(listener.fileno() for listener in listeners)
        self._supervisor = supervisor
        self._spares = spares
        several = range(1, settings.api.processes + 1)
        self._names = [f"{API}-{number}" for number in several] if len(several) > 1 else [API]
        self.metrics = Summed(lambda: list(supervisor.metrics(API).values()), is_with_own=is_with_own)

    def start(self) -> None:
        """Start all processes, and serve their metrics together. Raises ConfigurationError when the port of the metrics
        is taken."""
        host, port = self._settings.telemetry.metrics_host, self._settings.api.metrics_port
        if port:
            try:
                serve_collector(host, port, self.metrics)
            except OSError as error:
                why = f"cannot listen on {host}:{port}: {error.strerror}"
                raise ConfigurationError(f"api.metrics_port: {why}") from error
        of_all = f"http://{LOOPBACK}:{serve_collector(LOOPBACK, 0, self.metrics)}/metrics"
        for name, spare in zip_longest(self._names, self._spares[: len(self._names)]):
            self._supervisor.add(self._child(name, of_all, spare))

    def missing(self) -> str:
        """Why some of the connections may have to wait still; empty when every process accepts them."""
        ready = self._supervisor.metrics(API)
        starting = [name for name in self._names if name not in ready]
        return f"{', '.join(starting)} of the API still starts" if starting else ""

    def _child(self, name: str, metrics_of_all: str, spare: SpareProcess | None) -> Child:
        sockets = [word for fd in self._fds for word in ("--listen-fd", str(fd))]
        launch = Launch(
            argv=python("api-process", "--name", name, "--metrics-of-all", metrics_of_all, *sockets),
            environment=clean_environment() | environment_of(self._settings),
            pass_fds=self._fds,
        )
        api = self._settings.api
        return Child(
            name=name,
            rank=2,
            launch=lambda: launch,
            grace_s=api.linger_s + api.drain_s + 5,
            reports=PATIENCE,
            group=API,
            spare=spare,
        )


async def serve_api(settings: Settings, spares: Sequence[SpareProcess] = ()) -> int:
    """Run the processes of the API, made of spare ones first, at the address of the settings until a signal. Returns
    the exit status.

    Raises ConfigurationError when it cannot listen.
    """
    supervisor = Supervisor()
    supervisor.stop_on_signals()
    with _listening(settings.api) as listeners:
        try:
            ApiProcesses(settings, listeners, supervisor, is_with_own=True, spares=spares).start()
            host, port = listeners[0].getsockname()[:2]
            logger.bind(host=host, port=port, processes=settings.api.processes).info("the API starts")
            await service_manager.told(supervisor.until_stopped())
        finally:
            await supervisor.close()
    return supervisor.exit_status


@contextmanager
def _listening(api: ApiSettings) -> Iterator[list[socket]]:
    try:
        listeners = bound(api.host, api.port)
    except OSError as error:
        why = f"cannot listen on {api.host}:{api.port}: {error.strerror}"
        raise ConfigurationError(f"api.port: {why}; give --port") from error
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()
