"""Requests stay open until a task ends: one listener of this process wakes them all, and nothing polls."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

from litestar import Request
from litestar.types import Receive

from penstock.core.task import Task
from penstock.errors import StoreUnavailable
from penstock.store import Store, Submitted
from penstock.telemetry import metrics

LOOK_EVERY_S = 1.0
"""All tasks that are waited for are looked at this often, in one round trip: the message of an end can be lost."""

LINGER_S = 2.0
"""How long the listener goes on when nobody waits: a client that waits for one task is soon back with the next."""

AnyRequest = Request[Any, Any, Any]
End = asyncio.Future[None]
"""The end of one task, for one request: done when the task has ended."""


class Waiting:
    """The requests that wait for the ends of tasks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ends: dict[str, set[End]] = {}
        self._open = 0
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Listen for ends until it is canceled."""
        await asyncio.gather(self._listen(), self._look_again())

    def end_all(self) -> None:
        """End every wait now, as a stop of the server needs it."""
        for task_id in tuple(self._ends):
            self._wake(task_id)

    @contextmanager
    def expect(self, task_id: str) -> Iterator[End]:
        """Miss no end of this task from here on. It is entered before a submit, or before a read."""
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
        """Wait until the task has ended, for `seconds` at most, or until the client hangs up."""
        loop = asyncio.get_running_loop()
        started, timer = loop.time(), loop.call_later(seconds, _wake, end)
        hang_up = asyncio.create_task(_hang_up(request.receive), name="hang-up")
        hang_up.add_done_callback(lambda _: _wake(end))
        self._count(1)
        try:
            await end  # not `asyncio.wait`: it would take a turn of the loop more, between the end and its answer
        finally:
            timer.cancel()
            hang_up.cancel()
            self._count(-1)
            request.scope["state"]["waited_s"] = loop.time() - started

    async def task(self, task_id: str, *, wait_s: float, request: AnyRequest) -> Task:
        """Return the task as soon as it has ended, else as it is after `wait_s` seconds.

        Raises TaskNotFound, ResultExpired, StoreUnavailable.
        """
        tenant = request.auth.tenant
        if wait_s:
            with self.expect(task_id) as end:
                task = await self._store.tasks.get(task_id, tenant)
                if task.state.is_final:
                    return task
                await self.wait(end, wait_s, request)
        return await self._store.tasks.get(task_id, tenant)

    async def end_of(self, submitted: Submitted, end: End, *, wait_s: float, request: AnyRequest) -> Task | None:
        """Return the task of a submit as soon as it has ended, else as it is after `wait_s` seconds.

        None for a new task which cannot be read just now. Raises as `task` does for one that was submitted before.
        """
        if submitted.replayed:
            return await self.task(submitted.id, wait_s=wait_s, request=request)
        if not submitted.is_hit:
            await self.wait(end, wait_s, request)
        with suppress(StoreUnavailable):
            return await self._store.tasks.get(submitted.id, request.auth.tenant)
        return None

    async def _listen(self) -> None:
        """Subscribe only while somebody waits, and a little longer: other ends are not worth hearing of."""
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
            _wake(end)

    def _count(self, change: int) -> None:
        self._open += change
        metrics.report("waits", self._open)


def _wake(end: End) -> None:
    if not end.done():
        end.set_result(None)


async def _hang_up(receive: Receive) -> None:
    """Return when the client is gone; what is left of the body comes first."""
    while (await receive())["type"] != "http.disconnect":
        pass
