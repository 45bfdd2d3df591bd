"""Blocks of host memory: used again only when nobody looks at them, locked once, unlocked before they go."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from loguru import logger

from penstock.core.device import Device
from penstock.models.onnxruntime import memory
from penstock.models.onnxruntime.cuda import CudaRuntime
from penstock.models.onnxruntime.memory import REFUSED_S, SMALL_BYTES, Blocks, CudaLock, NoLock, host_blocks

SHAPE = (4, 3, 64, 64)


class Locks:
    """Remembers what is locked, as a driver would."""

    def __init__(self, works: bool = True) -> None:
        self.held: dict[int, int] = {}
        self.works = works

    @property
    def locked_bytes(self) -> int:
        return sum(self.held.values())

    def has_room(self, size: int) -> bool:
        return size > 0

    def lock(self, address: int, size: int) -> bool:
        if self.works:
            assert address not in self.held
            self.held[address] = size
        return self.works

    def unlock(self, address: int) -> bool:
        assert mapped(address)
        del self.held[address]
        return True


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
    blocks = Blocks(CudaLock(2**30))

    assert not CudaLock(2**30).lock(0, 4096)
    assert blocks.take(SHAPE, np.float32).shape == SHAPE


# --- the driver's side ----------------------------------------------------------------------------------------

KB = 1000
BLOCK = 300 * KB


class Driver(CudaRuntime):
    """A CUDA runtime that locks so many bytes in all, as that of WSL does."""

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.held: dict[int, int] = {}
        self.asked = 0
        self.loses_track = False

    def lock_pages(self, address: int, size: int) -> int:
        self.asked += 1
        if sum(self.held.values()) + size > self.holds:
            return 2
        assert address not in self.held
        self.held[address] = size
        return 0

    def unlock_pages(self, address: int) -> int:
        assert mapped(address)
        if self.loses_track:
            return 4
        del self.held[address]
        return 0


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lambda line: lines.append(str(line)), format="{message}")
    yield lines
    logger.remove(number)


def locks_of(driver: Driver, limit_bytes: int = 10**9, clock: Clock | None = None) -> CudaLock:
    return CudaLock(limit_bytes, runtime=lambda: driver, clock=clock or Clock())


def taken(blocks: Blocks, count: int = 1, size: int = BLOCK) -> list[np.ndarray[tuple[int], np.dtype[np.uint8]]]:
    return [blocks.take((size,), np.uint8) for _ in range(count)]


def test_a_block_that_was_locked_before_a_refusal_is_unlocked_before_its_memory_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", 0)
    driver = Driver(holds=BLOCK)
    blocks = Blocks(locks_of(driver))
    first, refused = taken(blocks, 2)
    address = first.ctypes.data
    assert list(driver.held) == [address]

    del first
    gc.collect()
    taken(blocks, 1, size=100 * KB)  # gives back what is free

    assert not set(driver.held) & {address}
    assert refused.nbytes == BLOCK


def test_no_more_is_locked_than_the_bound_and_that_is_said_once(said: list[str]) -> None:
    driver = Driver(holds=10**9)
    blocks = Blocks(locks_of(driver, limit_bytes=2 * BLOCK))

    arrays = taken(blocks, 5)

    assert sum(driver.held.values()) == blocks.locked_bytes == 2 * BLOCK
    assert all(array.ctypes.data for array in arrays)
    assert [line for line in said if "worker.pinned_bytes" in line] == said[:1] == said


def test_free_blocks_of_shapes_that_no_longer_come_make_room_for_those_that_do() -> None:
    driver = Driver(holds=10**9)
    blocks = Blocks(locks_of(driver, limit_bytes=4 * BLOCK))
    taken(blocks, 4)
    gc.collect()

    (large,) = taken(blocks, 1, size=3 * BLOCK)

    assert driver.held[large.ctypes.data] == 3 * BLOCK
    assert blocks.locked_bytes == 4 * BLOCK


def test_a_driver_that_refused_is_not_asked_again_for_minutes_but_then_it_is(said: list[str]) -> None:
    driver, clock = Driver(holds=0), Clock()
    blocks = Blocks(locks_of(driver, clock=clock))

    taken(blocks, 3)
    assert driver.asked == 1
    clock.now_s += REFUSED_S
    driver.holds = BLOCK
    (array,) = taken(blocks)

    assert list(driver.held) == [array.ctypes.data]
    assert [line for line in said if "refuses" in line] == said[:1]


def test_a_driver_that_refused_is_asked_again_when_blocks_have_been_unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(holds=2 * BLOCK)
    blocks = Blocks(locks_of(driver))
    kept, freed, refused = taken(blocks, 3)

    monkeypatch.setattr(memory, "KEPT_BYTES", 0)
    del freed, refused
    gc.collect()
    taken(blocks, 1, size=KB * 100)  # drops the free ones
    gc.collect()
    (array,) = taken(blocks)

    assert set(driver.held) == {kept.ctypes.data, array.ctypes.data}


def test_memory_that_cannot_be_unlocked_is_never_given_to_another_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", 0)
    driver = Driver(holds=10**9)
    driver.loses_track = True
    blocks = Blocks(locks_of(driver))
    addresses = [array.ctypes.data for array in taken(blocks, 3)]

    gc.collect()
    taken(blocks, 1, size=100 * KB)  # gives back what is free
    again = taken(blocks, 3)

    assert all(mapped(address) for address in addresses)
    assert not {array.ctypes.data for array in again} & set(addresses)


def test_several_threads_get_blocks_of_their_own() -> None:
    driver = Driver(holds=10**9)
    blocks = Blocks(locks_of(driver))

    def fill(value: int) -> bool:
        array = blocks.take((BLOCK,), np.uint8)
        array[:] = value
        return bool((array == value).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(fill, [n % 251 for n in range(400)]))
    assert len(driver.held) <= 9


def test_all_who_run_on_a_device_share_its_blocks_and_a_cpu_locks_none() -> None:
    device = Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,), pinned_bytes=BLOCK)

    assert host_blocks(device) is host_blocks(device)
    assert host_blocks(Device(name="cpu", kind="cpu", threads=1, sides=(64,), batches=(1,))).locked_bytes == 0
