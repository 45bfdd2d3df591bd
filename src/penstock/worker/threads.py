"""Thread pools of the event loop: for calls that block, or that compute without the interpreter's lock."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.worker.devices import cores

T = TypeVar("T")


class Threads:
    """A thread pool whose calls are awaited and begin in order. On exit it waits for the calls that run."""

    # Why not `loop.run_in_executor`: a call and the way back take 57 µs of CPU here, and 10 where eight are under way;
    # there they take 95 and 33, for a second future and its locks (two cores, Python 3.11, uvloop). A task of a small
    # model makes a handful of them.

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = [Thread(target=self._serve, name=f"{name}-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def run(self, work: Callable[..., T], *args: Any, on_begin: Callable[[], None] | None = None) -> asyncio.Future[T]:
        """A future of what `work` returns or raises. When the future is canceled, `work` does not begin, or it runs to
        its end and the result is dropped. The event loop calls `on_begin` when a thread has begun.

        StopIteration and SystemExit, which no coroutine can raise to its caller, come as RuntimeError.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(loop, answer, work, args, on_begin))
        return answer

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
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.answer.cancelled():
                call.make()
            del call  # an idle thread keeps no image alive


class _Call(NamedTuple):
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    work: Callable[..., Any]
    args: tuple[Any, ...]
    on_begin: Callable[[], None] | None

    def make(self) -> None:
        value: Any = None
        fault: Exception | None = None
        if self.on_begin is not None:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.on_begin)
        try:
            value = self.work(*self.args)
        except BaseException as error:  # noqa: BLE001  who awaits it judges; it must not end the thread
            fault = _awaitable(error)
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self.loop.call_soon_threadsafe(_resolve, self.answer, value, fault)


def _awaitable(error: BaseException) -> Exception:
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"{type(error).__name__} was raised")
    wrapped.__cause__ = error
    return wrapped


def _resolve(answer: asyncio.Future[T], value: T, fault: Exception | None) -> None:
    if answer.done():
        return
    if fault is None:
        answer.set_result(value)
    else:
        answer.set_exception(fault)


class CodecThreads(NamedTuple):
    """The two pools that decode inputs and encode results. Encoding a large result takes minutes; a photo of high
    priority must not wait behind it."""

    urgent: Threads
    usual: Threads

    @classmethod
    def of(cls, device: Device) -> Self:
        """Pools of as many threads as cores where inference runs elsewhere, of half as many where it needs the same
        cores."""
        size = max(1, cores() // 2) if device.kind == "cpu" else cores()
        return cls(Threads(size, "codec-high"), Threads(size, "codec"))

    def of_priority(self, priority: Priority) -> Threads:
        """The pool that runs the stages of a task with this priority."""
        return self.urgent if priority is Priority.HIGH else self.usual
