"""What an API answers while a fault lasts: somebody asks it again and again, and counts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx

from tests.chaos.client import API_KEY, SMALL_INPUT, Order
from tests.chaos.parts import Api
from tests.hosts.site import Site

EVERY_S = 0.3
HUNG_S = 10.0


class Asked:
    """The counts. `orders` are the submits, which are to be sent again afterwards: some may have been accepted."""

    def __init__(self, name: str) -> None:
        self.orders: list[Order] = []
        self.accepted: list[str] = []
        """The ids of the submits that were accepted."""
        self.figures: dict[str, float] = dict.fromkeys(
            ("asked", "answered", "refused_right", "refused_wrong", "hung", "answer_max_s", "not_ready"), 0.0
        )
        self._name = name

    def order(self) -> Order:
        """The next submit."""
        self.orders.append(Order(key=f"asked-{self._name}-{len(self.orders)}", ms=20, image=SMALL_INPUT))
        return self.orders[-1]

    def count(self, answer: httpx.Response | None, took_s: float) -> None:
        """Counts one answer, or that none came. A refusal is right if it says when to come again."""
        self.figures["asked"] += 1
        self.figures["answer_max_s"] = max(self.figures["answer_max_s"], took_s)
        if answer is None:
            kind = "hung"
        elif answer.status_code < 500:
            kind = "answered"
            if answer.status_code == 202:
                self.accepted.append(answer.json()["task_id"])
        else:
            said = answer.status_code == 503 and "retry-after" in answer.headers
            kind = "refused_right" if said else "refused_wrong"
        self.figures[kind] += 1


@asynccontextmanager
async def asking(site: Site, api: Api, known: str) -> AsyncIterator[Asked]:
    """Submits, reads the task `known` and asks for readiness while the block runs, one after the other."""
    asked = Asked(api.name)
    headers = {"x-api-key": API_KEY}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=HUNG_S, trust_env=False) as client:
        task = asyncio.create_task(_ask(site, client, asked, known), name="asking")
        try:
            yield asked
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _ask(site: Site, client: httpx.AsyncClient, asked: Asked, known: str) -> None:
    while True:
        order = asked.order()
        site.history.write("submit.invoke", key=order.key)
        await _count(client, asked, client.build_request("POST", "/v1/tasks", json=order.body()))
        await _count(client, asked, client.build_request("GET", f"/v1/tasks/{known}"))
        with suppress(httpx.HTTPError):
            ready = await client.get("/readyz")
            asked.figures["not_ready"] += ready.status_code == 503
        await asyncio.sleep(EVERY_S)


async def _count(client: httpx.AsyncClient, asked: Asked, request: httpx.Request) -> None:
    started, answer = time.monotonic(), None
    with suppress(httpx.HTTPError):
        answer = await client.send(request)
    asked.count(answer, time.monotonic() - started)


async def is_ready(api: Api) -> bool:
    """Whether an API says that it is ready, within a second."""
    async with httpx.AsyncClient(timeout=1, trust_env=False) as client:
        try:
            return (await client.get(f"{api.url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False


async def metric(api: Api, name: str) -> float:
    """The sum of a metric of an API over its labels; -1 if it cannot be read."""
    async with httpx.AsyncClient(timeout=HUNG_S, trust_env=False) as client:
        try:
            text = (await client.get(f"{api.url}/metrics")).text
        except httpx.HTTPError:
            return -1.0
    rows = [line.rpartition(" ") for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(value) for _, _, value in rows) if rows else -1.0
