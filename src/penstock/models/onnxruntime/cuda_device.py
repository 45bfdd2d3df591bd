"""The CUDA device of this process: what its sessions share, and the way of results from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import TYPE_CHECKING, Any

from penstock.core.device import Device
from penstock.lazy_import import lazy_import
from penstock.models.device_time import note_device_time
from penstock.models.onnxruntime.cuda import CudaRuntime, cuda_runtime
from penstock.models.onnxruntime.memory import Blocks
from penstock.models.onnxruntime.results import DeviceBlocks, Results, Tensor
from penstock.models.onnxruntime.runtime import register_cuda_arena

if TYPE_CHECKING:
    from ctypes import c_void_p

    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

RESERVED_BYTES = 1536 * 1024 * 1024
"""Memory of a card that the arena of a worker leaves alone: CUDA's context, the handles of cuDNN and cuBLAS with their
workspaces for each session, the weights, and the results in flight."""

LEAST_BYTES = 256 * 1024 * 1024
"""The arena may hold this much, however small the share of the card is: the smallest batch of every shipped model."""


class CudaDevice:
    """One stream, one arena and one lock for all sessions of the process.

    One run computes at a time, although the runtime lets several threads into one session. Two would share the card's
    multiprocessors and be no faster together. Each would need memory of its own, and handles of cuBLAS and cuDNN, which
    the provider otherwise hands from thread to thread. And what a run frees, the arena gives to the next at once, while
    the card still works with it: that is in order within one stream only.
    """

    def __init__(self, cuda: CudaRuntime, device: Device) -> None:
        self._cuda = cuda
        self._lock = Lock()
        self.blocks = DeviceBlocks(cuda)
        self._copying = local()
        self.stream = cuda.new_stream().value or 0
        self.limit_bytes = arena_limit(cuda.memory().total, device)
        register_cuda_arena(self.limit_bytes)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside of this block no other thread runs, opens or closes a session."""
        with self._lock:
            yield

    def to_host(self, results: Results, blocks: Blocks) -> list[NDArray[Any]]:
        """Copy the results of a run from the card into blocks of host memory, beside what the card computes.

        Raises RuntimeError in the words of CUDA.
        """
        started = time.perf_counter()
        arrays = [self._copied(tensor, blocks) for tensor in results.tensors]
        note_device_time(copy_s=time.perf_counter() - started)
        return arrays

    def _copied(self, tensor: Tensor, blocks: Blocks) -> NDArray[Any]:
        array = blocks.take(tensor.shape, tensor.dtype)
        self._cuda.copy_to_host(array.ctypes.data, tensor.address, array.nbytes, self._copy_stream())
        return array

    def _copy_stream(self) -> c_void_p:
        # A stream for each thread, so that none waits for the copy of another.
        if not hasattr(self._copying, "stream"):
            self._copying.stream = self._cuda.new_stream()
        stream: c_void_p = self._copying.stream
        return stream


def arena_limit(total_bytes: int, device: Device) -> int:
    """The most that the arena of a worker may hold, on a card with so much memory: its share of the card without what
    is reserved, and no more than `memory_limit_bytes` of the device."""
    share = int(total_bytes * device.share) - RESERVED_BYTES
    return max(LEAST_BYTES, min(share, device.memory_limit_bytes or share))


_cards: list[CudaDevice] = []
_opening = Lock()


def cuda_device_for(device: Device) -> CudaDevice | None:
    """The card of this process; None where the CUDA runtime could not be loaded. The device of the first call says how
    much memory the sessions may take.

    Raises RuntimeError in the words of CUDA, where the card cannot be used.
    """
    with _opening:
        if not _cards and (cuda := cuda_runtime()):
            _cards.append(CudaDevice(cuda, device))
        return _cards[0] if _cards else None
