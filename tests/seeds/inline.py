"""Thread pools without threads: a call is made by the event loop, and its answer comes when its time is over."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from penstock.worker import threads
from tests.seeds.loop import SimulatedLoop

OVERHEAD_S = (0.00005, 0.0005)
"""What a call takes besides what it says itself."""


class Took:
    """The seconds that the call which is being made takes; its code adds to it."""

    seconds = 0.0


def work_for(seconds: float) -> None:
    """Take so long, in a call of a thread pool."""
    Took.seconds += seconds


@contextmanager
def without_threads(loop: SimulatedLoop) -> Iterator[None]:
    """Inside of this block all pools of a worker work in this way."""
    plain = threads.Threads.run, threads.Threads.close, time.perf_counter
    waiting: dict[int, deque[threads._Call]] = {}
    running: dict[int, int] = {}

    def run(pool: threads.Threads, work: Callable[..., Any], *args: Any, on_begin: Any = None) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = loop.create_future()
        pool._unanswered[answer] = None
        waiting.setdefault(id(pool), deque()).append(threads._Call(loop, answer, work, args, on_begin))
        begin(pool)
        return answer

    def begin(pool: threads.Threads) -> None:
        while waiting[id(pool)] and running.get(id(pool), 0) < pool.count:
            call = waiting[id(pool)].popleft()
            running[id(pool)] = running.get(id(pool), 0) + 1
            loop.call_later(loop.chance.uniform(*OVERHEAD_S), make, pool, call)

    def make(pool: threads.Threads, call: threads._Call) -> None:
        Took.seconds = 0.0
        value, fault = (None, None) if call.answer.cancelled() else call.make()
        took_s, Took.seconds = Took.seconds, 0.0
        loop.call_later(took_s + loop.chance.uniform(*OVERHEAD_S), end, pool, call, value, fault)

    def end(pool: threads.Threads, call: threads._Call, value: Any, fault: Exception | None) -> None:
        running[id(pool)] -= 1
        pool._answer(call.answer, value, fault)
        begin(pool)

    threads.Threads.run = run  # type: ignore[method-assign]
    threads.Threads.close = lambda pool, *, wait=True: None  # type: ignore[method-assign]
    time.perf_counter = lambda: plain[2]() + Took.seconds
    try:
        yield
    finally:
        threads.Threads.run, threads.Threads.close, time.perf_counter = plain  # type: ignore[method-assign]
