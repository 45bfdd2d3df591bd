"""Requests that stay open until a task ends: one listener wakes them all, and nothing polls."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from litestar import Request
from litestar.types import Receive

from penstock.core.task import Task
from penstock.errors import StoreUnavailable
from penstock.store import Store
from penstock.telemetry import metrics

LOOK_EVERY_S = 1.0
"""What is waited for is looked at this often even if no message came, all in one round trip: one can be lost."""

LINGER_S = 2.0
"""How long ends are listened to when nobody waits: a client that waits for one task is soon back with the next."""

AnyRequest = Request[Any, Any, Any]
End = asyncio.Future[None]
"""Of one task, for one request: done when the task has ended."""


class Waiting:
    """Who waits for which task."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ends: dict[str, set[End]] = {}
        self._open = 0
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Hear of ends, for ever."""
        await asyncio.gather(self._listen(), self._look_again())

    def end_all(self) -> None:
        """End every wait now."""
        for task_id in tuple(self._ends):
            self._wake(task_id)

    @contextmanager
    def expect(self, task_id: str) -> Iterator[End]:
        """From here on the end of this task is not missed; entered before a submit, or before a read."""
        end: End = asyncio.get_running_loop().create_future()
        self._ends.setdefault(task_id, set()).add(end)
        self._wanted.set()
        try:
            yield end
        finally:
            self._ends[task_id].discard(end)
            if not self._ends[task_id]:
                del self._ends[task_id]

    async def wait(self, end: End, seconds: float, request: AnyRequest) -> None:
        """Until the task has ended, for `seconds` at most; shorter when the client hangs up."""
        started = asyncio.get_running_loop().time()
        hang_up = asyncio.create_task(_hang_up(request.receive), name="hang-up")
        self._count(1)
        try:
            await asyncio.wait((end, hang_up), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hang_up.cancel()
            self._count(-1)
            request.scope["state"]["waited_s"] = asyncio.get_running_loop().time() - started

    async def end_of(self, task_id: str, *, seconds: float, request: AnyRequest) -> Task:
        """The task as soon as it has ended, else as it is after `seconds`. Raises as `Store.get` does."""
        tenant = request.auth.tenant
        with self.expect(task_id) as end:
            task = await self._store.tasks.get(task_id, tenant)
            if not seconds or task.state.is_final:
                return task
            await self.wait(end, seconds, request)
        return await self._store.tasks.get(task_id, tenant)

    async def _listen(self) -> None:
        """Only while somebody waits, and a little longer: ends that nobody waits for are not worth hearing of."""
        while True:
            await self._wanted.wait()
            async with aclosing(self._store.tasks.ends()) as ends:
                await self._hear(ends)

    async def _hear(self, ends: AsyncGenerator[str]) -> None:
        clock = asyncio.get_running_loop().time
        needed = clock()
        async for task_id in ends:
            if task_id:
                self._wake(task_id)
            else:
                await self._look()
            if self._ends:
                needed = clock()
            elif clock() - needed > LINGER_S:
                self._wanted.clear()
                return

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        try:
            for task_id in await self._store.tasks.ended(tuple(self._ends)):
                self._wake(task_id)
        except StoreUnavailable:
            return  # they wait on, and the next look may be answered

    def _wake(self, task_id: str) -> None:
        for end in self._ends.get(task_id, ()):
            if not end.done():
                end.set_result(None)

    def _count(self, change: int) -> None:
        self._open += change
        metrics.report("waits", self._open)


async def _hang_up(receive: Receive) -> None:
    """Returns when the client is gone; what is left of the body comes first."""
    while (await receive())["type"] != "http.disconnect":
        pass
