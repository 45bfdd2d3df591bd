"""What a device is given after it could not hold a batch: less at once, and some minutes later more again."""

import numpy as np
import pytest

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.errors import DeviceOutOfMemory
from penstock.models.base import Work
from penstock.models.noop import Noop
from penstock.models.onnxruntime.cuda_device import LEAST_BYTES, RESERVED_BYTES, arena_limit
from penstock.settings import LimitSettings
from penstock.worker.batcher.backlog import Backlog
from penstock.worker.batcher.costs import LARGER_AGAIN_S, Costs
from penstock.worker.batcher.device_work import BatchKey, DeviceBatch, DeviceWork
from penstock.worker.batcher.outcomes import Outcomes

SIZES = (1, 2, 4, 8)
KEY = BatchKey(Noop.name, "", (3, 8, 8))


class Stacked(Noop):
    """A model whose tiles run in batches."""

    one_at_a_time = False


GIB = 1024**3


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Splittable(Work):
    """Work that can be cut into tiles of a quarter of its size."""

    def split_smaller(self, below: int) -> Work:
        side = self.shape[1]
        while 3 * side * side >= below:
            side //= 2
        return Work([np.zeros((3, side, side), np.float32)])


def work() -> Work:
    return Splittable([np.zeros(KEY.shape, np.float32)])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outcomes(clock: Clock) -> Outcomes:
    return Outcomes(Backlog(SIZES, "test"), wake=lambda: None, lose_device=lambda *_: None, clock=clock)


def run_refusing(costs: Costs, above: int) -> list[int]:
    """Run batches as large as may be on a device that holds at most `above` tiles; returns their sizes."""
    tried = []
    while not tried or tried[-1] > above:
        tried.append(costs.most(KEY))
        if tried[-1] > above:
            costs.forbid(KEY, tried[-1])
    return tried


def test_after_an_out_of_memory_batches_are_smaller(clock: Clock) -> None:
    costs = Costs(SIZES, clock)

    assert run_refusing(costs, above=2) == [8, 4, 2]
    assert run_refusing(costs, above=2) == [2]


def test_minutes_later_one_size_more_is_tried_and_what_fits_stays(clock: Clock) -> None:
    costs = Costs(SIZES, clock)
    run_refusing(costs, above=1)

    sizes = []
    for _ in range(4):
        clock.now += LARGER_AGAIN_S
        sizes += run_refusing(costs, above=8)

    assert sizes == [2, 4, 8, 8]


def test_a_try_that_fails_is_the_only_one_for_some_minutes(clock: Clock) -> None:
    costs = Costs(SIZES, clock)
    run_refusing(costs, above=2)

    clock.now += LARGER_AGAIN_S
    assert run_refusing(costs, above=2) == [4, 2]
    clock.now += LARGER_AGAIN_S - 1
    assert run_refusing(costs, above=2) == [2]


def test_a_card_that_is_too_small_is_asked_less_and_less_often_but_never_for_the_last_time(clock: Clock) -> None:
    costs = Costs(SIZES, clock)
    run_refusing(costs, above=2)

    asked_after = []
    for _ in range(6):
        began = clock.now
        while run_refusing(costs, above=2) == [2]:
            clock.now += LARGER_AGAIN_S
        asked_after.append((clock.now - began) / LARGER_AGAIN_S)

    assert asked_after == [1, 2, 4, 8, 8, 8]


def test_two_batches_that_fail_at_once_are_one_failure(clock: Clock) -> None:
    costs = Costs(SIZES, clock)
    costs.forbid(KEY, 8)
    costs.forbid(KEY, 8)

    clock.now += LARGER_AGAIN_S
    assert costs.most(KEY) == 8


def test_two_batches_that_fail_at_once_after_minutes_are_one_failed_try(clock: Clock) -> None:
    costs = Costs(SIZES, clock)
    costs.forbid(KEY, 8)
    clock.now += LARGER_AGAIN_S
    costs.forbid(KEY, 8)
    costs.forbid(KEY, 8)

    clock.now += LARGER_AGAIN_S
    assert costs.most(KEY) == 4


def test_a_large_batch_that_was_on_its_way_changes_nothing_when_a_smaller_one_has_failed(clock: Clock) -> None:
    costs = Costs(SIZES, clock)
    costs.forbid(KEY, 4)
    costs.forbid(KEY, 8)

    assert costs.most(KEY) == 2


def test_a_key_that_fits_is_not_made_smaller_for_another(clock: Clock) -> None:
    costs = Costs(SIZES, clock)
    costs.forbid(KEY, 4)

    assert costs.most(BatchKey(Noop.name, "", (3, 4, 4))) == 8


def test_tiles_that_were_too_large_are_tried_again_minutes_later(outcomes: Outcomes, clock: Clock) -> None:
    runner = Noop(LimitSettings())

    assert outcomes.forbid(KEY, 1) == 0
    assert outcomes.fitting(runner, work()).shape == (3, 4, 4)
    clock.now += LARGER_AGAIN_S
    assert outcomes.fitting(runner, work()).shape == KEY.shape


def test_of_two_tiles_that_were_too_large_the_smaller_counts(outcomes: Outcomes) -> None:
    outcomes.forbid(BatchKey(Noop.name, "", (3, 4, 4)), 1)
    outcomes.forbid(KEY, 1)

    assert outcomes.fitting(Noop(LimitSettings()), work()).shape == (3, 2, 2)


async def test_the_tiles_of_a_batch_that_was_too_large_run_in_a_smaller_one(clock: Clock) -> None:
    backlog = Backlog(SIZES, "test")
    outcomes = Outcomes(backlog, wake=lambda: None, lose_device=lambda *_: None, clock=clock)
    task = DeviceWork(
        Stacked(LimitSettings()), Work([np.zeros(KEY.shape, np.float32)] * 8), Priority.NORMAL, lambda *_: None
    )
    backlog.add(task)
    tiles = backlog.choose(())
    assert len(tiles) == 8

    outcomes.conclude(DeviceBatch(tiles, np.zeros((8, *KEY.shape))), DeviceOutOfMemory("full"))

    assert len(backlog.choose(())) == 4
    assert not task.finished.done()


@pytest.mark.parametrize(
    ("total", "share", "bound", "limit"),
    [
        (16 * GIB, 1.0, 0, 16 * GIB - RESERVED_BYTES),
        (16 * GIB, 0.5, 0, 8 * GIB - RESERVED_BYTES),
        (16 * GIB, 1.0, 4 * GIB, 4 * GIB),
        (10 * GIB, 1.0, 80 * GIB, 10 * GIB - RESERVED_BYTES),  # a slice of a card: the parent saw the whole
        (1 * GIB, 1.0, 0, LEAST_BYTES),
    ],
)
def test_an_arena_may_take_its_share_of_the_card_but_what_is_reserved(
    total: int, share: float, bound: int, limit: int
) -> None:
    device = Device(
        name="cuda:0", kind="cuda", threads=1, sides=(8,), batches=(1,), share=share, memory_limit_bytes=bound
    )

    assert arena_limit(total, device) == limit
