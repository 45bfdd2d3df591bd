"""Thread pools of the event loop: for calls that block, or that compute without the interpreter's lock."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import Struct

from penstock.core.device import Device
from penstock.worker.devices import cores

T = TypeVar("T")


class Threads:
    """A thread pool of one event loop, whose calls are awaited and begin in order. It starts a thread when a call finds
    none that is free, and `count` at most. On exit it waits for the calls that run."""

    # Why not `loop.run_in_executor`: a call and the way back take 57 µs of CPU here, and 10 where eight are under way;
    # there they take 95 and 33, for a second future and its locks (two cores, Python 3.11, uvloop). A task of a small
    # model makes a handful of them.

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._name = name
        self._threads: list[Thread] = []
        self._unanswered: dict[asyncio.Future[Any], asyncio.Future[None] | None] = {}

    def run(self, work: Callable[..., T], *args: Any, on_begin: Callable[[], None] | None = None) -> asyncio.Future[T]:
        """A future of what `work` returns or raises. When the future is canceled, `work` does not begin, or it runs to
        its end and the result is dropped. The event loop calls `on_begin` when a thread has begun.

        StopIteration and SystemExit, which no coroutine can raise to its caller, come as RuntimeError.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(loop, answer, work, args, on_begin))
        self._unanswered[answer] = None
        if len(self._threads) < min(len(self._unanswered), self.count):
            self._start_thread()
        return answer

    @property
    def is_free(self) -> bool:
        """Whether a call would begin at once."""
        return len(self._unanswered) < self.count

    async def left(self, answer: asyncio.Future[Any]) -> None:
        """Return when no thread works for this future any more, which `run` has returned and somebody has canceled."""
        if answer in self._unanswered:
            self._unanswered[answer] = left = asyncio.get_running_loop().create_future()
            await left

    def close(self, *, wait: bool = True) -> None:
        """Cancel the calls that have not begun, and end the threads. Without `wait` a thread that hangs is left
        behind."""
        while True:
            try:
                call = self._calls.get_nowait()
            except Empty:
                break
            if call is not None:
                call.answer.cancel()
                self._leave(call.answer)
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _start_thread(self) -> None:
        thread = Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            value, fault = (None, None) if call.answer.cancelled() else call.make()
            try:  # noqa: SIM105  suppress would be three calls
                call.loop.call_soon_threadsafe(self._answer, call.answer, value, fault)
            except RuntimeError:  # the loop is closed, and nobody waits
                pass
            del call, value, fault  # an idle thread keeps no image alive

    def _answer(self, answer: asyncio.Future[T], value: T, fault: Exception | None) -> None:
        self._leave(answer)
        if answer.done():
            return
        if fault is None:
            answer.set_result(value)
        else:
            answer.set_exception(fault)

    def _leave(self, answer: asyncio.Future[Any]) -> None:
        left = self._unanswered.pop(answer, None)
        if left is not None and not left.done():
            left.set_result(None)


class _Call(Struct, frozen=True, eq=False):
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    work: Callable[..., Any]
    args: tuple[Any, ...]
    on_begin: Callable[[], None] | None

    def make(self) -> tuple[Any, Exception | None]:
        """What the work returns, and what it raises."""
        if self.on_begin is not None:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.on_begin)
        try:
            return self.work(*self.args), None
        except BaseException as error:  # noqa: BLE001  who awaits it judges; it must not end the thread
            return None, _awaitable(error)


def _awaitable(error: BaseException) -> Exception:
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"{type(error).__name__} was raised")
    wrapped.__cause__ = error
    return wrapped


MOST_CODECS = 32
"""The most threads of one pool, each of which holds the pixels of an image. On as many cores they encode 450
megapixels of PNG a second."""


def cores_of(device: Device) -> int:
    """The share of the host's cores that the worker of this device may use."""
    return device.cores or cores()


def codec_threads(device: Device) -> int:
    """As many as the worker's share of cores where inference runs elsewhere, half as many where it needs the same
    cores."""
    return min(MOST_CODECS, max(1, cores_of(device) // 2) if device.kind == "cpu" else cores_of(device))


def tile_threads(device: Device) -> int:
    """How many threads should accept the outputs of a GPU, which needs memory more than cores: each page of a result
    is touched there for the first time."""
    return max(2, min(MOST_CODECS, cores_of(device)) // 4)
