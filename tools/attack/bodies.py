"""Ten bodies that would cost much to read: each is sent with a right key, and is refused, or read without a stop."""

import base64
import os
import threading
import time
from collections.abc import Callable

from tools.attack.attempt import Attempt, Outcome
from tools.attack.target import Target, head_of, resident_bytes, sent_and_read, status_of

MIB = 1024 * 1024
SIZE = 31 * MIB
STOP_S = 0.05
"""The longest that a body may stop the server for."""
_BEFORE = b'{"model":"noop-v1","input":{"image_url":"https://192.0.2.1/a.png"},"params":{"x":'

SHORT = ("lists of one", "percent signs", "an image of noise")
"""The bodies of a short run."""

BODIES: dict[str, Callable[[], bytes]] = {
    "lists of one": lambda: _BEFORE + b"[" + b"[1]," * (SIZE // 4) + b"1]}}",
    "empty objects": lambda: _BEFORE + b"[" + b"{}," * (SIZE // 3) + b"1]}}",
    "a member for each": lambda: _BEFORE + b"{" + b",".join(b'"%x":1' % n for n in range(2_000_000)) + b"}}}",
    "numbers": lambda: _BEFORE + b"[" + b"1," * (SIZE // 2) + b"1]}}",
    "empty strings": lambda: _BEFORE + b"[" + b'"",' * (SIZE // 3) + b"1]}}",
    "levels": lambda: _BEFORE + b"[" * SIZE + b"}}",
    "one string": lambda: _BEFORE + b'"' + b"a" * SIZE + b'"}}',
    "backslashes": lambda: _BEFORE + b'"' + b'\\"' * (SIZE // 2) + b'"}}',
    "one emoji": lambda: _image("data:,😀".encode() + b"a" * SIZE),
    "percent signs": lambda: _image(b"data:," + b"%41" * (SIZE // 3)),
    "an image of noise": lambda: _image(b"data:image/png;base64," + base64.b64encode(os.urandom(SIZE // 4 * 3))),
}


def _image(url: bytes) -> bytes:
    return b'{"model":"noop-v1","priority":null,"input":{"image_url":"' + url + b'"}}'


def attempts() -> list[Attempt]:
    """Return one attempt for each body, for each way into the server."""
    paths = {"body": "/v1/tasks", "prediction": "/replicate/v1/models/a/noop-v1/predictions"}
    found = [
        Attempt(f"body: {name}", _sending(make, paths["body"]), STOP_S, is_in_short=name in SHORT)
        for name, make in BODIES.items()
    ]
    lists = BODIES["lists of one"]
    return [*found, Attempt("prediction: lists of one", _sending(lists, paths["prediction"]), STOP_S)]


def _sending(make: Callable[[], bytes], path: str) -> Callable[[Target], Outcome]:
    def send(target: Target) -> Outcome:
        body = make()
        began = time.monotonic()
        with Memory(target.pid) as memory:
            answer = sent_and_read(target.connect(target.address(1)), _head(target, path, len(body)) + body)
            time.sleep(0.05)
        status, times = status_of(answer), memory.grown / len(body)
        got = f"{status}, {len(body) / MIB:.0f} MiB, took {max(times, 0):.1f} x its size"
        return Outcome(got, 400 <= status < 500 and times <= 3, began)

    return send


def _head(target: Target, path: str, length: int) -> bytes:
    key = f"X-API-Key: {target.key}"
    return head_of(
        "POST", path, key, "Content-Type: application/json", f"Content-Length: {length}", "Connection: close"
    )


class Memory:
    """Notes by how much a process grows in a block."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_over = threading.Event()
        self.grown = 0

    def __enter__(self) -> "Memory":
        self._before = resident_bytes(self._pid)
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(0.005):
            self.grown = max(self.grown, resident_bytes(self._pid) - self._before)
