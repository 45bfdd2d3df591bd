"""The client of all compared servers. It sends each the same tasks with the same pauses, and its own CPU time is not
counted."""

import asyncio
import time
from itertools import cycle
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from tools.compare.connection import CompareError, HttpConnection, Unavailable, encoded
from tools.compare.servers import Server

ALONE_PAUSE_S = 0.002
"""How long a client that is alone waits between two looks at its task."""

PAUSE_S = 0.005
MOST_PAUSE_S = 0.05
"""Of several clients each looks first after PAUSE_S, and then waits half as long again each time, up to this."""

AT_ONCE = 64
"""Connections of a burst of submits."""

GROWTH = 1.5

REPEAT_S = 0.1
MOST_REPEATS = 100
"""A request that is answered with 503, as a server may on a machine that is busy with something else, is sent again."""

CREATED = {"cache-control": "no-cache"}
"""Penstock would answer all equal tasks from the result of one."""

BATCHES = "/v1/batches?" + urlencode({"options": '{"defaults":{"reuse":false}}'})

JSONL = {"content-type": "application/jsonl"}


class Run(NamedTuple):
    """The figures of one load."""

    tasks_per_s: float
    took_ms: list[float]
    cpu_ms_per_task: float


class Answer(msgspec.Struct):
    """What all servers say of a task."""

    task_id: str
    status: str
    result: Any = None


class BatchAnswer(msgspec.Struct):
    """What Penstock says of a batch."""

    status: str
    links: dict[str, str]
    counts: dict[str, int]


class Client:
    """All clients of one server. Their tasks are polled, or with `waits` answered with their results. `repeated` counts
    the requests that had to be sent again."""

    def __init__(self, server: Server, *, waits: bool) -> None:
        self._server = server
        self._waits = waits
        headers = server.headers | CREATED | ({"prefer": "wait=30"} if waits else {})
        self._submits = cycle([encoded("POST", "/v1/tasks", headers, body) for body in server.bodies])
        self._connections: list[HttpConnection] = []
        self.repeated = 0

    async def first_result(self) -> Any:
        """Sends tasks until the first one has succeeded, and returns its result."""
        connection = self._connection()
        while True:
            try:
                return (await self._task(connection, ALONE_PAUSE_S, 1)).result
            except OSError:
                await asyncio.sleep(0.02)

    async def closed(self, tasks: int, clients: int) -> Run:
        """Runs a closed loop: each client sends its next task when the one before has ended."""
        numbers, took_ms = iter(range(tasks)), list[float]()
        pause_s, growth = (ALONE_PAUSE_S, 1.0) if clients == 1 else (PAUSE_S, GROWTH)

        async def one(connection: HttpConnection) -> None:
            for _ in numbers:
                began = time.perf_counter()
                await self._task(connection, pause_s, growth)
                took_ms.append((time.perf_counter() - began) * 1000)

        connections = [self._connection(number) for number in range(clients)]
        began, cpu_s = time.perf_counter(), self._server.cpu_s()
        await asyncio.gather(*map(one, connections))
        return self._run(tasks, time.perf_counter() - began, took_ms, cpu_s)

    async def burst(self, tasks: int) -> Run:
        """Submits all tasks as fast as they are accepted, while they run, and waits for their end. `took_ms` and
        `tasks_per_s` are of the submits, the CPU time is of all."""
        numbers, ids, took_ms = iter(range(tasks)), list[str](), list[float]()

        async def one(connection: HttpConnection) -> None:
            for _ in numbers:
                began = time.perf_counter()
                ids.append((await self._send(connection, next(self._submits))).task_id)
                took_ms.append((time.perf_counter() - began) * 1000)

        connections = [self._connection(number) for number in range(AT_ONCE)]
        began, cpu_s = time.perf_counter(), self._server.cpu_s()
        await asyncio.gather(*map(one, connections))
        took_s = time.perf_counter() - began
        for task_id in ids:
            await self._end_of(connections[0], task_id, MOST_PAUSE_S, 1)
        return self._run(tasks, took_s, took_ms, cpu_s)

    async def batch(self, tasks: int) -> Run:
        """Submits all tasks as one batch of Penstock and waits for its end."""
        bodies = cycle(self._server.bodies)
        lines = b"\n".join(b'{"custom_id":"%d",' % number + next(bodies)[1:] for number in range(tasks))
        request = encoded("POST", BATCHES, self._server.headers | JSONL, lines)
        began, cpu_s = time.perf_counter(), self._server.cpu_s()
        connection = self._connection()
        found, pause_s = msgspec.json.decode(await self._answered(connection, request), type=BatchAnswer), PAUSE_S
        look = encoded("GET", found.links["self"], self._server.headers)
        while found.status == "RUNNING":
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * GROWTH, MOST_PAUSE_S)
            found = msgspec.json.decode(await self._answered(connection, look), type=BatchAnswer)
        if found.counts["succeeded"] != tasks:
            raise CompareError(f"of a batch, {found.counts}")
        return self._run(tasks, time.perf_counter() - began, [], cpu_s)

    def close(self) -> None:
        """Closes all connections; the next task opens new ones."""
        for connection in self._connections:
            connection.close()

    def _connection(self, number: int = 0) -> HttpConnection:
        while len(self._connections) <= number:
            self._connections.append(HttpConnection(self._server.name, self._server.url))
        return self._connections[number]

    async def _task(self, connection: HttpConnection, pause_s: float, growth: float) -> Answer:
        answer = await self._send(connection, next(self._submits))
        if answer.status == "SUCCESS":
            return answer
        if self._waits:
            raise CompareError(f"{self._server.name} did not wait for the end of a task: {answer.status}")
        await asyncio.sleep(pause_s)
        return await self._end_of(connection, answer.task_id, pause_s, growth)

    async def _end_of(self, connection: HttpConnection, task_id: str, pause_s: float, growth: float) -> Answer:
        look = encoded("GET", f"/v1/tasks/{task_id}", self._server.headers)
        while (answer := await self._send(connection, look)).status != "SUCCESS":
            pause_s = min(pause_s * growth, MOST_PAUSE_S)
            await asyncio.sleep(pause_s)
        return answer

    async def _send(self, connection: HttpConnection, request: bytes) -> Answer:
        answer = msgspec.json.decode(await self._answered(connection, request), type=Answer)
        if answer.status not in ("PENDING", "STARTED", "RUNNING", "SUCCESS"):
            raise CompareError(f"a task of {self._server.name} ended as {answer.status}")
        return answer

    async def _answered(self, connection: HttpConnection, request: bytes) -> bytes:
        for _ in range(MOST_REPEATS):
            try:
                return await connection.send(request)
            except Unavailable:
                self.repeated += 1
                await asyncio.sleep(REPEAT_S)
        return await connection.send(request)

    def _run(self, tasks: int, took_s: float, took_ms: list[float], cpu_s: float) -> Run:
        return Run(tasks / took_s, took_ms, (self._server.cpu_s() - cpu_s) / tasks * 1000)
