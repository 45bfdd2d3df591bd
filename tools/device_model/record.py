"""What the model of the device writes down in a worker process: one line for each thing that took time."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Kind = Literal["need", "decode", "encode", "stack", "accept", "infer", "wait", "up", "compute", "down", "thread"]
"""`need` is the moment in which a task asks for memory, `infer` the whole call, `wait` its wait for the one before,
`thread` has the name of a thread as its label."""


class Entry(Struct, frozen=True, array_like=True):
    """From `start` to `end`, in seconds since 1970, on a thread. `label` is the task's; of a batch, those of its
    tasks. `size` is in tiles, for `compute` in pixels of input; for `stack` and `accept` it is the CPU time in
    microseconds."""

    kind: Kind
    start: float
    end: float
    thread: int
    label: str = ""
    size: int = 0


class Recorder:
    """Appends entries to a file; any thread may call it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._named = threading.local()

    def note(self, kind: Kind, start: float, end: float, label: str = "", size: int = 0) -> None:
        """Write one entry, after the name of this thread where that is its first."""
        number = threading.get_native_id()
        if not hasattr(self._named, "done"):
            self._named.done = True
            self._write(Entry("thread", start, start, number, threading.current_thread().name))
        self._write(Entry(kind, start, end, number, label, size))

    def _write(self, entry: Entry) -> None:
        os.write(self._file, msgspec.json.encode(entry) + b"\n")  # one write, which the kernel does not tear

    @contextmanager
    def timed(self, kind: Kind, label: str = "", size: int = 0) -> Iterator[None]:
        """Write an entry for the block."""
        start = time.time()
        try:
            yield
        finally:
            self.note(kind, start, time.time(), label, size)


def read(path: Path) -> list[Entry]:
    """All entries of a file, in the order in which they were written."""
    decoder = msgspec.json.Decoder(Entry)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]
