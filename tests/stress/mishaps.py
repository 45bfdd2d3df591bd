"""Stores and a storage in which calls fail at random: the caller dies, the call is made twice, its answer is lost,
or it takes long."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from penstock.errors import StorageUnavailable, StoreUnavailable
from penstock.store.engine import Arguments
from tests.support.memory_storage import MemoryStorage
from tests.support.moved_clock import ByMovedClock

T = TypeVar("T")

DIES, IS_REPEATED, IS_LOST, IS_SLOW = 0.002, 0.02, 0.005, 0.004
"""The probability of each failure of a call."""
LONG_S = 1.5
"""Longer than a lease."""


class Died(BaseException):
    """Ends everything in a process, as SIGKILL would: no `except Exception` catches it."""


class Luck:
    """The possible failures of the calls of one process; none once it is `calm`."""

    def __init__(self, seed: str, happened: Counter[str]) -> None:
        self.chance = random.Random(seed)
        self.is_calm = False
        self.is_dead = False
        self._happened = happened

    def happens(self, what: str, how_often: float) -> bool:
        """Whether the failure happens this time."""
        if self.is_calm or self.chance.random() >= how_often:
            return False
        self._happened[what] += 1
        return True

    async def before_call(self) -> None:
        """Raises Died if this process has died."""
        if not self.is_dead and self.happens("processes died", DIES):
            self.is_dead = True
        if self.is_dead:
            raise Died
        if self.happens("slow calls", IS_SLOW):
            await asyncio.sleep(self.chance.uniform(0, LONG_S))


mine: ContextVar[Luck | None] = ContextVar("luck", default=None)
"""The luck of the process that this task belongs to; None where calls never fail."""


class Unreliable(ByMovedClock):
    """An engine whose calls fail with the luck of its caller."""

    async def _ask(self, question: Callable[[], Awaitable[T]], *, about: Iterable[Any] = ()) -> T:
        return await _with_luck(partial(super()._ask, question, about=about), again=True)

    async def call(self, script: str, values: Arguments, *, again: bool = True) -> Any:
        return await _with_luck(partial(super().call, script, values, again=again), again=again)


async def _with_luck(ask: Callable[[], Awaitable[T]], *, again: bool) -> T:
    luck = mine.get()
    if luck is None:
        return await ask()
    await luck.before_call()
    answer = await ask()
    if again and luck.happens("calls made twice", IS_REPEATED):
        answer = await ask()
    if luck.happens("answers lost", IS_LOST):
        raise StoreUnavailable("the answer was lost", retry_after_s=1)
    return answer


class UnreliableStorage(MemoryStorage):
    """A storage whose calls fail with the luck of its caller."""

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        await _before()
        await super().put(key, data, content_type)
        _after()

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        await _before()
        return await super().get(key, limit=limit)

    async def size(self, key: str) -> int:
        await _before()
        return await super().size(key)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            await _before()
            await super().delete(key)
            _after()


async def _before() -> None:
    if luck := mine.get():
        await luck.before_call()


def _after() -> None:
    luck = mine.get()
    if luck and luck.happens("answers of the storage lost", IS_LOST):
        raise StorageUnavailable("the answer was lost")
