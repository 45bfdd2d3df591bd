"""Those that wait for something to do, of whom one is woken at a time."""

import asyncio


class Waiters:
    """Waiters of one event loop.

    What is done while nobody waits is not kept, as an `asyncio.Event` would: whoever waits must have looked for
    something to do just before, without an await between.
    """

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def wake_one(self) -> None:
        """Wake the one that has waited longest, if there is any."""
        if self._waiters:
            _wake(self._waiters.pop(0))

    async def wait(self, within_s: float | None = None) -> None:
        """Return when woken, or after so many seconds."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = None if within_s is None else loop.call_later(within_s, _wake, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:  # its time is over, or it was canceled
                self._waiters.remove(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
