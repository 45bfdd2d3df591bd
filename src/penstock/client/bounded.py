"""Many pieces of work, a few at a time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from itertools import islice
from typing import Any, TypeVar

S = TypeVar("S")
R = TypeVar("R")


async def as_they_end(
    work: Callable[[S], Coroutine[Any, Any, R]], items: Iterable[S], *, limit: int
) -> AsyncGenerator[R, None]:
    """What the work gives for each item, `limit` at a time, in the order in which they end. Items are taken as room
    becomes free; when the generator is closed, what still runs is cancelled."""
    left = iter(items)
    running: set[asyncio.Task[R]] = set()
    try:
        while True:
            for item in islice(left, limit - len(running)):
                running.add(asyncio.create_task(work(item)))
            if not running:
                return
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
