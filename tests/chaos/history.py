"""The history of a run as JSON lines: requests and answers of clients, actions of workers and of the nemesis."""

import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

Kind = Literal[
    "submit.invoke", "submit.ok", "submit.fail", "submit.info", "conflict", "cancel.invoke", "cancel.ok",
    "cancel.fail", "cancel.info", "poll", "read.fail", "result", "record", "listed",
    "attempt.started", "attempt.ended", "attempt.stopped", "worker.died", "fault", "heal",
]  # fmt: skip
"""`ok` is an answer that promises, `fail` one that refuses, `info` none: the act may or may not have happened."""


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `t` is the monotonic time and `at` the wall-clock time, both in seconds."""

    t: float = 0.0
    at: float = 0.0
    kind: Kind
    key: str = ""
    """The client's own name of the task: its idempotency key and the nonce of its result."""
    task: str = ""
    state: str = ""
    etag: str = ""
    sha256: str = ""
    status: int = 0
    code: str = ""
    epoch: int = 0
    outcome: str = ""
    worker: str = ""
    note: str = ""
    took_s: float = 0.0
    view: dict[str, Any] | None = None


class History:
    """A log that is written line by line, so that it survives a crash of the run, and kept in memory for the
    checker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self._file = path.open("ab")

    def write(self, kind: Kind, **facts: Any) -> Event:
        """Writes one event that happens now."""
        event = Event(**{"kind": kind, "t": time.monotonic(), "at": time.time()} | facts)
        self.events.append(event)
        self._file.write(msgspec.json.encode(event) + b"\n")
        self._file.flush()
        return event

    def add(self, events: Iterable[Event]) -> None:
        """Writes events that were observed elsewhere."""
        for event in events:
            self.events.append(event)
            self._file.write(msgspec.json.encode(event) + b"\n")
        self._file.flush()

    def of(self, *kinds: Kind) -> Iterator[Event]:
        """Returns the events of these kinds in the order of writing."""
        return (event for event in self.events if event.kind in kinds)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read(path: Path) -> list[Event]:
    """Reads a history from its file."""
    return [msgspec.json.decode(line, type=Event) for line in path.read_bytes().splitlines()]


def worker_facts(log: bytes, worker: str) -> Iterator[Event]:
    """Reads attempts and deaths from a worker's JSON log. A line that was cut by a kill is skipped."""
    for line in log.splitlines():
        try:
            said = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        kind = _LOGGED.get(said.get("message", "")) if isinstance(said, dict) else None
        if kind:
            yield Event(
                kind=kind,
                at=datetime.fromisoformat(said["time"]).timestamp(),
                task=said.get("task_id", ""),
                epoch=said.get("attempt", 0),
                outcome=said.get("outcome", said.get("why", "")),
                note=str(said.get("status", "")),
                took_s=said.get("seconds", 0.0),
                worker=worker,
            )


_LOGGED: dict[str, Kind] = {
    "attempt started": "attempt.started",
    "attempt ended": "attempt.ended",
    "attempt stopped": "attempt.stopped",
    "process died": "worker.died",
}
