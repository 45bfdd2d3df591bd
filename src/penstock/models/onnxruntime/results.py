"""The results of a run while they are on the card, and the memory that they lie in."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.models.onnxruntime.cuda import CudaRuntime

if TYPE_CHECKING:
    import numpy as np


class Tensor(NamedTuple):
    """Values on the card, in one piece."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Results(NamedTuple):
    """The outputs of a run. They stay as they are for as long as somebody holds `memory`."""

    tensors: list[Tensor]
    memory: object


class DeviceBlock:
    """Memory of the card, which is free again when nobody holds this object any more."""

    def __init__(self, address: int) -> None:
        self.address = address


class DeviceBlocks:
    """Makes blocks for the results of the runs in flight, outside of the arena.

    Results that are being copied while the next run computes would lie in the middle of what that run needs: the arena
    would grow by its largest block (seen: 1.6 GB). There are as many blocks as results in flight, all as large as the
    largest that was asked for.
    """

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self._size = 0
        self._free: list[int] = []  # finalizers append to it, on any thread

    def take(self, size: int) -> DeviceBlock:
        """A block of at least this size. Only one thread may call it at a time. Raises RuntimeError in CUDA's words."""
        if size > self._size:
            self._size = size  # before the next line: from now on a smaller block that comes back is not kept
            self._drop_free()
        address = self._free.pop() if self._free else self._cuda.allocate(self._size)
        block = DeviceBlock(address)
        weakref.finalize(block, self._return, address, self._size).atexit = False
        return block

    def _return(self, address: int, size: int) -> None:
        if size == self._size:
            self._free.append(address)
        else:
            self._cuda.free(address)

    def _drop_free(self) -> None:
        while self._free:
            self._cuda.free(self._free.pop())
