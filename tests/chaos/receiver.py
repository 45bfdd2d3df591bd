"""A real HTTP server for webhooks: it verifies and records every message, and misbehaves as it is told to."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from aiohttp import web
from msgspec import Struct
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

HANG, RESET = 0, -1
"""Values of an answering function that stand for no answer at all."""


class Message(Struct, frozen=True, kw_only=True):
    """One delivery. `at` and `said` are seconds since 1970: its arrival, and the time of its event. `stamp` is the
    time in its signature, `verified` the numbers of the secrets that verify it."""

    id: str
    endpoint: str
    at: float
    said: float
    stamp: float
    verified: frozenset[int]
    status: int


Answering = Callable[[str, str], int]
"""Returns a status, HANG or RESET for an endpoint and an id."""


class Receiver:
    """Listens on every address of the loopback network; each is an endpoint."""

    def __init__(self, port: int, secrets: tuple[str, ...], answering: Answering) -> None:
        self.port = port
        self.answering = answering
        self.headers: dict[int, dict[str, str]] = {}
        """Headers of an answer with that status."""
        self.messages: list[Message] = []
        self._keys = [Webhook(secret) for secret in secrets]

    def url(self, address: str = "127.0.0.1") -> str:
        """Returns the URL of one endpoint."""
        return f"http://{address}:{self.port}/told"

    def told(self) -> set[str]:
        """Returns the ids that were accepted."""
        return {message.id for message in self.messages if message.status in range(200, 300)}

    @asynccontextmanager
    async def listening(self, at: socket.socket | None = None) -> AsyncIterator[None]:
        """Refuses connections before and after the block. `at` is a bound socket of another host."""
        runner = web.ServerRunner(web.Server(self._receive), shutdown_timeout=0.1)
        await runner.setup()
        here = web.TCPSite(runner, "0.0.0.0", self.port, backlog=1024, reuse_address=True)
        await (web.SockSite(runner, at, backlog=1024) if at else here).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.BaseRequest) -> web.StreamResponse:
        at, body = time.time(), (await request.read()).decode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        endpoint, message_id = request.host.partition(":")[0], headers["webhook-id"]
        status = self.answering(endpoint, message_id)
        self.messages.append(
            Message(
                id=message_id,
                endpoint=endpoint,
                at=at,
                said=datetime.fromisoformat(json.loads(body)["timestamp"]).timestamp(),
                stamp=float(headers["webhook-timestamp"]),
                verified=frozenset(n for n, key in enumerate(self._keys) if _verifies(key, body, headers)),
                status=status,
            )
        )
        if status == HANG:
            await asyncio.sleep(60)
        elif status == RESET and request.transport is not None:
            request.transport.abort()
        return web.Response(status=status if status > 0 else 200, headers=self.headers.get(status))


def _verifies(key: Webhook, body: str, headers: dict[str, str]) -> bool:
    try:
        key.verify(body, headers)
    except WebhookVerificationError:
        return False
    return True
