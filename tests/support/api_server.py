"""A real API server: uvicorn on a free port, in a thread of the tests or in a process."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx

from penstock.api.serve import ApiServer
from penstock.settings import Settings, environment_of
from tests.support.published import publish_now

STARTED_WITHIN_S = 60.0
_PROCESS = """
import sys
from penstock.api.serve import Supervised, serve
from penstock.settings import load
from penstock.telemetry.logs import set_up_logs

settings = load(None)
set_up_logs(settings.telemetry, process="api")
serve(settings, Supervised(listen_fds=(int(sys.argv[1]),)))
"""


@contextmanager
def in_thread(settings: Settings, *, is_published: bool = True) -> Iterator[str]:
    """Publishes the models as a worker would, serves the settings in a thread, which starts within 0.1 s, and yields
    the URL."""
    if is_published:
        publish_now(settings)
    server = ApiServer(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],), name="api")
    thread.start()
    give_up = time.monotonic() + STARTED_WITHIN_S
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < give_up, "the server did not start in time"
        time.sleep(0.005)
    try:
        yield _url(listener)
    finally:
        server.drain()
        thread.join(STARTED_WITHIN_S)


class Kept:
    """A server in a thread. It is kept between uses with equal settings, and replaced when they differ."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._running = ExitStack()
        self._url = ""

    def __enter__(self) -> "Kept":
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def url_of(self, settings: Settings) -> str:
        """Returns the URL of a server with these settings."""
        if settings != self._settings:
            self._running.close()
            self._url = self._running.enter_context(in_thread(settings))
            self._settings = settings
        return self._url


class ServerProcess:
    """A server in a process, with its log."""

    def __init__(self, settings: Settings) -> None:
        publish_now(settings)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = _url(listener)
            fd = listener.fileno()
            self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed on leaving
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROCESS, str(fd)],
                env=os.environ | environment_of(settings),
                pass_fds=[fd],
                stderr=self._log,
            )

    def __enter__(self) -> "ServerProcess":
        httpx.get(f"{self.url}/livez", timeout=STARTED_WITHIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def log(self) -> str:
        """Returns the whole log so far."""
        self._log.seek(0)
        return self._log.read()


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
