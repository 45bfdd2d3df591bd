"""Host memory for the results of a GPU: page-locked, so that the GPU writes there by itself, and used again.

Locking a block costs more than the copy that it saves (a call to the driver, every page touched), so that blocks are
kept. No caller returns one: a block is free again when the array in it, and every view of that array, are gone.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from loguru import logger

from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.cuda import cuda_runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray
else:
    np = lazy_import("numpy")

SMALL_BYTES = 64 * 1024
"""Smaller arrays are ordinary ones: for them the driver's copy costs less than a block."""

KEPT_BYTES = 1024**3
"""How many bytes of free blocks are kept. Those in use come on top: three batches may wait to be accepted while the
fourth runs."""


class PageLock(Protocol):
    """Keeps the pages of a block in place, so that a device can reach them."""

    def lock(self, address: int, size: int) -> bool:
        """Lock a block. Returns False where that fails; the block is used all the same, with slower copies."""

    def unlock(self, address: int) -> None:
        """Undo a `lock` that returned True."""


class NoLock:
    """Locks nothing, for a CPU."""

    def lock(self, address: int, size: int) -> bool:
        """Return False."""
        return False

    def unlock(self, address: int) -> None:
        """Do nothing."""


class CudaLock:
    """Locks with the CUDA runtime that ONNX Runtime has loaded: a session must have been opened before."""

    def __init__(self) -> None:
        self._cuda = cuda_runtime()
        self._refused = self._cuda is None
        if self._refused:
            logger.warning("results are copied through pageable memory: no CUDA runtime is loaded")

    def lock(self, address: int, size: int) -> bool:
        """Lock a block. Returns False where the driver refuses, which is logged once, and after that."""
        if self._refused or self._cuda is None:
            return False
        status = self._cuda.lock_pages(address, size)
        if status:
            logger.bind(status=status, bytes=size).warning("results are copied through pageable memory")
            self._refused = True
        return not status

    def unlock(self, address: int) -> None:
        """Unlock a block before its memory is returned to the system, also after a refusal."""
        if self._cuda is not None:
            self._cuda.unlock_pages(address)


class _Block:
    """Anonymous memory, page-aligned, and locked while it lives."""

    def __init__(self, size: int, pages: PageLock) -> None:
        self.size = size
        self.memory = mmap.mmap(-1, size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        if pages.lock(address, size):
            weakref.finalize(self, pages.unlock, address).atexit = False


class Blocks:
    """Makes arrays in blocks of memory. Only one thread may call `take`; arrays may be freed in any."""

    def __init__(self, pages: PageLock) -> None:
        self._pages = pages
        self._free: list[_Block] = []  # the longest unused first

    def take(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array with arbitrary values.

        Raises OSError when the system has no memory left.
        """
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < SMALL_BYTES:
            return np.empty(shape, kind)
        block = self._fitting(size) or _Block(size, self._pages)
        holder = (ctypes.c_char * size).from_buffer(block.memory)
        weakref.finalize(holder, self._free.append, block).atexit = False
        self._trim()
        return np.ndarray(shape, kind, memoryview(holder))

    def _fitting(self, size: int) -> _Block | None:
        # Large enough, and not so large that half of it is wasted.
        for index, block in enumerate(self._free):
            if size <= block.size <= 2 * size:
                return self._free.pop(index)
        return None

    def _trim(self) -> None:
        while sum(block.size for block in tuple(self._free)) > KEPT_BYTES:
            self._free.pop(0)
