"""Runs many pieces of work, a few at a time. The next item is taken when there is room for it, and never earlier; if
the items end with an error, the results of work that was begun come first."""

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

S = TypeVar("S")
R = TypeVar("R")

_NO_MORE: Any = object()


async def as_they_end(
    work: Callable[[S], Coroutine[Any, Any, R]], items: Iterable[S] | AsyncIterable[S], *, limit: int
) -> AsyncGenerator[R, None]:
    """What the work gives for each item, `limit` at a time, in the order in which they end. An iterable is asked for
    its items in a thread of its own. When the generator is closed, what still runs is cancelled."""
    left = _each(items)
    asking: asyncio.Task[S] | None = None
    running: set[asyncio.Task[R]] = set()
    over: BaseException | None = None
    try:
        while running or over is None:
            if over is None and asking is None and len(running) < limit:
                asking = asyncio.create_task(_next(left))
            await asyncio.wait([*running, *([asking] if asking else [])], return_when=asyncio.FIRST_COMPLETED)
            if asking is not None and asking.done():
                over = asking.exception()
                if over is None:
                    running.add(asyncio.create_task(work(asking.result())))
                asking = None
            for task in [task for task in running if task.done()]:
                running.remove(task)
                yield task.result()
        if not isinstance(over, StopAsyncIteration):
            raise over
    finally:
        unended = [*running, *([asking] if asking else [])]
        for one in unended:
            one.cancel()
        await asyncio.gather(*unended, return_exceptions=True)
        await left.aclose()


def as_they_end_here(
    start: Callable[[S], concurrent.futures.Future[R]], items: Iterable[S], *, limit: int
) -> Iterator[R]:
    """The same for work that is done elsewhere: the items are taken in the thread that takes the results."""
    running: set[concurrent.futures.Future[R]] = set()
    try:
        try:
            for item in items:
                running.add(start(item))
                yield from _ended(running, within_s=0 if len(running) < limit else None)
        except Exception:
            yield from _rest(running)
            raise
        yield from _rest(running)
    finally:
        for future in running:
            future.cancel()


async def _each(items: Iterable[S] | AsyncIterable[S]) -> AsyncGenerator[S, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    loop = asyncio.get_running_loop()
    thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="penstock-items")
    try:
        left = await loop.run_in_executor(thread, iter, items)
        while (item := await loop.run_in_executor(thread, next, left, _NO_MORE)) is not _NO_MORE:
            yield item
    finally:
        thread.shutdown(wait=False)


async def _next(items: AsyncGenerator[S, None]) -> S:
    return await anext(items)


def _ended(running: set[concurrent.futures.Future[R]], *, within_s: float | None) -> Iterator[R]:
    ended, _ = concurrent.futures.wait(running, within_s, concurrent.futures.FIRST_COMPLETED)
    running -= ended
    for future in ended:
        yield future.result()


def _rest(running: set[concurrent.futures.Future[R]]) -> Iterator[R]:
    while running:
        yield from _ended(running, within_s=None)
