"""Host memory for the results of a GPU: page-locked, so that the GPU writes there by itself, and used again.

Locking a block costs more than the copy that it saves (a call to the driver, every page touched), so that blocks are
kept. No caller returns one: a block is free again when the array in it, and every view of that array, are gone.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from loguru import logger

from penstock.core.device import Device
from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.cuda import CudaRuntime, cuda_runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray
else:
    np = lazy_import("numpy")

Clock = Callable[[], float]

SMALL_BYTES = 64 * 1024
"""Smaller arrays are ordinary ones: for them the driver's copy costs less than a block."""

KEPT_BYTES = 1024**3
"""How many bytes of free blocks are kept. Those in use come on top: three batches may wait to be accepted while the
fourth runs."""


BOUND = "as many pages are locked as worker.pinned_bytes allows: further results are copied through pageable memory"
REFUSED = "the driver refuses to lock pages: results are copied through pageable memory"

REFUSED_S = 300.0
"""How long the driver is not asked again after it has refused to lock, unless blocks were unlocked before."""


class PageLock(Protocol):
    """Keeps the pages of a block in place, so that a device can reach them."""

    @property
    def locked_bytes(self) -> int:
        """How many bytes are locked now."""

    def has_room(self, size: int) -> bool:
        """Whether its own bound lets it lock so many bytes more."""

    def lock(self, address: int, size: int) -> bool:
        """Lock a block. Returns False where that fails; the block is used all the same, with slower copies."""

    def unlock(self, address: int) -> bool:
        """Undo a `lock` that returned True. Returns False where the device may still reach the pages: then they must
        stay where they are."""


class NoLock:
    """Locks nothing, for a CPU."""

    locked_bytes = 0

    def has_room(self, size: int) -> bool:
        """Return True, so that no block is given up for another."""
        return True

    def lock(self, address: int, size: int) -> bool:
        """Return False."""
        return False

    def unlock(self, address: int) -> bool:
        """Return True."""
        return True


class CudaLock:
    """Locks at most `limit_bytes` with the CUDA runtime that ONNX Runtime has loaded: until a session has been opened,
    nothing is locked."""

    def __init__(
        self, limit_bytes: int, *, runtime: Callable[[], CudaRuntime | None] = cuda_runtime, clock: Clock = monotonic
    ) -> None:
        self._limit = limit_bytes
        self._runtime = runtime
        self._clock = clock
        self._locked: dict[int, int] = {}  # size by address
        self._ask_again_at = -math.inf
        self._told: set[str] = set()

    @property
    def locked_bytes(self) -> int:
        """How many bytes are locked now."""
        return sum(tuple(self._locked.values()))  # a copy: a finalizer may unlock meanwhile, on any thread

    def has_room(self, size: int) -> bool:
        """Whether `limit_bytes` lets it lock so many bytes more."""
        return self.locked_bytes + size <= self._limit

    def lock(self, address: int, size: int) -> bool:
        """Lock a block. Returns False beyond the bound and where the driver refuses; each is logged once."""
        cuda = self._runtime()
        if cuda is None or self._clock() < self._ask_again_at:
            return False
        if not self.has_room(size):
            self._tell(BOUND, size)
            return False
        if status := cuda.lock_pages(address, size):
            self._ask_again_at = self._clock() + REFUSED_S
            self._tell(REFUSED, size, status)
            return False
        self._locked[address] = size
        return True

    def unlock(self, address: int) -> bool:
        """Unlock a block before its memory is returned to the system, also after a refusal."""
        cuda = self._runtime()
        if cuda is None or cuda.unlock_pages(address):
            return False
        self._locked.pop(address, None)
        self._ask_again_at = -math.inf  # now the driver may have room
        return True

    def _tell(self, message: str, size: int, status: int = 0) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.bind(status=status, bytes=size, locked=self.locked_bytes, limit=self._limit).warning(message)


class _Block:
    """Anonymous memory, page-aligned, and locked while it lives."""

    def __init__(self, size: int, pages: PageLock) -> None:
        self.size = size
        self.memory = _mapped(size)
        self.is_locked = False
        self._pages = pages

    def lock(self) -> None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        if not self.is_locked and self._pages.lock(address, self.size):
            self.is_locked = True
            weakref.finalize(self, _unlock, self._pages, address, self.memory).atexit = False


class Blocks:
    """Makes arrays in blocks of memory. Any thread may call `take`, and arrays may be freed in any."""

    def __init__(self, pages: PageLock) -> None:
        self._pages = pages
        self._lock = Lock()
        # The longest unused first. Finalizers append to it, on any thread and between any two lines of this class:
        # they must not wait for the lock, and need none.
        self._free: list[_Block] = []

    @property
    def locked_bytes(self) -> int:
        """How many bytes are page-locked now, in arrays and in free blocks."""
        return self._pages.locked_bytes

    def take(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array with arbitrary values.

        Raises OSError when the system has no memory left.
        """
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < SMALL_BYTES:
            return np.empty(shape, kind)
        with self._lock:
            block = self._fitting(size) or self._new(size)
            block.lock()
            self._trim()
        holder = (ctypes.c_char * size).from_buffer(block.memory)
        weakref.finalize(holder, self._free.append, block).atexit = False
        return np.ndarray(shape, kind, memoryview(holder))

    def _fitting(self, size: int) -> _Block | None:
        # Large enough, and not so large that half of it is wasted. One that could not be locked comes last.
        fitting = [block for block in tuple(self._free) if size <= block.size <= 2 * size]
        if not fitting:
            return None
        block = min(fitting, key=lambda block: not block.is_locked)
        self._free.remove(block)
        return block

    def _new(self, size: int) -> _Block:
        # Shapes that no longer come must not keep those that do from being locked.
        while self._free and not self._pages.has_room(size):
            self._free.pop(0)
        return _Block(size, self._pages)

    def _trim(self) -> None:
        while sum(block.size for block in tuple(self._free)) > KEPT_BYTES:
            self._free.pop(0)


def host_blocks(device: Device) -> Blocks:
    """The blocks of this process for a device, which all of its sessions and batches share: how many are needed depends
    on how many arrays are alive."""
    return _process_blocks(device.pinned_bytes if device.kind == "cuda" else 0)


@cache
def _process_blocks(pinned_bytes: int) -> Blocks:
    return Blocks(CudaLock(pinned_bytes) if pinned_bytes else NoLock())


def _mapped(size: int) -> mmap.mmap:
    # Private, since only private memory is given huge pages: 128 MiB are touched in 14 ms instead of 96, and locked in
    # as many pieces fewer. No child may share it: after a fork the kernel would give one of the two a copy, and the
    # device would go on writing to the other.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK"):
        if hasattr(mmap, advice):
            with suppress(OSError):  # a kernel without huge pages
                memory.madvise(getattr(mmap, advice))
    return memory


_kept: list[mmap.mmap] = []
"""Memory that could not be unlocked. Once unmapped, its addresses would come again for another block while the device
still wrote to the old pages: results would be those of earlier batches."""


def _unlock(pages: PageLock, address: int, memory: mmap.mmap) -> None:
    if not pages.unlock(address):
        _kept.append(memory)
