"""Memory of the tasks in flight: each is admitted by what it is predicted to take."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from penstock.core.task import PRIORITIES, Priority
from penstock.worker.guard import StarvationGuard

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
        self.granted = asyncio.Event()


class MemoryBudget:
    """Grants bytes by priority, then in order of asking; but a priority that waited while others were granted bytes
    `guard` times is next (0: never). Whoever asks for more than there is gets it when nobody else holds any: a task
    that is within the limits of inputs is never refused."""

    def __init__(self, total_bytes: int, *, guard: int = 0) -> None:
        self._total = total_bytes
        self._held = 0
        self._lock = Lock()
        self._waiting: list[Room] = []
        self._guard: StarvationGuard[int] = StarvationGuard(guard)

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
        self._waiting.append(room)
        self._grant()
        try:
            await room.granted.wait()
        finally:
            if not room.is_granted:
                self._waiting.remove(room)

    def _grant(self) -> None:
        while self._waiting:
            rank = self._guard.next(self._waiting_ranks())
            room = next(room for room in self._waiting if room.rank == rank)
            if not self._fill(room):
                return
            self._waiting.remove(room)
            self._guard.served(rank, [other for other in self._waiting_ranks() if other != rank])
            room.granted.set()

    def _waiting_ranks(self) -> list[int]:
        return sorted({room.rank for room in self._waiting})

    def _fill(self, room: Room) -> bool:
        bound = self._total if room.rank == 0 else int(self._total * (1 - RESERVED))
        with self._lock:
            room.is_granted = not self._held or self._held + room.size <= bound
            self._held += room.size if room.is_granted else 0
        return room.is_granted
