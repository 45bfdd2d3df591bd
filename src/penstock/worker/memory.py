"""Memory of the tasks in flight: each is admitted by what it is predicted to take."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from penstock.task import PRIORITIES, Priority

RESERVED = 0.25
"""Share of all that only tasks of high priority may take, so that one is never behind a full house of others."""


class MemoryBudget:
    """Grants bytes by priority, then in order of asking. Whoever asks for more than there is gets it when nobody else
    holds any: a task that is within the limits of inputs is never refused."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._held = 0
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._order = count()

    @property
    def held(self) -> int:
        """Bytes that are granted now."""
        return self._held

    @asynccontextmanager
    async def hold(self, size: int, priority: Priority) -> AsyncIterator[None]:
        """Granted on entry, given back on exit."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (PRIORITIES.index(priority), next(self._order), size, granted))
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():  # granted in the same moment
                self._give_back(size)
            self._grant()
            raise
        try:
            yield
        finally:
            self._give_back(size)

    def _grant(self) -> None:
        while self._waiting:
            rank, _, size, granted = self._waiting[0]
            if not granted.done():
                room = self._total if rank == 0 else int(self._total * (1 - RESERVED))
                if self._held and self._held + size > room:
                    return
                self._held += size
                granted.set_result(None)
            heapq.heappop(self._waiting)

    def _give_back(self, size: int) -> None:
        self._held -= size
        self._grant()
