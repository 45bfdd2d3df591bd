"""Clients that send submits at a steady rate, whatever is answered, and note what each of them got."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import aiohttp
from msgspec import Struct

from tests.chaos.client import SMALL_INPUT, TIMEOUT_S, Order

WAIT_S = 20
DRAIN_S = 120.0
"""Longest time that all accepted tasks may take to end, once no more are sent."""


class Sent(Struct, frozen=True, kw_only=True):
    """One submit: how long its answer took, and what that was; the status is 0 if none came. `late_s` is by how much it
    was sent later than it should have been: the clients' own part in what they measure."""

    took_s: float
    status: int
    task: str = ""
    code: str = ""
    retry_after: str = ""
    late_s: float = 0.0

    @property
    def is_accepted(self) -> bool:
        return self.status in (200, 202)

    @property
    def is_our_refusal(self) -> bool:
        """Whether it was told to come again later because the server, not its tenant, has too much to do."""
        return self.status == 503 and self.retry_after.isdigit()

    @property
    def is_their_refusal(self) -> bool:
        """Whether it was told to come again later because its tenant has sent too much."""
        return self.status == 429 and self.retry_after.isdigit()


class Flood:
    """The clients of one key, which use several servers in turn. Used inside `async with`."""

    def __init__(self, servers: Sequence[str], key: str, *, ms: int) -> None:
        self._servers = servers
        self._key = key
        self._ms = ms
        self._numbers = count()

    async def __aenter__(self) -> "Flood":
        self._session = aiohttp.ClientSession(
            headers={"x-api-key": self._key},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S + WAIT_S),
            connector=aiohttp.TCPConnector(limit=0),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, rate: float, seconds: float, *, wait: bool = False) -> list[Sent]:
        """Send so many submits a second, however many are not answered yet. With `wait`, each asks for the end of its
        task."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            sending = []
            for n in range(int(rate * seconds)):
                due = began + n / rate
                await asyncio.sleep(due - time.monotonic())
                sending.append(group.create_task(self.submit(wait=wait, due=due)))
        return [one.result() for one in sending]

    async def submit(self, *, wait: bool = False, due: float | None = None) -> Sent:
        """Send one submit, which was due at this moment or now."""
        number = next(self._numbers)
        body = Order(key=f"{self._key}-{number}", ms=self._ms, image=SMALL_INPUT).body()
        headers = {"prefer": f"wait={WAIT_S}"} if wait else {}
        url = f"{self._servers[number % len(self._servers)]}/v1/tasks"
        began = time.monotonic()
        late_s = 0.0 if due is None else began - due
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self._session.post(url, json=body, headers=headers) as answer:
                told = await answer.json(content_type=None)
                return Sent(
                    took_s=time.monotonic() - began,
                    status=answer.status,
                    task=told.get("task_id", ""),
                    code=told.get("code", ""),
                    retry_after=answer.headers.get("Retry-After", ""),
                    late_s=late_s,
                )
        return Sent(took_s=time.monotonic() - began, status=0, late_s=late_s)

    async def listed(self) -> int:
        """Return how many tasks there are, answered or not."""
        number, cursor = 0, ""
        while True:
            url = f"{self._servers[0]}/v1/tasks?limit=100{cursor}"
            async with self._session.get(url, raise_for_status=True) as answer:
                page = await answer.json()
            number += len(page["data"])
            if not page["has_more"]:
                return number
            cursor = f"&cursor={page['next_cursor']}"

    async def records(self, sent: Sequence[Sent]) -> list[dict[str, Any]]:
        """Return the records of the tasks that were accepted, each when it has ended. Raises TimeoutError."""
        places = asyncio.Semaphore(8)

        async def end_of(task: str) -> dict[str, Any]:
            async with places:
                while True:
                    async with self._session.get(f"{self._servers[0]}/v1/tasks/{task}?wait={WAIT_S}") as answer:
                        view: dict[str, Any] = await answer.json()
                    if answer.status == 200 and view["finished_at"]:
                        return view

        async with asyncio.timeout(DRAIN_S):
            return await asyncio.gather(*(end_of(one.task) for one in sent if one.is_accepted))
