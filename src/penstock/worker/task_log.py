"""What the code of a model says while it works for a task: bounded, and nothing where it is silent."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from threading import Lock

LOG_BYTES = 64 * 1024
"""The most that is kept of what a task says: the script that settles an attempt cuts all of them together to this."""

HALF_BYTES = LOG_BYTES // 2 - 64
"""A longer log keeps its beginning and its end, with a line between them that says how much is left out."""


class TaskLog:
    """What one attempt says. Any thread may add to it."""

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._head_bytes = self._tail_bytes = self._left_out = 0
        self._lock = _LOCK

    def add(self, line: str) -> None:
        """Add a line, or several, which stay together."""
        data = _shortened(line.encode(errors="replace"))
        with self._lock:
            if not self._tail and self._head_bytes + len(data) < HALF_BYTES:
                self._head.append(data)
                self._head_bytes += len(data) + 1
            else:
                self._tail.append(data)
                self._tail_bytes += len(data) + 1
                self._drop()

    def adopt(self, other: TaskLog) -> None:
        """Add what another log has, such as that of the load of a model for which several tasks have waited."""
        with other._lock:
            lines = [line.decode(errors="replace") for line in (*other._head, *other._tail)]
        for line in lines:
            self.add(line)

    def text(self, attempt: int) -> bytes:
        """The log of this attempt, which begins with its number; empty where nothing was said."""
        with self._lock:
            if not self._head:
                return b""
            cut = [left_out(self._left_out)] if self._left_out else []
            return b"\n".join([f"--- attempt {attempt} ---".encode(), *self._head, *cut, *self._tail, b""])

    def _drop(self) -> None:
        while self._tail_bytes > HALF_BYTES:
            size = len(self._tail.popleft()) + 1
            self._tail_bytes -= size
            self._left_out += size


_LOCK = Lock()
"""One for all logs: it is held for some microseconds, and hardly a model logs at all."""


def left_out(count: int) -> bytes:
    """The line in the place of bytes that are not kept; log.lua writes the same."""
    return f"[... {count} bytes are left out ...]".encode()


def _shortened(data: bytes) -> bytes:
    if len(data) < HALF_BYTES:
        return data
    kept = HALF_BYTES // 2 - 64
    return data[:kept] + b"\n" + left_out(len(data) - 2 * kept) + b"\n" + data[-kept:]


class LogScope:
    """One call of a method of a model, for the tasks with these logs: what it says goes to each of them.

    There are some for each task, and hardly one says anything: nothing is made before it is needed.
    """

    __slots__ = ("_logs", "_method", "_partial")

    def __init__(self, method: str, *logs: TaskLog) -> None:
        self._method = method
        self._logs = logs
        self._partial = ""

    def say(self, text: str) -> None:
        """Note a message."""
        moment = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        shared = f" (with {len(self._logs) - 1} other tasks)" if len(self._logs) > 1 else ""
        for log in self._logs:
            log.add(f"{moment} {self._method}{shared}: {text}")

    def write(self, text: str) -> None:
        """Note what is printed, line by line: a call prints a part of a line, or several."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self.say(line)
        if len(self._partial) > HALF_BYTES:
            self.end_line()

    def end_line(self) -> None:
        """Note what was printed of a line that is not ended."""
        self.say(self._partial)
        self._partial = ""


SCOPE: ContextVar[LogScope | None] = ContextVar("penstock_log_scope", default=None)
"""Whose code runs on this thread. A thread that a model starts itself has none."""
