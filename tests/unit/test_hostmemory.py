"""Blocks of host memory: used again only when nobody looks at them, locked once, unlocked before they go."""

import gc
from pathlib import Path

import numpy as np
import pytest

from penstock.models.onnxruntime import memory
from penstock.models.onnxruntime.memory import SMALL_BYTES, Blocks, CudaLock, NoLock

SHAPE = (4, 3, 64, 64)


class Locks:
    """Remembers what is locked, as a driver would."""

    def __init__(self, works: bool = True) -> None:
        self.held: dict[int, int] = {}
        self.works = works

    def lock(self, address: int, size: int) -> bool:
        if self.works:
            assert address not in self.held
            self.held[address] = size
        return self.works

    def unlock(self, address: int) -> None:
        assert mapped(address)
        del self.held[address]


def mapped(address: int) -> bool:
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(low, 16) <= address < int(high, 16) for low, high in ranges)


def test_an_array_has_the_shape_and_type_asked_for_and_can_be_written() -> None:
    array = Blocks(NoLock()).take(SHAPE, np.float32)
    array[:] = 7

    assert (array.shape, array.dtype, array.flags.c_contiguous) == (SHAPE, np.dtype(np.float32), True)
    assert array.sum() == 7 * array.size


def test_a_block_is_used_again_when_its_array_and_every_view_of_it_are_gone() -> None:
    blocks = Blocks(NoLock())
    array = blocks.take(SHAPE, np.float32)
    address = array.ctypes.data
    view = array[0, :, 3]

    del array
    other = blocks.take(SHAPE, np.float32)
    assert other.ctypes.data != address

    del view
    assert blocks.take(SHAPE, np.float32).ctypes.data == address


def test_arrays_that_live_at_the_same_time_share_nothing() -> None:
    blocks = Blocks(NoLock())

    arrays = [blocks.take(SHAPE, np.float32) for _ in range(5)]

    assert len({a.ctypes.data for a in arrays}) == 5


def test_a_block_is_locked_once_however_often_it_is_used() -> None:
    locks = Locks()
    blocks = Blocks(locks)

    for _ in range(5):
        blocks.take(SHAPE, np.float32)

    assert len(locks.held) == 1


def test_a_block_serves_what_is_somewhat_smaller_but_is_not_wasted_on_little() -> None:
    locks = Locks()
    blocks = Blocks(locks)
    blocks.take((1000, 1000), np.uint8)

    blocks.take((600, 1000), np.uint8)
    assert len(locks.held) == 1

    blocks.take((400, 1000), np.uint8)
    assert len(locks.held) == 2


def test_small_arrays_are_ordinary_ones() -> None:
    locks = Locks()

    assert Blocks(locks).take((SMALL_BYTES - 1,), np.uint8).nbytes == SMALL_BYTES - 1
    assert locks.held == {}


def test_what_is_free_beyond_measure_is_unlocked_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", 1_000_000)
    locks = Locks()
    blocks = Blocks(locks)
    arrays = [blocks.take((300, 1000), np.uint8) for _ in range(6)]
    assert len(locks.held) == 6

    del arrays
    gc.collect()
    kept = blocks.take((300, 1000), np.uint8)

    assert len(locks.held) == 4  # three free ones, and the one in use
    assert kept.ctypes.data in locks.held


def test_memory_that_cannot_be_locked_is_used_all_the_same() -> None:
    locks = Locks(works=False)
    blocks = Blocks(locks)

    for _ in range(3):
        blocks.take(SHAPE, np.float32)[:] = 1

    assert locks.held == {}


def test_without_a_cuda_runtime_nothing_is_locked() -> None:
    blocks = Blocks(CudaLock())

    assert not CudaLock().lock(0, 4096)
    assert blocks.take(SHAPE, np.float32).shape == SHAPE
