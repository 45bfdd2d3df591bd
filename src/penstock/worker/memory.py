"""Memory of the tasks in flight: each is admitted by what it is predicted to take."""

import asyncio
import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Lock

from penstock.task import PRIORITIES, Priority

RESERVED = 0.25
"""Share of all that only tasks of high priority may take, so that one is never behind a full house of others."""


def resident() -> int:
    """Bytes of the host's memory that this process takes; 0 where the system does not say (it is Linux that does)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Room:
    """What one task holds of a budget."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.size = 0
        self.is_granted = False
        self.is_waiting = False
        self.granted = asyncio.Event()


class MemoryBudget:
    """Grants bytes by priority, then in order of asking. Whoever asks for more than there is gets it when nobody else
    holds any: a task that is within the limits of inputs is never refused."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._held = 0
        self._lock = Lock()
        self._waiting: list[tuple[int, int, Room]] = []
        self._order = count()

    @property
    def total(self) -> int:
        """Bytes that may be granted."""
        return self._total

    @property
    def held(self) -> int:
        """Bytes that are granted now."""
        return self._held

    @contextmanager
    def room(self, priority: Priority) -> Iterator[Room]:
        """For one task, empty; what it was granted is given back on exit."""
        room = Room(PRIORITIES.index(priority))
        try:
            yield room
        finally:
            with self._lock:
                self._held -= room.size if room.is_granted else 0
            self._grant()

    def take(self, room: Room, size: int) -> bool:
        """Fill it with so many bytes at once; False when somebody waits for bytes, or there are not as many: then
        `wait`. May be called by any thread."""
        room.size = size
        return not self._waiting and self._fill(room)

    async def wait(self, room: Room) -> None:
        """Until there are the bytes that `take` has refused."""
        room.is_waiting = True
        heapq.heappush(self._waiting, (room.rank, next(self._order), room))
        self._grant()
        try:
            await room.granted.wait()
        finally:
            room.is_waiting = False

    def _grant(self) -> None:
        while self._waiting:
            *_, room = self._waiting[0]
            if room.is_waiting:
                if not self._fill(room):
                    return
                room.granted.set()
            heapq.heappop(self._waiting)

    def _fill(self, room: Room) -> bool:
        bound = self._total if room.rank == 0 else int(self._total * (1 - RESERVED))
        with self._lock:
            room.is_granted = not self._held or self._held + room.size <= bound
            self._held += room.size if room.is_granted else 0
        return room.is_granted
