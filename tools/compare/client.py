"""The client of all compared servers. It sends each the same requests with the same pauses, and its own CPU time is
not counted."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from tools.compare.servers import Server

BODY: dict[str, Any] = {
    "model": "noop-v1",
    "input": {
        "image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNo"
        "AAAAggCBd81ytgAAAABJRU5ErkJggg=="
    },
}
"""A grey image of one pixel."""

PAUSE_S = 0.005
"""Seconds between two polls of a task."""

WAIT = {"prefer": "wait=30"}

BULK = 1_000
"""Tasks in one request: the most that Penstock accepts in a JSON body."""

LOOK = 100
"""Tasks of the peer that one poll asks for: those in front, so that each is polled once or twice."""

BULK_PAUSE_S = 0.05

RUN = {"cache-control": "no-cache"}
"""Penstock would answer all equal tasks from the result of one."""


@dataclass
class Run:
    """The figures of one load."""

    submits_per_s: float
    tasks_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_task: float


class Client:
    """One session on one server."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def first_result(self) -> None:
        """Sends tasks until the first one has succeeded."""
        while True:
            try:
                await self.task({})
                return
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.02)

    async def task(self, prefer: dict[str, str]) -> float:
        """Runs one task to its end and returns the seconds that it took."""
        started = time.perf_counter()
        view = await self._post(prefer)
        while view["status"] != "SUCCESS":
            await asyncio.sleep(PAUSE_S)
            view = await self._get(view["task_id"])
        return time.perf_counter() - started

    async def waits(self) -> bool:
        """Whether the server knows `Prefer: wait`."""
        async with self._session.post(f"{self._server.url}/v1/tasks", json=BODY, headers=WAIT) as answer:
            return "preference-applied" in answer.headers

    async def closed(self, tasks: int, clients: int, prefer: dict[str, str]) -> Run:
        """Runs a closed loop: each client sends its next task when the one before has ended."""
        numbers, took_s = iter(range(tasks)), list[float]()

        async def one(order: Iterator[int]) -> None:
            for _ in order:
                took_s.append(await self.task(prefer))

        started, cpu_s = time.perf_counter(), self._server.cpu_s()
        await asyncio.gather(*(one(numbers) for _ in range(clients)))
        wall_s = time.perf_counter() - started
        return self._run(tasks, tasks / wall_s, wall_s, took_s, cpu_s)

    async def burst(self, tasks: int, clients: int) -> Run:
        """Submits all tasks as fast as they are accepted, then waits until the last one has succeeded."""
        numbers, ids, took_s = iter(range(tasks)), list[str](), list[float]()

        async def one(order: Iterator[int]) -> None:
            for _ in order:
                sent = time.perf_counter()
                ids.append((await self._post({}))["task_id"])
                took_s.append(time.perf_counter() - sent)

        started, cpu_s = time.perf_counter(), self._server.cpu_s()
        await asyncio.gather(*(one(numbers) for _ in range(clients)))
        submitted_s = time.perf_counter() - started
        for task_id in ids:
            while (await self._get(task_id))["status"] != "SUCCESS":
                await asyncio.sleep(0.02)
        return self._run(tasks, tasks / submitted_s, time.perf_counter() - started, took_s, cpu_s)

    async def bulk(self, tasks: int) -> Run:
        """Submits all tasks in as few requests as possible, then waits until the last one has succeeded. A poll asks
        Penstock for the record of the batch, and the peer for the tasks that are not known to have ended."""
        send, end = (self._batch, self._end_of_batch) if self._server.has_batches else (self._many, self._end_of_many)
        started, cpu_s = time.perf_counter(), self._server.cpu_s()
        took_s, sent = list[float](), list[Any]()
        for first in range(0, tasks, BULK):
            began = time.perf_counter()
            sent.append(await send(min(BULK, tasks - first)))
            took_s.append(time.perf_counter() - began)
        submitted_s = time.perf_counter() - started
        for one in sent:
            await end(one)
        return self._run(tasks, tasks / submitted_s, time.perf_counter() - started, took_s, cpu_s)

    async def _batch(self, count: int) -> str:
        """Submits a batch and returns its URL."""
        lines = [{"custom_id": f"{number}", "input": BODY["input"]} for number in range(count)]
        defaults = {"model": BODY["model"], "reuse": False}
        return str((await self._json("/v1/batches", {"lines": lines, "defaults": defaults}))["links"]["self"])

    async def _end_of_batch(self, path: str) -> None:
        while (view := await self._json(path))["status"] == "RUNNING":
            await asyncio.sleep(BULK_PAUSE_S)
        if view["counts"]["succeeded"] != view["counts"]["total"]:
            raise SystemExit(f"compare: of a batch, {view['counts']}")

    async def _many(self, count: int) -> list[str]:
        """Submits many tasks and returns their ids."""
        return list((await self._json("/v1/bulk", {"tasks": [BODY] * count}))["task_ids"])

    async def _end_of_many(self, left: list[str]) -> None:
        while left:
            front = left[:LOOK]
            found = (await self._json("/v1/bulk/status", {"task_ids": front}))["status"]
            waiting = [task_id for task_id, status in zip(front, found, strict=True) if status != "SUCCESS"]
            if {*found} - {"PENDING", "STARTED", "SUCCESS"}:
                raise SystemExit(f"compare: tasks ended as {set(found)}")
            left = waiting + left[LOOK:]
            if waiting:
                await asyncio.sleep(BULK_PAUSE_S)

    def _run(self, tasks: int, submits_per_s: float, wall_s: float, took_s: list[float], cpu_s: float) -> Run:
        ordered = sorted(took_s)
        return Run(
            submits_per_s=submits_per_s,
            tasks_per_s=tasks / wall_s,
            p50_ms=ordered[len(ordered) // 2] * 1000,
            p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
            cpu_ms_per_task=(self._server.cpu_s() - cpu_s) / tasks * 1000,
        )

    async def _post(self, prefer: dict[str, str]) -> dict[str, Any]:
        async with self._session.post(f"{self._server.url}/v1/tasks", json=BODY, headers=RUN | prefer) as answer:
            return await _view(answer)

    async def _json(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        method = "GET" if body is None else "POST"
        async with self._session.request(method, f"{self._server.url}{path}", json=body) as answer:
            answer.raise_for_status()
            view: dict[str, Any] = await answer.json()
        return view

    async def _get(self, task_id: str) -> dict[str, Any]:
        async with self._session.get(f"{self._server.url}/v1/tasks/{task_id}") as answer:
            return await _view(answer)


async def _view(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    answer.raise_for_status()
    view: dict[str, Any] = await answer.json()
    if view["status"] not in ("PENDING", "STARTED", "RUNNING", "SUCCESS"):
        raise SystemExit(f"compare: a task ended as {view['status']}")
    return view
