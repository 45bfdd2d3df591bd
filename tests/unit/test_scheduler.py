"""The device scheduler with a runner whose arithmetic is checked by hand: what is batched, in which order, and what
one bad task means for the others."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from penstock.core.request import OutputOptions
from penstock.core.task import Priority
from penstock.errors import DeviceOutOfMemory, ImageTooLarge, InvalidOutput, ModelError
from penstock.models.base import BaseModelRunner, Device, DeviceBroken, Interrupted, Outputs, Params, Product, Work
from penstock.settings import LimitSettings
from penstock.worker.batcher.scheduler import DeviceRun, DeviceScheduler
from penstock.worker.stages import EarlyPostprocess
from penstock.worker.threads import Threads

GPU_LIKE = Device(name="test:0", kind="cpu", threads=1, sides=(4,), batches=(1, 2, 4))


class Doubling(BaseModelRunner[Params]):
    """Doubles its tiles; notes every batch, and waits for `gate` so that a test decides when the device is free."""

    name = "doubling"

    def __init__(self) -> None:
        super().__init__(LimitSettings())
        self.batches: list[list[float]] = []
        self.sizes: list[int] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.stopped = threading.Event()
        self.rule: Callable[[np.ndarray], None] = lambda tiles: None

    def load_model(self, device: Device) -> None:
        self.threads.add(threading.current_thread().name)

    def prepare(self, source: bytes, params: Params) -> Work:
        raise NotImplementedError

    def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
        self.threads.add(threading.current_thread().name)
        self.sizes.append(len(tiles))
        self.entered.set()
        while not self.gate.wait(0.005):
            if self.stopped.is_set():
                self.stopped.clear()
                raise Interrupted
        self.batches.append([float(v) for v in tiles[:, 0] if v])
        self.rule(tiles)
        return tiles * 2

    def interrupt(self, work: Work) -> None:
        self.stopped.set()

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        raise NotImplementedError


def work(*values: float, lane: str = "") -> Work:
    return Work([np.array([v], np.float32) for v in values], lane=lane)


def results(done: Work) -> list[float]:
    return [float(output[0]) for output in done.outputs]


@asynccontextmanager
async def scheduler(runner: Doubling) -> AsyncIterator[Callable[..., asyncio.Task[DeviceRun]]]:
    with Threads(2, "tiles") as pool:
        device = DeviceScheduler(GPU_LIKE, pool)
        await device.start([runner])

        def run(
            item: Work, priority: Priority = Priority.NORMAL, heard: Any = lambda done, total: None, **more: Any
        ) -> asyncio.Task[DeviceRun]:
            return asyncio.create_task(device.run(runner, item, priority=priority, on_progress=heard, **more))

        try:
            yield run
        finally:
            runner.gate.set()
            await device.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


async def test_tiles_of_several_tasks_meet_in_one_batch() -> None:
    runner = Doubling()
    async with scheduler(runner) as run:
        runner.gate.clear()
        first = run(work(1))
        await until(runner.entered.is_set)
        items = [work(2), work(3), work(4)]
        rest = [run(item) for item in items]
        await asyncio.sleep(0.02)
        runner.gate.set()
        await asyncio.gather(first, *rest)

    assert sorted(len(b) for b in runner.batches) in ([1, 3], [1, 1, 2])
    assert [results(item) for item in items] == [[4], [6], [8]]


async def test_the_time_on_the_device_is_told_before_each_progress() -> None:
    told: list[float | str] = []
    async with scheduler(Doubling()) as run:
        done = await run(
            work(1, 2, 3),
            heard=lambda done, _: told.append(f"{done}"),
            on_begin=lambda: told.append("begun"),
            on_time=told.append,
        )

    times = [time for time in told if not isinstance(time, str)]
    assert [time for time in told if isinstance(time, str)] == told[1::2] == ["begun", "1", "2", "3"]
    assert times[0] == 0 < times[1] <= times[2] <= times[3] == times[4] == done.device_s


async def test_tiles_of_different_lanes_never_meet() -> None:
    runner = Doubling()
    async with scheduler(runner) as run:
        await asyncio.gather(*(run(work(v, lane=str(v % 2))) for v in range(1, 9)))

    assert all(len({v % 2 for v in batch}) == 1 for batch in runner.batches)


async def test_the_product_of_a_single_tile_is_made_where_it_is_taken_in() -> None:
    early = EarlyPostprocess(lambda made: (threading.current_thread().name, results(made)))
    async with scheduler(Doubling()) as run:
        await run(work(3), on_single_output=early)

    assert early.result is not None
    thread, made = early.result
    assert thread.startswith("tiles"), "not on the thread of the device, which has better things to do"
    assert made == [6]
    assert early.took_s > 0


async def test_the_product_of_several_tiles_is_left_to_the_task() -> None:
    early = EarlyPostprocess(results)
    async with scheduler(Doubling()) as run:
        await run(work(1, 2), on_single_output=early)

    assert (early.result, early.took_s) == (None, 0)


async def test_a_product_that_cannot_be_made_fails_its_task_alone() -> None:
    def refuse(made: Work) -> None:
        raise ImageTooLarge("too large")

    async with scheduler(Doubling()) as run:
        with pytest.raises(ImageTooLarge):
            await run(work(1), on_single_output=refuse)
        assert results((await run(work(2))).work) == [4]


async def test_a_batch_is_padded_to_a_size_that_the_device_knows() -> None:
    runner = Doubling()
    async with scheduler(runner) as run:
        item = work(1, 2, 3)
        await run(item)

    assert set(runner.sizes) <= set(GPU_LIKE.batches)
    assert results(item) == [2, 4, 6]


async def test_a_high_task_goes_before_the_waiting_tiles_of_a_low_one() -> None:
    runner = Doubling()
    async with scheduler(runner) as run:
        runner.gate.clear()
        low = run(work(*range(1, 41)), Priority.LOW)
        await until(runner.entered.is_set)
        high_work = work(100)
        high = run(high_work, Priority.HIGH)
        await asyncio.sleep(0.02)
        runner.gate.set()
        await asyncio.gather(low, high)

    place = next(i for i, batch in enumerate(runner.batches) if 100 in batch)
    assert place <= 2, "the batch that runs, the one that was cut, then the high task"


async def test_progress_counts_every_tile_once() -> None:
    heard: list[tuple[int, int]] = []
    async with scheduler(Doubling()) as run:
        await run(work(*range(1, 11)), heard=lambda done, total: heard.append((done, total)))

    assert heard == [(done, 10) for done in range(1, 11)]


async def test_the_device_is_used_by_one_thread_that_also_loaded_the_model() -> None:
    runner = Doubling()
    async with scheduler(runner) as run:
        await asyncio.gather(*(run(work(v)) for v in range(1, 20)))

    assert len(runner.threads) == 1


async def test_a_canceled_task_stops_the_device_and_has_left_it_on_return() -> None:
    runner = Doubling()
    async with scheduler(runner) as run:
        runner.gate.clear()
        task = run(work(1, 2, 3, 4, 5, 6, 7, 8))
        await until(runner.entered.is_set)
        task.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        took_s = time.monotonic() - started
        runner.gate.set()
        other = work(9)
        await run(other)

    assert took_s < 1
    assert results(other) == [18]
    assert runner.batches == [[9]]


async def test_canceling_one_of_two_in_a_batch_does_not_harm_the_other() -> None:
    runner = Doubling()
    async with scheduler(runner) as run:
        runner.gate.clear()
        blocker = run(work(50))
        await until(runner.entered.is_set)
        kept_work = work(1, 2)
        kept, canceled = run(kept_work), run(work(3, 4))
        await asyncio.sleep(0.02)
        canceled.cancel()
        runner.gate.set()
        await asyncio.gather(blocker, kept)
        with pytest.raises(asyncio.CancelledError):
            await canceled

    assert results(kept_work) == [2, 4]


async def test_one_bad_task_in_a_batch_fails_alone() -> None:
    runner = Doubling()

    def rule(tiles: np.ndarray) -> None:
        if 13 in tiles:
            raise ValueError("unlucky")

    runner.rule = rule
    async with scheduler(runner) as run:
        good = [work(v) for v in (1, 2, 3)]
        tasks = [run(item) for item in [*good[:2], work(13), good[2]]]
        ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(end) for end in ends] == [DeviceRun, DeviceRun, ModelError, DeviceRun]
    assert [results(item) for item in good] == [[2], [4], [6]]


async def test_out_of_memory_makes_the_batch_smaller_and_loses_nothing() -> None:
    runner = Doubling()

    def rule(tiles: np.ndarray) -> None:
        if len(tiles) > 2:
            raise DeviceOutOfMemory

    runner.rule = rule
    async with scheduler(runner) as run:
        item = work(*range(1, 13))
        await run(item)
        failed_before = runner.sizes.count(4)
        again = work(*range(1, 13))
        await run(again)

    assert results(item) == results(again) == [2 * v for v in range(1, 13)]
    assert runner.sizes.count(4) == failed_before, "the limit is remembered"


async def test_out_of_memory_with_a_single_tile_is_an_error_of_the_task() -> None:
    runner = Doubling()

    def rule(tiles: np.ndarray) -> None:
        raise DeviceOutOfMemory

    runner.rule = rule
    async with scheduler(runner) as run:
        with pytest.raises(DeviceOutOfMemory):
            await run(work(1))


async def test_a_runner_that_gives_too_few_outputs_is_caught() -> None:
    class Short(Doubling):
        def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
            return tiles[:0]

    async with scheduler(Short()) as run:
        with pytest.raises(InvalidOutput):
            await run(work(1))


async def test_a_broken_device_fails_every_task_in_flight() -> None:
    runner = Doubling()

    def rule(tiles: np.ndarray) -> None:
        raise DeviceBroken("error 700")

    runner.rule = rule
    async with scheduler(runner) as run:
        ends = await asyncio.gather(*(run(work(v)) for v in (1, 2, 3)), return_exceptions=True)

    assert {type(end) for end in ends} == {DeviceBroken}


async def test_a_task_that_cannot_be_cut_does_not_stop_the_device() -> None:
    class Bad(Work):
        def tile(self, index: int) -> np.ndarray:
            raise ValueError("no tile")

    async with scheduler(Doubling()) as run:
        bad = run(Bad([np.zeros(1, np.float32)]))
        with pytest.raises(ModelError):
            await bad
        good = work(1)
        await run(good)

    assert results(good) == [2]


async def test_a_run_that_does_not_stop_makes_the_device_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.worker.batcher.stop_patience.STUCK_S", 0.2)

    class Deaf(Doubling):
        def interrupt(self, work: Work) -> None:
            """Goes on."""

    runner = Deaf()
    with Threads(2, "tiles") as pool:
        device = DeviceScheduler(GPU_LIKE, pool)
        await device.start([runner])
        runner.gate.clear()
        stuck = asyncio.create_task(
            device.run(runner, work(1), priority=Priority.NORMAL, on_progress=lambda done, total: None)
        )
        await until(runner.entered.is_set)
        other = asyncio.create_task(
            device.run(runner, work(2, lane="other"), priority=Priority.NORMAL, on_progress=lambda done, total: None)
        )
        await asyncio.sleep(0.02)
        stuck.cancel()
        ends = await asyncio.gather(stuck, other, return_exceptions=True)
        late = await asyncio.gather(
            device.run(runner, work(3), priority=Priority.HIGH, on_progress=lambda done, total: None),
            return_exceptions=True,
        )
        started = time.monotonic()
        await device.close()
        closed_s = time.monotonic() - started
        runner.gate.set()

    assert isinstance(ends[0], asyncio.CancelledError)
    assert [(type(end), end.guilty) for end in (ends[1], late[0])] == [(DeviceBroken, False)] * 2
    assert device.broken is not None
    assert closed_s < 1, "the thread that hangs is left behind"
