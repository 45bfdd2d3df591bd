"""Which batch size pays, who is chosen, and who waits for company."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.core.task import Priority
from penstock.errors import ConfigurationError, DeviceOutOfMemory
from penstock.models.base import BaseModelRunner, Interrupted, Outputs, Params, Product, Work
from penstock.models.tiling import Ladder, TiledImage
from penstock.settings import LimitSettings
from penstock.worker.batcher.backlog import Backlog
from penstock.worker.batcher.costs import KNOWN, Costs
from penstock.worker.batcher.device_work import BatchKey, DeviceWork
from penstock.worker.batcher.scheduler import DeviceRun, DeviceScheduler
from penstock.worker.threads import Threads

LANE = BatchKey("model", "", (64, 64, 3))
GPU_LIKE = Device(name="test:0", kind="cpu", threads=1, sides=(32, 48, 64), batches=(1, 2, 4))
CPU_LIKE = Device(name="test", kind="cpu", threads=2, streams=2, sides=(64,), batches=(1,))


class Nearest(BaseModelRunner[Params]):
    """Doubles an image; `rule` may refuse tiles, `meeting` makes two runs wait for one another."""

    name = "nearest"
    concurrent = True

    def __init__(self) -> None:
        super().__init__(LimitSettings())
        self.shapes: list[tuple[int, ...]] = []
        self.rule: Any = lambda tiles: None
        self.together = 0
        self.most_together = 0
        self.stop: dict[int, threading.Event] = {}

    def load_model(self, device: Device) -> None:
        self.device = device

    def warmup(self) -> list[Work]:
        return [Work([np.zeros((*shape, 3), np.uint8)]) for shape in self.device.shapes]

    def prepare(self, source: bytes, params: Params) -> Work:
        raise NotImplementedError

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        raise NotImplementedError

    def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
        self.shapes.append(tiles.shape)
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            self.rule(tiles)
            if self.stop.setdefault(id(work), threading.Event()).wait(0.02 if work.count > 1 else 0):
                raise Interrupted
            return [(tile, 0.0) for tile in tiles.repeat(2, axis=1).repeat(2, axis=2)]
        finally:
            self.together -= 1

    def interrupt(self, work: Work) -> None:
        self.stop.setdefault(id(work), threading.Event()).set()


class Alone(Nearest):
    name = "alone"
    concurrent = False


def photo(side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)


def image_work(side: int, device: Device, *, overlap: int = 4) -> TiledImage:
    return TiledImage(photo(side), Ladder(device.shapes, overlap), scale=2, lane="", context=None)


class Started:
    """A scheduler that has started with one runner."""

    def __init__(self, runner: Nearest, device: Device) -> None:
        self.runner, self.pool = runner, Threads(3, "tiles")
        self.device = DeviceScheduler(device, self.pool)

    async def __aenter__(self) -> "Started":
        await self.device.start([self.runner])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.device.close()
        self.pool.close()

    def run(self, work: Work, priority: Priority = Priority.NORMAL) -> asyncio.Task[DeviceRun]:
        return asyncio.create_task(
            self.device.run(self.runner, work, priority=priority, on_progress=lambda done, total: None)
        )


class Checked(Work):
    """Work of a warm-up whose outputs must have the brightness of its tile."""

    def check(self, output: Any) -> None:
        if output[0].max() != self.tile(0).max():
            raise ConfigurationError(f"the device computes wrong values in {self.shape}")


class WarmedUpWith(Nearest):
    def warmup(self) -> list[Work]:
        return [Checked([np.full((*shape, 3), shape[0], np.uint8)]) for shape in self.device.shapes]


async def test_a_device_whose_warm_up_comes_out_wrong_in_one_shape_does_not_start() -> None:
    class Faulty(WarmedUpWith):
        def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
            return [(tile * (tiles.shape != (4, 48, 48, 3)), 0.0) for tile in tiles]

    async with Started(WarmedUpWith(), GPU_LIKE):
        pass
    refused = Started(Faulty(), GPU_LIKE)
    with pytest.raises(ConfigurationError, match=r"computes wrong values in \(48, 48, 3\)"):
        await refused.__aenter__()
    refused.pool.close()


# --- costs ----------------------------------------------------------------------------------------------------


def test_without_measurements_everything_that_waits_goes_together() -> None:
    costs = Costs((1, 2, 4))

    assert [costs.best(LANE, waiting) for waiting in (1, 2, 3, 4, 9)] == [1, 2, 4, 4, 4]


def test_a_larger_batch_is_taken_only_where_it_saves_time_for_each_tile() -> None:
    costs = Costs((1, 2, 4))
    for size, seconds in ((1, 1.0), (2, 1.2), (4, 4.4)):
        costs.note(LANE, size, seconds)

    assert costs.best(LANE, 4) == 2
    assert costs.best(LANE, 1) == 1


def test_padding_counts_as_the_time_that_it_takes() -> None:
    costs = Costs((1, 4))
    costs.note(LANE, 1, 1.0)
    costs.note(LANE, 4, 2.5)

    assert costs.best(LANE, 4) == 4, "2.5 s for four against 4 s"
    assert costs.best(LANE, 2) == 1, "2.5 s for two against 2 s"


def test_costs_follow_what_is_measured_in_service() -> None:
    costs = Costs((1, 2))
    costs.note(LANE, 1, 1.0)
    costs.note(LANE, 2, 1.5)
    before = costs.best(LANE, 2)
    for _ in range(20):
        costs.note(LANE, 2, 3.0)

    assert (before, costs.best(LANE, 2)) == (2, 1)


def test_of_a_model_without_fixed_shapes_the_costs_of_those_that_ran_last_are_remembered() -> None:
    costs = Costs((1, 2))
    for width in range(1, 4 * KNOWN):
        costs.note(LANE, 1, 0.5)
        costs.note(BatchKey("model", "", (8, width, 3)), 2, 0.1)

    assert len(costs._seconds) == len(costs._tile_s) == KNOWN
    assert costs.expected_s(LANE, 1) == pytest.approx(0.5)
    assert costs.expected_s(BatchKey("model", "", (8, 1, 3)), 2) == 1.0, "as if it had never run"


def test_what_pays_follows_what_is_measured_and_what_the_device_cannot_hold() -> None:
    costs = Costs((1, 2))
    costs.note(LANE, 1, 1.0)
    costs.note(LANE, 2, 2.0)
    before = costs.paying("model")
    for _ in range(3):
        costs.note(LANE, 2, 0.5)
    measured = costs.paying("model")
    costs.forbid(LANE, 2)

    assert (before, measured, costs.paying("model")) == ((1, 1.0), (2, 1.0), (1, 1.0))


async def test_every_shape_and_batch_is_warmed_up_and_measured_before_the_first_task() -> None:
    runner = Nearest()
    async with Started(runner, GPU_LIKE):
        seen = {(shape[0], shape[2]) for shape in runner.shapes}

    assert seen == {(batch, side) for batch in GPU_LIKE.batches for side, _ in GPU_LIKE.shapes}


async def test_the_largest_batches_of_all_models_are_warmed_up_first() -> None:
    seen: list[tuple[int, ...]] = []
    runners = [Nearest(), Nearest()]
    for runner in runners:
        runner.rule = lambda tiles: seen.append(tiles.shape)
    pool = Threads(1, "tiles")
    scheduler = DeviceScheduler(GPU_LIKE, pool)
    await scheduler.start(runners)
    await scheduler.close()
    pool.close()

    assert [np.prod(shape) for shape in seen] == sorted((np.prod(shape) for shape in seen), reverse=True)
    assert runners[0].shapes == runners[1].shapes


# --- out of memory --------------------------------------------------------------------------------------------


async def test_tiles_that_the_device_cannot_hold_are_cut_smaller_and_the_limit_is_remembered() -> None:
    runner = Nearest()
    async with Started(runner, GPU_LIKE) as started:
        runner.rule = lambda tiles: _refuse_above(tiles, 48)
        first, second = image_work(150, GPU_LIKE), image_work(150, GPU_LIKE)
        done = await started.run(first)
        refused_before = sum(shape[2] == 64 for shape in runner.shapes)
        await started.run(second)

    assert done.work.shape[1] < 64
    for work in (first, second):
        assert (work.canvas.pixels == photo(150).repeat(2, axis=0).repeat(2, axis=1)).all()
    assert sum(shape[2] == 64 for shape in runner.shapes) == refused_before, "the limit is remembered"


async def test_a_device_that_cannot_hold_the_smallest_tile_fails_the_task() -> None:
    runner = Nearest()
    async with Started(runner, GPU_LIKE) as started:
        runner.rule = lambda tiles: _refuse_above(tiles, 0)
        with pytest.raises(DeviceOutOfMemory):
            await started.run(image_work(150, GPU_LIKE))


async def test_what_does_not_fit_at_warm_up_is_not_tried_at_once_in_service() -> None:
    runner = Nearest()
    runner.rule = lambda tiles: _refuse_above(tiles, 48)
    async with Started(runner, GPU_LIKE) as started:
        runner.shapes.clear()
        await started.run(image_work(150, GPU_LIKE))

    assert max(shape[2] for shape in runner.shapes) <= 48


def _refuse_above(tiles: np.ndarray, side: int) -> None:
    if tiles.shape[2] > side:
        raise DeviceOutOfMemory("too large")


# --- streams --------------------------------------------------------------------------------------------------


async def test_a_busy_device_is_handed_ahead_what_is_known_to_be_short() -> None:
    backlog, runner = Backlog((1,), "test"), Nearest()
    job = DeviceWork(runner, image_work(64, CPU_LIKE), Priority.NORMAL, lambda done, total: None)
    backlog.add(job)

    assert backlog.choose((), within_s=0.05) == [], "nobody knows"
    backlog.costs.note(job.key, 1, 1.0)
    assert backlog.choose((), within_s=0.05) == [], "a higher priority that comes now would wait for it"
    for _ in range(50):
        backlog.costs.note(job.key, 1, 0.01)
    assert [item.task for item in backlog.choose((), within_s=0.05)] == [job]


async def test_a_device_with_two_streams_runs_two_batches_at_a_time() -> None:
    runner = Nearest()
    async with Started(runner, CPU_LIKE) as started:
        work = image_work(300, CPU_LIKE)
        await started.run(work)

    assert runner.most_together == 2
    assert (work.canvas.pixels == photo(300).repeat(2, axis=0).repeat(2, axis=1)).all()


async def test_a_model_that_is_not_made_for_it_runs_one_batch_at_a_time() -> None:
    runner = Alone()
    async with Started(runner, CPU_LIKE) as started:
        await asyncio.gather(*(started.run(image_work(200, CPU_LIKE)) for _ in range(3)))

    assert runner.most_together == 1


async def test_canceling_one_task_stops_its_runs_on_every_stream_and_no_other() -> None:
    runner = Nearest()
    async with Started(runner, CPU_LIKE) as started:
        doomed, other = image_work(400, CPU_LIKE), image_work(200, CPU_LIKE)
        running = started.run(doomed)
        while runner.most_together < 2:
            await asyncio.sleep(0.002)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        after = len(runner.shapes)
        await started.run(other)

    assert running.cancelled()
    assert len(runner.shapes) == after + other.count
    assert (other.canvas.pixels == photo(200).repeat(2, axis=0).repeat(2, axis=1)).all()


# --- company --------------------------------------------------------------------------------------------------


async def test_a_model_with_a_window_waits_for_company_and_no_longer() -> None:
    runner = Nearest()
    runner.window_s = 0.3  # type: ignore[misc]
    async with Started(runner, GPU_LIKE) as started:
        runner.shapes.clear()
        for size, seconds in ((1, 1.0), (2, 1.0), (4, 1.0)):
            for _ in range(50):
                started.device._backlog.costs.note(BatchKey("nearest", "", (3, 64, 64)), size, seconds)
        first = started.run(Work([np.ones((3, 64, 64), np.float32)]))
        await asyncio.sleep(0.05)
        second = started.run(Work([np.ones((3, 64, 64), np.float32)]))
        began = time.monotonic()
        done = await asyncio.gather(first, second)
        waited_s = time.monotonic() - began

    assert [shape[0] for shape in runner.shapes] == [2]
    assert all(run.waited_s > 0.1 for run in done)
    assert waited_s < 5
