"""Two batches in flight on a GPU: one computes while the results of the other are copied. The model of these tests does
as a session does: one run computes at a time, and copies afterwards; each begins and ends when the test says so."""

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.core.task import Priority
from penstock.errors import ImageTooLarge, Internal, InvalidOutput, ModelError
from penstock.models.base import BaseModelRunner, DeviceBroken, Interrupted, Outputs, Params, Product, Work
from penstock.models.device_time import DeviceTime, note_device_time
from penstock.settings import LimitSettings
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.acceptance import PART_S
from penstock.worker.batcher.device_runs import DeviceClock
from penstock.worker.batcher.device_work import batch_key
from penstock.worker.batcher.scheduler import UNACCEPTED, DeviceRun, DeviceScheduler
from penstock.worker.threads import Threads

GPU = Device(name="cuda:0", kind="cuda", threads=1, sides=(4,), batches=(1, 2, 4))


class Computing(BaseModelRunner[Params]):
    """Computes a batch when `computes` has a permit, then copies its results when `copies` has one. `events` has what
    began and ended, with the lane of the batch."""

    name = "computing"
    concurrent = True

    def __init__(self) -> None:
        super().__init__(LimitSettings())
        self.events: list[str] = []
        self.threads: set[str] = set()
        self.turn = threading.Lock()
        self.computes, self.copies = threading.Semaphore(0), threading.Semaphore(0)
        self.stopped: set[Work] = set()
        self.compute_s, self.copy_s = 0.001, 0.0
        self.rule: Callable[[Work], None] = lambda work: None

    def load_model(self, device: Device) -> None:
        self.loaded_on = threading.current_thread().name

    def prepare(self, source: bytes, params: Params) -> Work:
        raise NotImplementedError

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        raise NotImplementedError

    def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
        self.threads.add(threading.current_thread().name)
        self.events.append(f"given {work.lane}")
        with self.turn:
            self.events.append(f"computes {work.lane}")
            while not self.computes.acquire(timeout=0.002):
                if work in self.stopped:
                    raise Interrupted
            self.rule(work)
            self.events.append(f"computed {work.lane}")
            note_device_time(compute_s=self.compute_s)
        self.copies.acquire()
        self.events.append(f"copied {work.lane}")
        note_device_time(copy_s=self.copy_s)
        return tiles * 2

    def interrupt(self, work: Work) -> None:
        self.stopped.add(work)

    def let(self, runs: int = 1_000) -> None:
        self.computes.release(runs)
        self.copies.release(runs)

    @property
    def order(self) -> list[str]:
        """The lanes of the batches, as they were computed."""
        return [event.removeprefix("computes ") for event in self.events if event.startswith("computes")]


class OneAtATime(Computing):
    name = "one-at-a-time"
    concurrent = False


class Opened:
    """A scheduler that has started with one runner."""

    def __init__(self, device: DeviceScheduler, runner: Computing) -> None:
        self.device, self.runner = device, runner

    def run(
        self, lane: str, tiles: int = 1, priority: Priority = Priority.NORMAL, **more: Any
    ) -> asyncio.Task[DeviceRun]:
        work = more.pop("work", None) or Work([np.ones(1, np.float32)] * tiles, lane=lane)
        return asyncio.create_task(
            self.device.run(self.runner, work, priority=priority, on_progress=lambda done, total: None, **more)
        )

    async def seen(self, event: str) -> None:
        await until(lambda: event in self.runner.events)


@asynccontextmanager
async def opened(runner: Computing, device: Device = GPU) -> AsyncIterator[Opened]:
    with Threads(2, "tiles") as pool:
        scheduler = DeviceScheduler(device, pool)
        await scheduler.start([runner])
        try:
            yield Opened(scheduler, runner)
        finally:
            runner.let()
            await scheduler.close()


class Cut(Work):
    """Work of one tile that notes when it is stacked."""

    def __init__(self, lane: str) -> None:
        super().__init__([np.ones(1, np.float32)], lane=lane)
        self.is_cut = False

    def write_tile(self, index: int, into: Any) -> None:
        super().write_tile(index, into)
        self.is_cut = True


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


# --- order ----------------------------------------------------------------------------------------------------


async def test_the_next_batch_computes_while_results_are_copied() -> None:
    async with opened(Computing()) as on:
        first = on.run("a")
        await on.seen("computes a")
        second = on.run("b")
        await on.seen("given b")
        on.runner.computes.release()
        await on.seen("computes b")
        during_copy = list(on.runner.events)
        on.runner.let()
        await asyncio.gather(first, second)

    assert during_copy == ["given a", "computes a", "given b", "computed a", "computes b"]


async def test_a_third_batch_is_chosen_when_the_first_is_computed_and_begins_when_it_is_copied() -> None:
    async with opened(Computing()) as on:
        tasks = [on.run("a")]
        await on.seen("computes a")
        tasks.append(on.run("b"))
        await on.seen("given b")
        normal, high = Cut("normal"), Cut("high")
        tasks.append(on.run("", work=normal))
        await asyncio.sleep(0.02)
        tasks.append(on.run("", work=high, priority=Priority.HIGH))
        await asyncio.sleep(0.02)
        while_first = high.is_cut, normal.is_cut
        on.runner.computes.release()
        await until(lambda: high.is_cut)
        await on.seen("computes b")  # of two that wait for their turn, threads may change the order
        while_copied = normal.is_cut, [event for event in on.runner.events if event.startswith("given")]
        on.runner.copies.release()
        await on.seen("given high")
        on.runner.let()
        await asyncio.gather(*tasks)

    assert while_first == (False, False)
    assert while_copied == (False, ["given a", "given b"])
    assert on.runner.order == ["a", "b", "high", "normal"]


@pytest.mark.parametrize(("runner", "ends"), [(Computing, 1), (OneAtATime, 2)])
async def test_a_high_task_is_on_the_device_after_two_batches(runner: type[Computing], ends: int) -> None:
    async with opened(runner()) as on:
        low = on.run("low", 40, Priority.LOW)
        await on.seen("computes low")
        high = on.run("high", priority=Priority.HIGH)
        on.runner.copies.release(ends)
        for begun in range(ends):  # one by one: of runs that take no time at all, threads may change the order
            on.runner.computes.release()
            await until(lambda begun=begun: len(on.runner.order) > begun + 1)
        await on.seen("given high")
        on.runner.let()
        await asyncio.gather(low, high)

    assert on.runner.order.index("high") <= 2


async def test_a_model_that_is_not_made_for_it_runs_one_batch_at_a_time_where_it_was_loaded() -> None:
    async with opened(OneAtATime()) as on:
        tasks = [on.run(lane) for lane in "abcdef"]
        on.runner.let()
        await asyncio.gather(*tasks)

    events = [event.split()[0] for event in on.runner.events]
    assert events == ["given", "computes", "computed", "copied"] * 6
    assert on.runner.threads == {on.runner.loaded_on}


async def test_all_tiles_of_many_tasks_get_their_outputs() -> None:
    runner = Computing()
    runner.let()
    async with opened(runner) as on:
        works = [Work([np.full(1, 10 * n + t, np.float32) for t in range(n % 7 + 1)], lane="x") for n in range(30)]
        await asyncio.gather(*(on.run("x", work=work) for work in works))

    assert [[float(o[0]) for o in w.outputs] for w in works] == [
        [2.0 * (10 * n + t) for t in range(n % 7 + 1)] for n in range(30)
    ]
    assert len(runner.threads) == 2


# --- bounds ---------------------------------------------------------------------------------------------------


async def test_no_batch_is_begun_while_too_many_outputs_wait_to_be_accepted() -> None:
    gate, most = threading.Event(), GPU.in_flight + UNACCEPTED
    runner = Computing()
    runner.let()
    async with opened(runner, replace(GPU, batches=(1,))) as on:
        tasks = [on.run("x", work=Accepted(1, lambda _: gate.wait())) for _ in range(10)]
        await until(lambda: len(runner.order) == most)
        await asyncio.sleep(0.02)
        begun = len(runner.order)
        gate.set()
        await asyncio.gather(*tasks)

    assert begun == most


class Accepted(Work):
    """Work whose tiles are accepted when `meeting` says so."""

    def __init__(self, tiles: int, meeting: Callable[[int], Any]) -> None:
        super().__init__([np.full(1, n + 1, np.float32) for n in range(tiles)], lane="x")
        self.meeting = meeting

    def accept(self, index: int, output: Any) -> None:
        self.meeting(index)
        super().accept(index, output)


async def test_a_large_batch_is_accepted_by_several_threads() -> None:
    runner, both = Computing(), threading.Barrier(2)
    runner.let()
    async with opened(runner) as on:
        slow = Accepted(4, lambda _: threading.Event().wait(2 * PART_S))
        await on.run("x", work=slow)
        pair = Accepted(4, lambda _: both.wait(30))
        await on.run("x", work=pair)

    assert [float(output[0]) for output in pair.outputs] == [2, 4, 6, 8]


async def test_an_output_that_cannot_be_accepted_fails_its_own_task_also_where_threads_share_a_batch() -> None:
    runner = Computing()

    def refuse(index: int) -> None:
        raise ImageTooLarge("too large")

    async with opened(runner) as on:
        works = [Accepted(1, lambda _: None) for _ in range(3)]
        works.insert(2, Accepted(1, refuse))
        key = batch_key(runner, works[0])
        on.device._acceptance._tile_s[key] = 1.0
        tasks = [on.run("before")]
        await on.seen("computes before")
        tasks += [on.run("x", work=work) for work in works]
        runner.let()
        ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(end) for end in ends[1:]] == [DeviceRun, DeviceRun, ImageTooLarge, DeviceRun]


async def test_a_task_that_has_failed_hears_nothing_of_a_tile_that_is_accepted_only_then() -> None:
    """It may run again, and would count it among the tiles of that run."""
    begun, gate, heard = threading.Event(), threading.Event(), list[int]()

    def meet(index: int) -> None:
        if index == 0:
            begun.wait()
            raise ImageTooLarge("too large")
        begun.set()
        gate.wait()

    async with opened(Computing(), replace(GPU, batches=(1,))) as on:
        on.runner.let()
        unaccepted = on.device._unaccepted._value
        run = on.device.run(
            on.runner, Accepted(2, meet), priority=Priority.NORMAL, on_progress=lambda done, total: heard.append(done)
        )
        with pytest.raises(ImageTooLarge):
            await run
        gate.set()
        await until(lambda: on.device._unaccepted._value == unaccepted)

    assert heard == []


@pytest.mark.parametrize(
    ("made", "error"), [(lambda outputs: dict(enumerate(outputs)).values(), InvalidOutput), (deque, Internal)]
)
async def test_outputs_that_cannot_be_shared_out_fail_their_task_and_the_device_goes_on(
    made: Callable[[Any], Any], error: type[Exception]
) -> None:
    class Sized(Computing):
        def infer(self, tiles: np.ndarray, work: Work) -> Outputs:
            outputs: Any = super().infer(tiles, work)
            return made(outputs) if work.lane == "a" else outputs  # type: ignore[no-any-return]

    async with opened(Sized()) as on:
        on.runner.let()
        ends = await asyncio.gather(on.run("a"), on.run("b"), return_exceptions=True)

    assert [type(end) for end in ends] == [error, DeviceRun]
    assert on.device.broken is None


async def test_a_runner_that_exits_while_it_takes_an_output_fails_its_task_and_the_device_goes_on() -> None:
    async with opened(Computing()) as on:
        on.runner.let()
        leaving = on.run("a", work=Accepted(1, lambda index: sys.exit(3)))
        ends = await asyncio.gather(leaving, on.run("b"), return_exceptions=True)

    assert [type(end) for end in ends] == [ModelError, DeviceRun]
    assert on.device.broken is None


async def test_canceling_a_task_that_waits_for_its_turn_stops_nobody_else() -> None:
    async with opened(Computing()) as on:
        first = on.run("a")
        await on.seen("computes a")
        second = on.run("b")
        await on.seen("given b")
        second.cancel()
        await until(lambda: len(on.runner.stopped) == 1)
        on.runner.computes.release()
        on.runner.copies.release()
        await first
        await asyncio.gather(second, return_exceptions=True)
        other = on.run("c")
        on.runner.let()
        await other

    assert second.cancelled()
    assert on.device.broken is None
    assert [event for event in on.runner.events if event.startswith("computed")] == ["computed a", "computed c"]


async def test_every_task_that_was_with_the_device_when_it_broke_may_have_broken_it() -> None:
    runner = Computing()

    def rule(work: Work) -> None:
        raise DeviceBroken("error 700")

    runner.rule = rule
    async with opened(runner) as on:
        tasks = [on.run("a")]
        await on.seen("computes a")
        tasks.append(on.run("b"))
        await on.seen("given b")
        tasks.append(on.run("c"))
        await asyncio.sleep(0.02)
        runner.let()
        ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [end.guilty for end in ends if isinstance(end, DeviceBroken)] == [True, True, False]


async def test_a_run_is_given_as_long_to_stop_as_the_longest_runs_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.worker.batcher.stop_patience.STUCK_S", 0.0)

    class Late(Computing):
        def interrupt(self, work: Work) -> None:
            threading.Timer(0.05, super().interrupt, [work]).start()

    runner = Late()
    runner.compute_s = 60.0
    async with opened(runner) as on:
        runner.let(1)
        await on.run("a")
        canceled = on.run("b")
        await on.seen("computes b")
        canceled.cancel()
        await asyncio.gather(canceled, return_exceptions=True)

    assert canceled.cancelled()
    assert on.device.broken is None, "four times a minute are not over"


async def test_a_process_that_was_frozen_takes_no_run_for_one_that_does_not_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.worker.batcher.stop_patience.STUCK_S", 0.5)
    freezes = threading.Event()

    class Late(Computing):
        def interrupt(self, work: Work) -> None:
            if not freezes.is_set():
                freezes.set()
                asyncio.get_running_loop().call_soon(time.sleep, 1.0)
                asyncio.get_running_loop().call_later(0.01, super().interrupt, work)

    async with opened(Late()) as on:
        canceled = on.run("a")
        await on.seen("computes a")
        canceled.cancel()
        await asyncio.gather(canceled, return_exceptions=True)

    assert freezes.is_set()
    assert on.device.broken is None


# --- time -----------------------------------------------------------------------------------------------------


async def test_the_clock_of_a_task_stands_while_the_batch_before_is_with_the_device() -> None:
    first, second = AttemptClock(), AttemptClock()
    async with opened(Computing()) as on:
        tasks = [on.run("a", clock=first)]
        await on.seen("computes a")
        tasks.append(on.run("b", clock=second))
        await on.seen("given b")
        while_first = first.is_standing, second.is_standing
        on.runner.let(1)
        await until(lambda: not second.is_standing)
        on.runner.let()
        await asyncio.gather(*tasks)

    assert while_first == (False, True)


async def test_only_computing_is_the_time_of_a_task() -> None:
    runner = Computing()
    runner.compute_s, runner.copy_s = 3.0, 100.0
    runner.let()
    async with opened(runner) as on:
        done = await on.run("a", 4)
        key = next(iter(on.device._backlog.costs._seconds))

    assert done.device_s == pytest.approx(3.0)
    assert on.device._backlog.costs.expected_s(key[0], 4) == pytest.approx(3.0)


async def test_a_run_of_which_no_second_is_left_tells_nothing_about_its_model() -> None:
    runner = Computing()
    runner.compute_s = 0.0
    runner.let()
    async with opened(runner) as on:
        await on.run("a")
        paying = on.device.paying_batch(runner.name)

    assert paying == (1, 1.0), "as before the first run: with 0 s a tile the device could never be fed"


def test_no_second_counts_for_two_runs_that_note_nothing() -> None:
    clock = DeviceClock()

    assert clock.take(0, 10, DeviceTime()) == 10
    assert clock.take(4, 15, DeviceTime()) == 5, "until 10 it waited, or shared the device"
    assert clock.take(20, 22, DeviceTime()) == 2
    assert clock.take(20, 21, DeviceTime()) == 0
    assert clock.take(17, 25, DeviceTime()) == 6, "before 20 and after 22"


def test_what_runs_note_counts_and_the_copy_at_their_end_is_left_to_others() -> None:
    clock = DeviceClock()

    assert clock.take(0, 14, DeviceTime(compute_s=9, copy_s=4)) == 9
    assert clock.take(2, 25, DeviceTime()) == 15, "since 10, when the other began to copy"


def test_what_a_run_notes_does_not_count_again_where_another_that_notes_nothing_has_taken_it() -> None:
    clock = DeviceClock()

    assert clock.take(0, 10, DeviceTime()) == 10
    assert clock.take(1, 14, DeviceTime(compute_s=9, copy_s=2)) == 2, "from 10 to 12"
    assert clock.take(0, 14, DeviceTime(compute_s=1, copy_s=2)) == 1, (
        "two that note take turns, whatever the clock says"
    )
