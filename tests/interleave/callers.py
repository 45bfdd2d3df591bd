"""Callers under a scheduler: each stops before every call of the store or the storage, until it is chosen to go on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from penstock.errors import PenstockError
from penstock.storage import Item, Stored
from penstock.store import NotItsTurn
from penstock.store.engine import Arguments
from tests.support.memory_storage import MemoryStorage
from tests.support.monitor import WHOLE, Touch
from tests.support.moved_clock import ByStillClock

T = TypeVar("T")

Act = Callable[[], Awaitable[object]]

A_FEW_TURNS = 10
"""Turns of the event loop: more than pass from the end of one task to the first call of a task that waits for it."""

STUCK_S = 10.0
"""A caller that has not reached its next call by then waits for something other than a call."""

_me: ContextVar["Caller | None"] = ContextVar("caller", default=None)
_asked: ContextVar[str] = ContextVar("asked", default="")


class Caller:
    """One act, which runs call by call. Everything that it starts belongs to it too."""

    def __init__(self, act: Act) -> None:
        self.steps = 0
        """How many calls it has made."""
        self.is_dead = False
        self.refusal: Exception | None = None
        """The act's answer, if it is an error of Penstock."""
        self.fault: Exception | None = None
        """Any other error."""
        self.touched: set[Touch] = set()
        """Which objects of the storage the last call has read and written."""
        self.last_call = ""
        self._act = act
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._calls_under_way = 0
        self._changed = asyncio.Event()
        me = _me.set(self)
        self._task = asyncio.create_task(self._live())
        _me.reset(me)

    @property
    def is_done(self) -> bool:
        """Whether it makes no further call."""
        return self.is_dead or (self._task.done() and not self._calls_under_way and not self._waiting)

    async def step(self) -> None:
        """Lets it make one call and go on to the next one."""
        self.steps += 1
        self.touched.clear()
        self._calls_under_way += 1
        self._waiting.popleft().set_result(None)
        await self.rest()

    async def rest(self) -> None:
        """Returns when it waits to be chosen, or is done."""
        async with asyncio.timeout(STUCK_S):
            while not self.is_done and (self._calls_under_way or not self._waiting):
                self._changed.clear()
                await self._changed.wait()
                await self._let_others_begin()

    async def _let_others_begin(self) -> None:
        """Lets background tasks of the act run up to their first call."""
        if self._task.done():
            for _ in range(A_FEW_TURNS):
                await asyncio.sleep(0)

    async def die(self) -> None:
        """Ends it like a killed process: it makes no further call, and nothing that it does on its way out reaches
        anybody."""
        self.is_dead = True
        self._task.cancel()
        for chosen in self._waiting:
            chosen.cancel()
        await asyncio.wait([self._task])

    async def turn(self) -> None:
        """Waits to be chosen."""
        if self.is_dead:
            raise asyncio.CancelledError
        chosen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(chosen)
        self._changed.set()
        try:
            await chosen
        except asyncio.CancelledError:
            if chosen in self._waiting:
                self._waiting.remove(chosen)
            self._changed.set()
            raise

    def made_call(self) -> None:
        """Reports that the call that it was chosen for was answered."""
        self._calls_under_way -= 1
        self._changed.set()

    async def _live(self) -> None:
        try:
            await self._act()
        except (PenstockError, NotItsTurn) as error:
            self.refusal = error
        except Exception as error:  # noqa: BLE001  reported as a fault of the meeting
            self.fault = error
        finally:
            self._changed.set()


@asynccontextmanager
async def call(name: str, *touched: Touch) -> AsyncIterator[None]:
    """Makes one call when the caller is chosen; at once outside the scheduler. `touched` are the objects of the
    storage that it reads and writes."""
    caller = _me.get()
    if caller is None:
        yield
        return
    await caller.turn()
    try:
        caller.touched.update(touched)
        caller.last_call = name
        yield
    finally:
        caller.made_call()


class ByTurns(ByStillClock):
    """An engine in which every request to Redis is a call of the scheduler."""

    async def _ask(self, question: Callable[[], Awaitable[T]], *, about: Iterable[Any] = ()) -> T:
        async with call(_asked.get()):
            return await super()._ask(question, about=about)

    async def call(self, script: str, values: Arguments, *, again: bool = True) -> Any:
        async with call(script):
            return await super().call(script, values, again=again)

    async def run_each(self, script: str, calls: Sequence[Arguments]) -> list[Any]:
        _asked.set(f"{len(calls)} x {script}")
        return await super().run_each(script, calls)

    async def pipelined(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        _asked.set(" ".join(map(str, commands[0])) if commands else "")
        return await super().pipelined(commands)


class StorageByTurns(MemoryStorage):
    """A storage in which every read, write or delete of an object is a call of the scheduler."""

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        async with call(f"put {key}", written(key)):
            await super().put(key, data, content_type)

    async def put_all(self, items: Sequence[Item]) -> None:
        for item in items:
            await self.put(*item)

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        async with call(f"get {key}", read(key)):
            return await super().get(key, limit=limit)

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        async with call(f"stream {key}", read(key)):
            return await super().stream(key, start, stop)

    async def size(self, key: str) -> int:
        async with call(f"size {key}", read(key)):
            return await super().size(key)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            async with call(f"delete {key}", written(key)):
                await super().delete(key)

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        async with call(f"list {prefix}", Touch(prefix.encode(), WHOLE, False)):
            found = [stored async for stored in super().list(prefix)]
        for stored in found:
            yield stored


def written(key: str) -> Touch:
    """The touch of storing or deleting an object."""
    return _of_object(key, is_written=True)


def read(key: str) -> Touch:
    """The touch of reading an object."""
    return _of_object(key, is_written=False)


def _of_object(key: str, *, is_written: bool) -> Touch:
    """Counts an object as a member of its prefix."""
    folder, slash, name = key.rpartition("/")
    return Touch((folder + slash).encode(), name.encode(), is_written)
