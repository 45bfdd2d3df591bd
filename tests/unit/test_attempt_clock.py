"""The time of an attempt, on a loop whose time is that of the test."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

from penstock.worker.attempt_clock import AttemptClock


class _Selector(selectors.SelectSelector):
    """Waits by moving the time on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0
        return []


class ClockedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def run(work: Coroutine[Any, Any, None]) -> float:
    """Run it; how long it took."""
    with asyncio.Runner(loop_factory=ClockedLoop) as runner:
        try:
            runner.run(work)
        finally:
            took_s = runner.get_loop().time()
    return took_s


def test_work_is_ended_when_its_time_is_used_up() -> None:
    took: list[float] = []

    async def attempt() -> None:
        try:
            async with AttemptClock(5):
                await asyncio.sleep(10)
        except TimeoutError:
            took.append(asyncio.get_running_loop().time())

    run(attempt())
    assert took == [5]


def test_what_is_waited_for_behind_others_does_not_count() -> None:
    async def attempt() -> None:
        async with AttemptClock(5) as clock:
            await asyncio.sleep(3)
            with clock.standing():
                await asyncio.sleep(1000)
            await asyncio.sleep(1.5)

    assert run(attempt()) == 1004.5


def test_what_was_worked_before_a_wait_counts_after_it() -> None:
    async def attempt() -> None:
        async with AttemptClock(5) as clock:
            await asyncio.sleep(3)
            with clock.standing():
                await asyncio.sleep(1000)
            await asyncio.sleep(2.5)

    with pytest.raises(TimeoutError):
        run(attempt())


def test_the_clock_stands_as_long_as_anything_is_waited_for() -> None:
    async def attempt() -> None:
        async with AttemptClock(5) as clock:
            clock.hold()
            with clock.standing():
                await asyncio.sleep(100)
            await asyncio.sleep(100)
            clock.resume()
            assert not clock.is_standing
            await asyncio.sleep(4)

    assert run(attempt()) == 204


def test_a_clock_that_is_started_anew_forgets_what_was_worked() -> None:
    async def attempt() -> None:
        async with AttemptClock(5) as clock:
            await asyncio.sleep(4)
            clock.start_anew()
            with clock.standing():
                await asyncio.sleep(100)
            await asyncio.sleep(4)

    assert run(attempt()) == 108


def test_what_is_told_to_a_clock_after_its_end_changes_nothing() -> None:
    async def attempt() -> None:
        async with AttemptClock(5) as clock:
            await asyncio.sleep(1)
        clock.hold()
        clock.resume()
        clock.start_anew()
        await asyncio.sleep(100)

    assert run(attempt()) == 101


def test_a_wait_that_the_end_of_its_time_cuts_off_ends_as_one() -> None:
    """The work that is canceled leaves its waits while the time-out is on its way."""

    async def attempt() -> None:
        async with AttemptClock(5) as clock:
            try:
                await asyncio.sleep(10)
            finally:
                with clock.standing():
                    await asyncio.sleep(1)

    with pytest.raises(TimeoutError):
        run(attempt())


def test_a_clock_without_a_limit_ends_nothing() -> None:
    async def attempt() -> None:
        async with AttemptClock() as clock:
            with clock.standing():
                await asyncio.sleep(10_000)
            await asyncio.sleep(10_000)

    assert run(attempt()) == 20_000
