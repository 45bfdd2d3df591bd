"""How a worker process tells its parent that it lives: JSON lines through a pipe.

An empty object is a beat; one with `metrics_url` says that the worker takes tasks from now on. Beats come from the
event loop, so that they end when the process is stopped, when a call holds the interpreter, and when the loop is
blocked. The first one comes when the models are loaded, since loading may hold the interpreter for long.
"""

import asyncio
import json
import os
import signal
from contextlib import suppress

from loguru import logger

from penstock.settings import Settings

BEATS = 6
"""So many come within the time after which a silent worker counts as hung."""


def longest_silence_s(settings: Settings) -> float:
    """A worker that is silent for this long has long lost its leases: nothing is lost when it is killed."""
    return 3 * settings.queue.lease_s


class Heartbeat:
    """The worker's end of the pipe. `fd` is None where no parent listens."""

    def __init__(self, fd: int | None, *, silence_s: float) -> None:
        self._fd = fd
        self._pause_s = silence_s / BEATS
        if fd is not None:
            os.set_blocking(fd, False)  # a parent that does not read must not hold up its child

    async def beat(self) -> None:
        """Beat until canceled. When nobody listens any more the parent is gone, however it ended, and the process is
        told to stop: it would go on for ever where the kernel does not do so."""
        while True:
            try:
                self._write({})
            except BrokenPipeError:
                logger.warning("the parent is gone, the worker stops")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            await asyncio.sleep(self._pause_s)

    def ready(self, metrics_url: str) -> None:
        """Tell the parent that tasks are taken from now on, and where the metrics are."""
        with suppress(BrokenPipeError):  # the next beat finds out
            self._write({"metrics_url": metrics_url})

    def _write(self, line: dict[str, str]) -> None:
        if self._fd is not None:
            with suppress(BlockingIOError):
                os.write(self._fd, json.dumps(line).encode() + b"\n")
