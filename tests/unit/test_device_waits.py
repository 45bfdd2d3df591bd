"""What a job does at the device counts as its time, what it waits for there does not; and no fault lets it wait for
ever."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from penstock.core.task import Priority
from penstock.errors import DeviceOutOfMemory, ModelError
from penstock.models.base import DeviceBroken, Interrupted, Outputs, Work
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.scheduler import DeviceRun, DeviceScheduler
from penstock.worker.threads import Threads
from tests.unit.test_device_order import CPU_LIKE, GPU_LIKE, Counting, until


class Gated(Counting):
    """Waits before every run until it is let; `entered` has the work of each."""

    def __init__(self) -> None:
        super().__init__(in_steps=True)
        self.rule: Callable[[np.ndarray], None] = lambda tiles: None

    def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
        outputs = super().infer(tiles, work)
        self.rule(tiles)
        return outputs

    def let(self, runs: int) -> None:
        self.permits.release(runs)


class Deaf(Gated):
    """Hears of an interrupt and does not care; counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted: list[Work] = []

    def interrupt(self, work: Work) -> None:
        self.interrupted.append(work)


class Opened:
    """A scheduler that has started with one runner."""

    def __init__(self, device: DeviceScheduler, runner: Counting) -> None:
        self.device, self.runner = device, runner

    def run(
        self, work: Work, priority: Priority = Priority.NORMAL, clock: AttemptClock | None = None
    ) -> asyncio.Task[DeviceRun]:
        return asyncio.create_task(
            self.device.run(self.runner, work, priority=priority, on_progress=_unheard, clock=clock)
        )


@asynccontextmanager
async def opened(runner: Counting, device: Any = GPU_LIKE) -> AsyncIterator[Opened]:
    with Threads(3, "tiles") as pool:
        scheduler = DeviceScheduler(device, pool)
        await scheduler.start([runner])
        try:
            yield Opened(scheduler, runner)
        finally:
            runner.permits.release(1_000_000)
            await scheduler.close()


def work(tiles: int = 1, lane: str = "") -> Work:
    return Work([np.ones(1, np.float32)] * tiles, lane=lane)


def _unheard(done: int, total: int) -> None:
    """Of no interest here."""


# --- time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [GPU_LIKE, CPU_LIKE], ids=["gpu", "cpu"])
async def test_the_clock_of_a_task_stands_while_others_hold_the_device(device: Any) -> None:
    runner, first, second = Gated(), AttemptClock(), AttemptClock()
    runner.concurrent = False  # type: ignore[misc]
    async with opened(runner, device) as on:
        running = on.run(work(lane="a"), clock=first)
        await until(lambda: len(runner.runs) == 1)
        waiting = on.run(work(lane="b"), clock=second)
        await asyncio.sleep(0.05)  # it is cut ahead, where the device does so
        while_first = first.is_standing, second.is_standing
        runner.let(1)
        await until(lambda: len(runner.runs) == 2)
        while_second = second.is_standing
        runner.let(1)
        await asyncio.gather(running, waiting)

    assert while_first == (False, True)
    assert while_second is False
    assert (first.is_standing, second.is_standing) == (False, False)


async def test_the_clock_stands_between_two_tiles_while_a_higher_task_is_run() -> None:
    runner, clock = Gated(), AttemptClock()
    runner.concurrent = False  # type: ignore[misc]
    async with opened(runner, CPU_LIKE) as on:
        low = on.run(work(2, lane="low"), Priority.LOW, clock)
        await until(lambda: len(runner.runs) == 1)
        high = on.run(work(3, lane="high"), Priority.HIGH)
        await asyncio.sleep(0.01)
        runner.let(1)
        await until(lambda: len(runner.runs) == 2)
        states = [clock.is_standing]
        runner.let(3)
        await until(lambda: len(runner.runs) == 5)
        states.append(clock.is_standing)
        runner.let(1)
        await asyncio.gather(low, high)

    assert states == [True, False]


async def test_a_run_that_hangs_is_ended_by_its_time_and_its_neighbour_is_run() -> None:
    class Stoppable(Gated):
        stopped = False

        def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
            self.runs.append(work)
            while work.lane == "hangs":
                if self.stopped:
                    raise Interrupted
            return list(tiles)

        def interrupt(self, work: Work) -> None:
            self.stopped = True

    async with opened(Stoppable()) as on:
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                async with AttemptClock(0.2) as clock:
                    await on.device.run(
                        on.runner, work(lane="hangs"), priority=Priority.NORMAL, on_progress=_unheard, clock=clock
                    )
            await on.run(work())


# --- nobody waits for ever ------------------------------------------------------------------------------------


async def test_a_run_that_does_not_stop_ends_all_whom_it_holds_when_none_of_them_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.worker.batcher.stop_patience.STUCK_S", 0.2)
    runner = Deaf()
    async with opened(runner) as on:
        blocker = on.run(work())
        await until(lambda: len(runner.runs) == 1)
        together = [on.run(work()) for _ in range(2)]
        await asyncio.sleep(0.02)
        runner.let(1)
        await blocker
        await until(lambda: len(runner.runs) == 2)
        for task in together:
            task.cancel()
        async with asyncio.timeout(60):
            ends = await asyncio.gather(*together, return_exceptions=True)

    assert [type(end) for end in ends] == [asyncio.CancelledError] * 2
    assert isinstance(on.device.broken, DeviceBroken)
    assert runner.interrupted


async def test_a_task_whose_cutting_hangs_is_not_left_behind_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.worker.batcher.stop_patience.STUCK_S", 0.2)
    release = threading.Event()

    class Hanging(Work):
        def tile(self, index: int) -> np.ndarray:
            release.wait()
            return super().tile(index)

    clock = AttemptClock()
    async with opened(Counting()) as on:
        hanging = on.run(Hanging([np.ones(1, np.float32)]), clock=clock)
        await until(lambda: clock.is_standing)
        await until(lambda: not clock.is_standing)
        other = on.run(work())
        await asyncio.sleep(0.02)
        hanging.cancel()
        async with asyncio.timeout(60):
            ends = await asyncio.gather(hanging, other, return_exceptions=True)
        release.set()

    assert [type(end) for end in ends] == [asyncio.CancelledError, DeviceBroken]


@pytest.mark.parametrize("device", [GPU_LIKE, CPU_LIKE], ids=["gpu", "cpu"])
async def test_every_task_of_a_shape_that_the_device_cannot_hold_is_cut_anew(device: Any) -> None:
    class Halving(Work):
        def split_smaller(self, below: int) -> Work | None:
            return work(2, lane="fine")

    def rule(tiles: np.ndarray) -> None:
        if tiles.shape[1:] == (2,):
            raise DeviceOutOfMemory

    runner = Gated()
    runner.rule = rule
    async with opened(runner, device) as on:
        blocker = on.run(work(lane="blocks"))
        await until(lambda: len(runner.runs) == 1)
        tasks = [on.run(Halving([np.ones(2, np.float32)])) for _ in range(3)]
        await asyncio.sleep(0.02)
        runner.let(1_000_000)
        async with asyncio.timeout(60):
            done = await asyncio.gather(blocker, *tasks)

    assert [run.work.count for run in done] == [1, 2, 2, 2]


@pytest.mark.parametrize("device", [GPU_LIKE, CPU_LIKE], ids=["gpu", "cpu"])
async def test_a_task_that_cannot_be_cut_anew_by_a_fault_fails_alone(device: Any) -> None:
    class Faulty(Work):
        def split_smaller(self, below: int) -> Work | None:
            raise ValueError("no")

    def rule(tiles: np.ndarray) -> None:
        if tiles.shape[1:] == (2,):
            raise DeviceOutOfMemory

    runner = Gated()
    runner.rule = rule
    runner.let(1_000_000)
    async with opened(runner, device) as on:
        async with asyncio.timeout(60):
            with pytest.raises(ModelError):
                await on.run(Faulty([np.ones(2, np.float32)]))
            await on.run(work())


async def test_a_device_that_nobody_drives_any_more_is_lost() -> None:
    class Faulty(Counting):
        window_s = None  # type: ignore[assignment]

    async with opened(Faulty()) as on, asyncio.timeout(60):
        with pytest.raises(DeviceBroken):
            await on.run(work())
