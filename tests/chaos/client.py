"""The client of the chaos ring: it is patient and idempotent, and records every request and every answer."""

import asyncio
import base64
import io
import random
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import aiohttp
from msgspec import Struct
from PIL import Image

from tests.chaos.history import History
from tests.chaos.models import MODEL, Deed

API_KEY = "a-key-only-for-the-chaos"
TIMEOUT_S = 5.0
FOREIGN = "foreign_answer"
"""Our own code for an answer that was meant for another request."""
PAUSE_S = 0.1
"""Seconds between two tries of the same request."""


def noise_png(side: int) -> str:
    """Returns a PNG of noise with this side; it takes three bytes a pixel."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(0).randbytes(side * side * 3)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


INPUT = noise_png(48)
"""The usual input of a task: too large to travel in its record. Redis has room for a few of them, and the others are
stored: see `INLINE_BUDGET_BYTES`."""

SMALL_INPUT = noise_png(16)
"""An input that is kept in the record."""


class Order(Struct, frozen=True, kw_only=True):
    """A task to submit."""

    key: str
    ms: int = 50
    deed: Deed = "ok"
    priority: str = "normal"
    timeout_s: float | None = None
    start_within_s: float | None = None
    image: str = INPUT
    webhook: str = ""

    def body(self) -> dict[str, Any]:
        """The body of the request."""
        optional: dict[str, Any] = {"timeout_s": self.timeout_s, "start_within_s": self.start_within_s}
        optional["webhook"] = {"url": self.webhook} if self.webhook else None
        return {
            "model": MODEL,
            "input": {"image_url": self.image},
            "params": {"ms": self.ms, "deed": self.deed, "nonce": self.key},
            "priority": self.priority,
            "client_request_id": self.key,
        } | {name: value for name, value in optional.items() if value}


class Answer(Struct, frozen=True):
    """The answer to one request. `status` is 0 if none came."""

    status: int
    body: Any = None
    headers: Any = None

    @property
    def code(self) -> str:
        """The code of a refusal."""
        return self.body.get("code", "") if isinstance(self.body, dict) else ""


class Client:
    """Talks to one of several servers at a time; `servers` returns those worth a try now."""

    def __init__(self, servers: Callable[[], list[str]], history: History) -> None:
        self._servers = servers
        self._history = history
        self._turn = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Client":
        self._session = aiohttp.ClientSession(
            headers={"x-api-key": API_KEY},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def submit(self, order: Order, *, tries: int = 1_000) -> str | None:
        """Submits until it is acknowledged or finally refused; returns the id of the task."""
        for _ in range(tries):
            self._history.write("submit.invoke", key=order.key)
            started = time.monotonic()
            answer = await self.ask("POST", "/v1/tasks", order.body())
            facts = {"key": order.key, "status": answer.status, "took_s": time.monotonic() - started}
            if answer.status in (200, 202):
                task: str = answer.body["task_id"]
                self._history.write("submit.ok", task=task, **facts)
                return task
            unknown = answer.status == 0 or answer.status >= 500
            self._history.write("submit.info" if unknown else "submit.fail", code=answer.code, **facts)
            if not unknown and answer.status != 429:
                return None
            await asyncio.sleep(PAUSE_S)
        return None

    async def conflict(self, order: Order) -> None:
        """Sends the key of a task with another body, which must be refused."""
        other = order.body() | {"metadata": {"other": "body"}}
        answer = await self._insist("POST", "/v1/tasks", other)
        self._history.write("conflict", key=order.key, status=answer.status, code=answer.code)

    async def poll(self, task: str, etag: str = "") -> Answer | None:
        """Returns the task as it is now, or None if nothing has changed or no answer came."""
        started = time.monotonic()
        answer = await self.ask("GET", f"/v1/tasks/{task}", headers={"If-None-Match": etag} if etag else {})
        took_s = time.monotonic() - started
        if answer.status == 304:
            return None
        foreign = answer.status == 200 and answer.body.get("task_id") != task
        if answer.status != 200 or foreign:
            code = FOREIGN if foreign else answer.code
            self._history.write("read.fail", task=task, status=answer.status, code=code, took_s=took_s)
            return None
        self._history.write(
            "poll", task=task, state=answer.body["status"], etag=answer.headers.get("ETag", ""), took_s=took_s
        )
        return answer

    async def record(self, task: str) -> dict[str, Any] | None:
        """Returns the whole task at the end of the run."""
        answer = await self._insist("GET", f"/v1/tasks/{task}")
        if answer.status != 200:
            return None
        view: dict[str, Any] = answer.body
        self._history.write("record", task=task, state=view["status"], etag=answer.headers.get("ETag", ""), view=view)
        return view

    async def result(self, task: str) -> Answer:
        """Reads the bytes of the result; the history has their digest."""
        answer = await self._insist("GET", f"/v1/tasks/{task}/result")
        digest = sha256(answer.body).hexdigest() if answer.status == 200 else ""
        self._history.write("result", task=task, status=answer.status, sha256=digest, code=answer.code)
        return answer

    async def cancel(self, task: str) -> int:
        """Cancels once and returns the status."""
        self._history.write("cancel.invoke", task=task)
        answer = await self.ask("POST", f"/v1/tasks/{task}/cancel")
        kinds = {200: "cancel.ok", 0: "cancel.info"}
        kind = kinds.get(answer.status, "cancel.fail" if answer.status < 500 else "cancel.info")
        self._history.write(kind, task=task, status=answer.status, code=answer.code)  # type: ignore[arg-type]
        return answer.status

    async def listed(self) -> int:
        """Records every task that the server lists and returns their number."""
        cursor, count = "", 0
        while True:
            answer = await self._insist("GET", f"/v1/tasks?limit=100{cursor}")
            if answer.status != 200:
                return count
            for view in answer.body["data"]:
                count += 1
                self._history.write("listed", task=view["task_id"], key=view["client_request_id"] or "")
            if not answer.body["has_more"]:
                return count
            cursor = f"&cursor={answer.body['next_cursor']}"

    async def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Sends one request to the next server; the status is 0 if no whole answer came in time."""
        servers = self._servers()
        if not servers or self._session is None:
            return Answer(0)
        self._turn += 1
        base = servers[self._turn % len(servers)]
        try:
            async with self._session.request(method, base + path, json=body, headers=headers) as answer:
                kind = answer.content_type
                read: Any = await (answer.json(content_type=None) if "json" in kind else answer.read())
                return Answer(answer.status, read, answer.headers)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer(0)

    async def _insist(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Repeats a request while the server is away."""
        for _ in range(600):
            answer = await self.ask(method, path, body)
            if 0 < answer.status < 500:
                return answer
            await asyncio.sleep(PAUSE_S)
        return answer
