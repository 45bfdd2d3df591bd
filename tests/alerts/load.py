"""A client that submits tasks again and again, and a receiver of webhooks that answers as it is told."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from tests.support import slow_model
from tests.support.drive import data_uri, image
from tests.support.processes import System

PAUSE_S = 0.2
"""Between two submits."""


class Receiver(ThreadingHTTPServer):
    """Takes webhooks and answers each with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.status = status
        self.url = f"http://127.0.0.1:{self.server_port}/told"


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@contextmanager
def receiving(status: int) -> Iterator[str]:
    """Yields the URL of a receiver."""
    with Receiver(status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


class Load:
    """Submits a task every PAUSE_S. `statuses` counts the answers."""

    def __init__(self, system: System, **changes: Any) -> None:
        self._headers = {"x-api-key": system.api_key}
        self._url = f"{system.url}/v1/tasks"
        self._changes = changes
        self._stop = threading.Event()
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        """Submits until it is stopped."""
        with httpx.Client(headers=self._headers, timeout=10, trust_env=False) as client:
            while not self._stop.wait(PAUSE_S):
                with suppress(httpx.HTTPError):
                    self.statuses[submit(client, self._url, **self._changes).status_code] += 1

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()


def submit(client: httpx.Client, url: str, **changes: Any) -> httpx.Response:
    """Submits one task with an input of its own."""
    given = {"model": slow_model.MODEL, "input": {"image_url": data_uri(image())}, "reuse": False}
    return client.post(url, content=json.dumps(given | changes), headers={"content-type": "application/json"})


@contextmanager
def under_load(system: System, *, for_s: float = 0.0, **changes: Any) -> Iterator[Load]:
    """Submits such tasks inside of this block, which begins after `for_s` of it."""
    load = Load(system, **changes)
    thread = threading.Thread(target=load.run)
    thread.start()
    time.sleep(for_s)
    try:
        yield load
    finally:
        load.stop()
        thread.join()
