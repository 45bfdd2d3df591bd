"""A result that is written while its outputs come: codec threads encode what is complete, beside the device."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from penstock.core.task import Priority
from penstock.models.base import Product, ResultStream
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.codecs import CodecThreads
from penstock.worker.model_code import model_code
from penstock.worker.task_log import TaskLog

T = TypeVar("T")


class StreamedResult:
    """Writes the file of one result. `on_written` is called when rows were written: the device may go on where it waits
    for that."""

    def __init__(
        self,
        stream: ResultStream,
        codecs: CodecThreads,
        priority: Priority,
        log: TaskLog,
        *,
        on_written: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._on_cpu = partial(codecs.run, priority)
        self._log = log
        self._on_written = on_written
        self._news = asyncio.Event()
        self._device_is_done = False
        self._pieces: list[bytes] = []

    def look(self) -> None:
        """Look for what is complete: outputs have come."""
        self._news.set()

    async def beside(self, device: Coroutine[Any, Any, T]) -> T:
        """Run the tiles, and write what is complete meanwhile. Returns and raises what `device` does; what goes wrong
        in writing is raised too, and ends `device`. Neither goes on when this returns."""
        running, writing = asyncio.create_task(device), asyncio.create_task(self._write_beside())
        try:
            await asyncio.wait((running, writing), return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                writing.result()
            done = await running
            self._device_is_done = True
            self.look()
            await writing
        finally:
            await _stopped(running, writing)
        return done

    async def finish(self, clock: AttemptClock) -> Product:
        """Write the rest, and return the product with its file."""
        while self._stream.writer.is_ready:
            await self._write(clock)
        self._pieces.append(await self._on_cpu(clock, self._in_model, self._stream.writer.finish))
        return replace(self._stream.product, file=b"".join(self._pieces))

    async def _write_beside(self) -> None:
        # The time that this takes beside the device is not counted: the device's own is.
        clock = AttemptClock()
        while not self._device_is_done:
            await self._news.wait()
            self._news.clear()
            while self._stream.writer.is_ready and not self._device_is_done:
                await self._write(clock)

    async def _write(self, clock: AttemptClock) -> None:
        self._pieces.append(await self._on_cpu(clock, self._in_model, self._stream.writer.write))
        self._on_written()

    def _in_model(self, write: Callable[[], bytes]) -> bytes:
        with model_code("stream", self._log):
            return write()


async def _stopped(*tasks: asyncio.Task[Any]) -> None:
    """Return when the tasks have ended, also where this one is canceled again."""
    for task in tasks:
        task.cancel()
    while not all(task.done() for task in tasks):
        with suppress(asyncio.CancelledError):
            await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
