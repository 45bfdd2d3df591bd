"""An event loop in a thread of its own, for callers that have none."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs coroutines for any number of threads; its own thread starts with the first of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come between
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended = False

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Begins the work and returns its end, or does nothing and returns None after `end`."""
        with self._lock:
            if self._ended:
                work.close()
                return None
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=[self._loop], name="penstock-client", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def end(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancels all work, does the last, and ends the thread. Repeating it is fine."""
        with self._lock:
            loop, self._loop, self._ended = self._loop, None, True
        if loop is None or self._thread is None:
            last.close()
            return
        asyncio.run_coroutine_threadsafe(_cancel_all_and(last), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.close()


async def _cancel_all_and(last: Coroutine[Any, Any, None]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await last
