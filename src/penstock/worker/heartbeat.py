"""How a worker process tells its parent that it lives, and notices that the parent is gone: JSON lines through a pipe.

An empty object is a beat; one with `metrics_url` says that the worker takes tasks from now on, and one with `reason`
why it ends. Beats come from the event loop, so that they end when the process is stopped, when a call holds the
interpreter, and when the loop is blocked. The first one comes when the models are loaded, since loading may hold the
interpreter for long.
"""

import asyncio
import gc
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from loguru import logger

from penstock.allocator import give_back
from penstock.settings import Settings

BEATS = 6
"""How many beats come within the time after which a silent worker counts as hung: some may be late."""

EXIT_DEVICE_LOST = 75
"""The exit status of a worker whose device or context is gone: a new process may find it well (EX_TEMPFAIL of
sysexits.h)."""

PARENT_DIED = signal.SIGUSR1
"""What the kernel sends a worker process when its parent dies. It is no SIGTERM: the kernel sends one for each thread
of the parent, and a second SIGTERM hands back at once what the worker runs."""

MOST_OF_A_REASON = 1000
"""Characters: a line this long goes through a pipe in one piece."""

LATER_S = 5.0
"""A worker whose parent is gone drains, and gets a SIGTERM this long after the time that a drain may take."""


def longest_silence_s(settings: Settings) -> float:
    """How long a worker may be silent. It has long lost its leases then: nothing more is lost when it is killed."""
    return 3 * settings.queue.lease_s


class Heartbeat:
    """The worker's end of the pipe. `fd` is None where no parent listens."""

    def __init__(self, fd: int | None, *, silence_s: float) -> None:
        self._fd = fd
        self._pause_s = silence_s / BEATS
        self._drain: Callable[[], None] | None = None
        self._drain_s = 0.0
        if fd is not None:
            os.set_blocking(fd, False)  # a parent that does not read must not hold up its child

    async def beat(self) -> None:
        """Beat until canceled, and stop the process when its parent is gone, however that ended."""
        while True:
            try:
                self._write({})
            except BrokenPipeError:
                await self._stop()
                return
            await asyncio.sleep(self._pause_s)

    def ready(self, metrics_url: str, *, drain: Callable[[], None], drain_s: float) -> None:
        """Tell the parent that tasks are taken from now on, and where the metrics are. If it dies, `drain` is called,
        which may take `drain_s`."""
        self._drain, self._drain_s = drain, drain_s
        gc.collect()
        give_back()
        with suppress(BrokenPipeError):  # the next beat finds out
            self._write({"metrics_url": metrics_url})

    def ends(self, reason: str) -> None:
        """Tell the parent why this process is about to end."""
        with suppress(BrokenPipeError):
            self._write({"reason": reason[:MOST_OF_A_REASON]})

    async def _stop(self) -> None:
        # Where the kernel does not send PARENT_DIED, the process would go on for ever without this.
        logger.warning("the parent is gone, this process stops")
        if self._drain is not None:
            self._drain()
            await asyncio.sleep(self._drain_s + LATER_S)
        os.kill(os.getpid(), signal.SIGTERM)

    def _write(self, line: dict[str, str]) -> None:
        if self._fd is not None:
            with suppress(BlockingIOError):
                os.write(self._fd, json.dumps(line).encode() + b"\n")
