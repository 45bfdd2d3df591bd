"""A result that is written while its outputs come: codec threads encode what is complete, beside the device."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from msgspec.structs import replace

from penstock.core.task import Result
from penstock.models.products import FileWriter
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.model_code import model_code
from penstock.worker.streamed_upload import StreamedUpload
from penstock.worker.task_log import TaskLog

T = TypeVar("T")


class StreamedResult:
    """Writes the one file of a `result`, and sends it to the storage meanwhile.

    `on_cpu` runs a call on a codec thread, by the clock that it is given. `check_bytes` raises when the file has more
    bytes than it may. `on_written` is called when rows were written: the device may go on where it waits for that.
    """

    def __init__(
        self,
        result: Result,
        writer: FileWriter,
        upload: StreamedUpload,
        log: TaskLog,
        *,
        on_cpu: Callable[..., Awaitable[None]],
        check_bytes: Callable[[int], None],
        on_written: Callable[[], None],
    ) -> None:
        self._result = result
        self._writer = writer
        self._upload = upload
        self._log = log
        self._on_cpu = on_cpu
        self._check_bytes = check_bytes
        self._on_written = on_written
        self._news = asyncio.Event()
        self._device_is_done = False

    def look(self) -> None:
        """Look for what is complete: outputs have come."""
        self._news.set()

    async def beside(self, device: Coroutine[Any, Any, T]) -> T:
        """Run the tiles, and write what is complete meanwhile. Returns and raises what `device` does; what goes wrong
        in writing is raised too, and ends `device`. Neither goes on when this returns; nothing stays of the file when
        it raises."""
        running, writing = asyncio.create_task(device), asyncio.create_task(self._write_beside())
        with self._kept():
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

    async def finish(self, clock: AttemptClock) -> tuple[Result, StreamedUpload]:
        """Write the rest. Returns the result, and the upload, which has to be published; nothing stays of the file when
        this raises."""
        with self._kept():
            while self._writer.is_ready:
                await self._write(clock, self._writer.write)
            await self._write(clock, self._writer.finish)
        (file,) = self._result.artifacts
        known = replace(file, size=self._upload.size, sha256=self._upload.sha256)
        return replace(self._result, artifacts=(known,)), self._upload

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._upload.discard()
            raise

    async def _write_beside(self) -> None:
        # The time that this takes beside the device is not counted: the device's own is.
        clock = AttemptClock()
        while not self._device_is_done:
            await self._news.wait()
            self._news.clear()
            while self._writer.is_ready and not self._device_is_done:
                await self._write(clock, self._writer.write)

    async def _write(self, clock: AttemptClock, write: Callable[[], bytes]) -> None:
        await self._on_cpu(clock, self._add, write)
        self._check_bytes(self._upload.size)
        self._on_written()
        with clock.standing():
            await self._upload.send()

    def _add(self, write: Callable[[], bytes]) -> None:
        with model_code("stream", self._log):
            data = write()
        self._upload.add(data)


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
