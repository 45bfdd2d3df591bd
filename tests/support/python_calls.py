"""The Python calls of a server for one request: where the caches of a processor are cold, they are its cost.

`sys.setprofile` reports each call of a function and each time that a coroutine goes on after an await, so that a chain
of ten coroutines which awaits Redis once counts twenty. The server is a real one over a real connection, with a real
Redis, and writes its access lines as it does in production. Other machines and other load change no count.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

import httpx

from penstock.settings import Settings, TelemetrySettings
from penstock.telemetry.logs import set_up_logs
from tests.support import api_server
from tests.support.drive import body, data_uri, image
from tests.support.quiet import quiet_logs

REQUESTS = 30
"""Loops of the server run beside some of them: the one with the fewest calls was alone."""
QUIET_S = 0.01
"""The server has done with a request when it makes no call for so long; its client has the answer a little earlier."""


class Calls:
    """The calls of one thread, whose function for `setprofile` is `note`."""

    def __init__(self) -> None:
        self._made: list[CodeType] = []

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """The function for `setprofile`."""
        if event == "call":
            self._made.append(frame.f_code)

    def of(self, request: Callable[[], object]) -> list[CodeType]:
        """Returns the calls for a request, in their order: the fewest that it takes."""
        return min((self._during(request) for _ in range(REQUESTS)), key=len)

    def _during(self, request: Callable[[], object]) -> list[CodeType]:
        self._made = []
        request()
        seen = 0
        while seen < (seen := len(self._made)):
            time.sleep(QUIET_S)
        return self._made


@contextmanager
def serving(settings: Settings, api_key: str) -> Iterator[tuple[Calls, httpx.Client]]:
    """Serves with these settings from a thread whose calls are noted."""
    calls = Calls()
    set_up_logs(TelemetrySettings(log_format="json"), process="api")
    threading.setprofile(calls.note)
    try:
        with (
            api_server.in_thread(settings) as url,
            httpx.Client(base_url=url, headers={"X-API-Key": api_key}) as client,
        ):
            threading.setprofile(None)
            yield calls, client
    finally:
        threading.setprofile(None)
        quiet_logs()


def of_submit(calls: Calls, client: httpx.Client) -> list[CodeType]:
    """Returns the calls of a submit with a small image inside, as most clients send it."""
    sent = body(image_url=data_uri(image()), reuse=False)
    return calls.of(lambda: client.post("/v1/tasks", json=sent).raise_for_status())


def of_read(calls: Calls, client: httpx.Client) -> list[CodeType]:
    """Returns the calls of a look at a task that waits."""
    task = client.post("/v1/tasks", json=body(image_url=data_uri(image()))).json()["task_id"]
    return calls.of(lambda: client.get(f"/v1/tasks/{task}").raise_for_status())
