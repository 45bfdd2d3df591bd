"""The memory of the tasks in flight: each is admitted by the bytes that it is predicted to take."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from threading import Lock

from penstock.core.device import Device
from penstock.core.task import PRIORITIES, Priority
from penstock.errors import InsufficientMemory
from penstock.settings import WorkerSettings
from penstock.worker.devices.machine import memory
from penstock.worker.starvation import StarvationGuard

RESERVED = 0.25
"""Share of the budget that only tasks of high priority may take, so that they never wait until others have ended."""

BESIDE_BYTES = 128 * 1024**2
"""What the parent of a worker, an idle decoder, and the threads of a worker at work take beside the images of tasks."""

BYTES_OF_A_PIXEL = 10
"""What a usual JPEG takes while it is decoded."""


def resident() -> int:
    """Bytes of the host's memory that this process takes; 0 where the system does not say (only Linux does)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def budget_of(device: Device, settings: WorkerSettings, *, guard: int) -> "MemoryBudget":
    """The memory for the tasks of a worker whose models are loaded: the share of its device, and no more than the
    machine or the container has left for it, unless the operator says so."""
    locked = device.pinned_bytes if device.kind == "cuda" else 0
    left = memory() - resident() - locked - BESIDE_BYTES
    most = max(left, settings.memory_bytes, 0)
    return MemoryBudget(min(device.ram_bytes, most), guard=guard, most_bytes=most)


class MemoryGrant:
    """The bytes that one task holds of a budget, or waits for."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.size = 0
        self.is_granted = False
        self.granted = asyncio.Event()


class MemoryBudget:
    """Grants bytes by priority, and within a priority first come, first served.

    A priority that waited while others were granted bytes `guard` times is next (0: never). A task that asks for more
    than there is gets it when nobody else holds any, up to `most_bytes`: for one that took more, the kernel would end
    this process. None means that there is no such bound.
    """

    def __init__(self, total_bytes: int, *, guard: int = 0, most_bytes: int | None = None) -> None:
        self._total = total_bytes
        self._most = most_bytes
        self._held = 0
        self._lock = Lock()
        self._waiting: list[MemoryGrant] = []
        self._guard: StarvationGuard[int] = StarvationGuard(guard)

    @property
    def total(self) -> int:
        """Bytes that may be granted."""
        return self._total

    @property
    def most(self) -> float:
        """The most bytes that one task is granted."""
        return inf if self._most is None else self._most

    @property
    def largest_mp(self) -> float:
        """About how many megapixels the largest image has that is taken."""
        return self.most / BYTES_OF_A_PIXEL / 1e6

    @property
    def held(self) -> int:
        """Bytes that are granted now."""
        return self._held

    @contextmanager
    def grant(self, priority: Priority) -> Iterator[MemoryGrant]:
        """Yields an empty grant for one task; the bytes that it holds are free again on exit."""
        grant = MemoryGrant(PRIORITIES.index(priority))
        try:
            yield grant
        finally:
            with self._lock:
                self._held -= grant.size if grant.is_granted else 0
            self._serve()

    def take(self, grant: MemoryGrant, size: int) -> bool:
        """Grant so many bytes at once. Returns False when others wait already or the bytes are not there: then the
        caller must `wait`. Any thread may call this. Raises InsufficientMemory."""
        if self._most is not None and size > self._most:
            has = f"a worker here has {self._most / 1e6:.0f} MB for one"
            raise InsufficientMemory(f"this task needs about {size / 1e6:.0f} MB of memory, and {has}")
        grant.size = size
        return not self._waiting and self._fill(grant)

    async def wait(self, grant: MemoryGrant) -> None:
        """Wait until the bytes that `take` has refused are granted."""
        self._waiting.append(grant)
        self._serve()
        try:
            await grant.granted.wait()
        finally:
            if not grant.is_granted:
                self._waiting.remove(grant)

    def _serve(self) -> None:
        while self._waiting:
            rank = self._guard.next(self._waiting_ranks())
            grant = next(grant for grant in self._waiting if grant.rank == rank)
            if not self._fill(grant):
                return
            self._waiting.remove(grant)
            self._guard.served(rank, [other for other in self._waiting_ranks() if other != rank])
            grant.granted.set()

    def _waiting_ranks(self) -> list[int]:
        return sorted({grant.rank for grant in self._waiting})

    def _fill(self, grant: MemoryGrant) -> bool:
        bound = self._total if grant.rank == 0 else int(self._total * (1 - RESERVED))
        with self._lock:  # `take` runs on the codec threads
            grant.is_granted = not self._held or self._held + grant.size <= bound
            self._held += grant.size if grant.is_granted else 0
        return grant.is_granted
