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
    largest that was asked for; where the card has no room for one of these, from then on as that which was asked for.
    """

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self._size = 0
        self._free: list[tuple[int, int]] = []  # address and size; finalizers append to it, on any thread

    def take(self, size: int) -> DeviceBlock:
        """A block of at least this size. Only one thread may call it at a time. Raises RuntimeError in CUDA's words."""
        self._size = max(size, self._size)
        address = self._kept() or self._new(size)
        block = DeviceBlock(address)
        weakref.finalize(block, self._return, address, self._size).atexit = False
        return block

    def _kept(self) -> int | None:
        while self._free:
            address, size = self._free.pop()
            if size == self._size:
                return address
            self._cuda.free(address)  # it came back while the size changed
        return None

    def _new(self, size: int) -> int:
        try:
            return self._cuda.allocate(self._size)
        except RuntimeError:
            if size == self._size:
                raise
            # The card is full. Who asks for less must not fail for want of what only larger results need.
            self._size = size
            return self._cuda.allocate(size)

    def _return(self, address: int, size: int) -> None:
        if size == self._size:
            self._free.append((address, size))
        else:
            self._cuda.free(address)
