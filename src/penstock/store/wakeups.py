"""Loops that act when Redis has news, or when something is due.

A message is lost while the connection is down, so that no loop relies on messages alone: `listen` yields an empty one
after each reconnect, and `act` returns how long the loop may sleep at most.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress


async def wake_on(news: AsyncIterator[str], wake: asyncio.Event) -> None:
    """Set `wake` at every message, until cancelled."""
    async for _ in news:
        wake.set()


async def act_when_woken(wake: asyncio.Event, act: Callable[[], Awaitable[float]]) -> None:
    """Await `act` at once, and again whenever `wake` is set or the seconds that it returned are over, until cancelled.

    What sets `wake` while `act` runs is not lost: `act` then runs once more.
    """
    me = asyncio.current_task()
    while True:
        wake.clear()
        sleep_s = await act()
        if me is not None and me.cancelling():
            return  # before Python 3.12, `asyncio.wait_for` in the Redis client may swallow a cancel
        with suppress(TimeoutError):
            async with asyncio.timeout(sleep_s):
                await wake.wait()
