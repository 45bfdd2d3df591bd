"""Clients that submit a list of orders, follow every task to its end, and then read everything once more."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from penstock.core.task import State
from tests.chaos.client import Client, Order
from tests.chaos.world import World

SUBMITTERS = 8
WATCHERS = 6
WATCH_PAUSE_S = 0.03
DRAIN_S = 120.0

Act = Callable[[Client, str], Awaitable[object]]


class Load:
    """Orders that are being submitted and followed."""

    def __init__(
        self,
        world: World,
        orders: Iterable[Order],
        *,
        rate: float = 0.0,
        backlog: int = 0,
        on_running: Act | None = None,
        drain_s: float = DRAIN_S,
        submitters: int = SUBMITTERS,
    ) -> None:
        """`rate` is the submits a second, where 0 means as fast as possible. `backlog` limits the unfinished tasks,
        where 0 means no limit. `on_running` is called once for each task that is seen running."""
        self._world = world
        self._orders = list(orders)
        self._sent: list[Order] = []
        self._rate = rate
        self._backlog = backlog
        self._on_running = on_running
        self._drain_s = drain_s
        self._submitters = submitters
        self._etags: dict[str, str] = {}
        self._open: asyncio.Queue[str] = asyncio.Queue()
        self._acts: dict[str, asyncio.Task[object]] = {}
        self.tasks: dict[str, str] = {}
        self._read = False
        self.ended: set[str] = set()
        self.took_s = 0.0

    @property
    def size(self) -> int:
        """The number of orders; after `enough`, only of those that were sent."""
        return len(self._orders)

    def enough(self) -> None:
        """Submits no more orders."""
        self._orders = list(self._sent)

    @property
    def progress(self) -> float:
        """The share of the orders that have ended."""
        return len(self.ended) / max(1, len(self._orders))

    async def until(self, progress: float, timeout_s: float = 60.0) -> None:
        """Waits until this share of the orders has ended. Raises TimeoutError."""
        await self._world.until(lambda: self.progress > progress, f"{progress:.0%} of the tasks have ended", timeout_s)

    async def until_submitted(self, timeout_s: float = 120.0) -> None:
        """Waits until every order is acknowledged. Raises TimeoutError."""
        await self._world.until(lambda: len(self.tasks) == self.size, "all are acknowledged", timeout_s)

    async def run(self) -> None:
        """Runs until every task has ended, or none has for `drain_s`."""
        client = await self._world.client()
        started = time.monotonic()
        watchers = [asyncio.create_task(self._watch(client), name="watch") for _ in range(WATCHERS)]
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._submitters):
                    group.create_task(self._submit(client))
            await self._drained()
            self.took_s = time.monotonic() - started
        finally:
            for task in watchers:
                task.cancel()
            await asyncio.gather(*watchers, *self._acts.values(), return_exceptions=True)

    async def read_all(self) -> None:
        """Reads once the record and the bytes of every task, and the list of all tasks."""
        if self._read:
            return
        self._read = True
        client = await self._world.client()
        tasks = iter(self.tasks.values())

        async def read() -> None:
            for task in tasks:
                view = await client.record(task)
                if view and view["status"] == State.SUCCESS:
                    await client.result(task)

        async with asyncio.TaskGroup() as group:
            for _ in range(SUBMITTERS):
                group.create_task(read())
        for order in self._orders[:3]:
            if order.key in self.tasks:
                await client.conflict(order)
        await client.listed()
        self._world.collect()

    async def _drained(self) -> None:
        ended, give_up = -1, 0.0
        while len(self.ended) != len(self.tasks):
            if len(self.ended) != ended:
                ended, give_up = len(self.ended), time.monotonic() + self._drain_s
            if time.monotonic() > give_up:
                return
            await asyncio.sleep(0.02)

    async def _submit(self, client: Client) -> None:
        while len(self._sent) < len(self._orders):
            if self._backlog and len(self._sent) - len(self.ended) >= self._backlog:
                await asyncio.sleep(0.02)
                continue
            order = self._orders[len(self._sent)]
            self._sent.append(order)
            if self._rate:
                await asyncio.sleep(self._submitters / self._rate * self._world.rng.uniform(0.5, 1.5))
            task = await client.submit(order)
            if task is not None:
                self.tasks[order.key] = task
                self._open.put_nowait(task)

    async def _watch(self, client: Client) -> None:
        """Polls one task after the other, so that the polls of one task never overlap."""
        while True:
            task = await self._open.get()
            answer = await client.poll(task, self._etags.get(task, ""))
            if answer is not None:
                self._etags[task] = answer.headers.get("ETag", "")
                await self._look(client, task, State(answer.body["status"]))
            if task not in self.ended:
                self._open.put_nowait(task)
            await asyncio.sleep(WATCH_PAUSE_S)

    async def _look(self, client: Client, task: str, state: State) -> None:
        if state.is_final and task not in self.ended:
            if state is State.SUCCESS:
                await client.result(task)
            self.ended.add(task)
        elif state is State.RUNNING and self._on_running is not None and task not in self._acts:
            self._acts[task] = asyncio.create_task(_once(self._on_running, client, task), name=f"act {task}")


async def _once(act: Act, client: Client, task: str) -> object:
    return await act(client, task)
