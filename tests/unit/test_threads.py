"""Threads that work for the event loop."""

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest

from penstock.worker.threads import Threads


async def test_a_call_gives_what_the_work_returns_and_raises_what_it_raises() -> None:
    with Threads(2, "work") as threads:
        assert await threads.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 7, 0)
        assert await threads.run(lambda: threading.current_thread().name) in ("work-0", "work-1")


@pytest.mark.parametrize("fault", [StopIteration("none left"), SystemExit(1), KeyboardInterrupt()])
async def test_what_no_coroutine_can_raise_comes_as_an_error_that_it_can(fault: BaseException) -> None:
    def work() -> None:
        raise fault

    with Threads(1, "work") as threads:
        with pytest.raises(RuntimeError, match=type(fault).__name__) as caught:
            await asyncio.wait_for(threads.run(work), 5)
        assert caught.value.__cause__ is fault
        assert await threads.run(int) == 0, "the thread goes on"


async def test_as_many_calls_run_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(3)
    with Threads(3, "work") as threads:
        await asyncio.wait_for(asyncio.gather(*(threads.run(together.wait, 5) for _ in range(3))), 10)


async def test_a_thread_is_started_when_a_call_finds_none_that_is_free() -> None:
    gate, before = threading.Event(), threading.active_count()
    with Threads(3, "work") as threads:
        counts = [threading.active_count() - before]
        for _ in range(2):
            await threads.run(int)
        counts.append(threading.active_count() - before)
        held = [threads.run(gate.wait, 60) for _ in range(5)]
        counts.append(threading.active_count() - before)
        gate.set()
        await asyncio.gather(*held)

    assert counts == [0, 1, 3]


async def test_a_call_that_was_canceled_in_the_queue_is_no_reason_for_a_thread() -> None:
    gate, before = threading.Event(), threading.active_count()
    with Threads(3, "work") as threads:
        for _ in range(5):
            threads.run(int).cancel()
            await threads.run(int)
        held = threads.run(gate.wait, 60)
        count = threading.active_count() - before
        gate.set()
        await held

    assert count <= 2


async def test_calls_of_one_thread_begin_in_order() -> None:
    order: list[int] = []
    with Threads(1, "work") as threads:
        await asyncio.gather(*(threads.run(order.append, n) for n in range(100)))
    assert order == list(range(100))


async def test_a_call_that_was_canceled_before_its_turn_does_not_begin() -> None:
    gate, begun = threading.Event(), threading.Event()
    with Threads(1, "work") as threads:
        first = threads.run(gate.wait, 5)
        second = threads.run(begun.set)
        second.cancel()
        gate.set()
        assert await first
        await threads.run(int)
    assert not begun.is_set()


async def test_closing_waits_for_what_runs_and_drops_what_has_not_begun() -> None:
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(5)
        ended.set()

    threads = Threads(1, "work")
    running, waiting = threads.run(work), threads.run(int)
    assert begun.wait(5)
    threading.Timer(0.05, gate.set).start()
    threads.close()
    assert ended.is_set()
    assert waiting.cancelled()
    await running


async def test_closing_lets_go_of_who_waits_for_a_canceled_call_to_be_left() -> None:
    gate = threading.Event()
    threads = Threads(1, "work")
    hanging, waiting = threads.run(gate.wait, 60), threads.run(int)
    waiting.cancel()
    left = asyncio.create_task(threads.left(waiting))
    await asyncio.sleep(0)
    was_left = left.done()
    threads.close(wait=False)
    await asyncio.wait_for(left, 5)
    gate.set()
    await hanging

    assert not was_left


async def test_a_thread_that_hangs_is_left_behind_when_nobody_waits_for_it() -> None:
    begun, gate = threading.Event(), threading.Event()
    threads = Threads(1, "work")
    hanging = threads.run(lambda: begun.set() or gate.wait())
    assert begun.wait(5)
    threads.close(wait=False)
    assert not hanging.done()
    gate.set()
    assert await hanging


async def test_an_idle_thread_keeps_nothing_of_its_last_call_alive() -> None:
    pixels = np.zeros(8)
    gone = weakref.ref(pixels)
    with Threads(1, "work") as threads:
        await threads.run(np.sum, pixels)
        await asyncio.sleep(0.05)
        del pixels
        gc.collect()
        assert gone() is None


async def test_a_call_says_when_a_thread_has_taken_it_up() -> None:
    gate, begun = threading.Event(), asyncio.Event()
    with Threads(1, "work") as threads:
        first = threads.run(gate.wait)
        second = threads.run(lambda: None, on_begin=begun.set)
        await asyncio.sleep(0.02)
        was_begun = begun.is_set()
        gate.set()
        await asyncio.gather(first, second)

    assert (was_begun, begun.is_set()) == (False, True)
