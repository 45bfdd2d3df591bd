"""The console as an application of its own, which is made with the first request for one of its pages.

Its modules and routes take a fifth of a start of the API, and many servers are never looked at.
"""

import asyncio
from collections.abc import Callable

from litestar import Litestar
from litestar.types import ASGIApp, Receive, Scope, Send

PREFIX = "/console/"


class LateConsole:
    """An ASGI application that passes requests for the console on to the one that `make` returns, and all others to
    `app`. `make` is called on a thread, so that the requests of others go on meanwhile: once, and after a failure again
    with the next request."""

    def __init__(self, app: ASGIApp, make: Callable[[], Litestar]) -> None:
        self._app = app
        self._make = make
        self._made: asyncio.Future[Litestar] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if f"{scope['path']}/".startswith(PREFIX):
            await (await self._console())(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _console(self) -> Litestar:
        if self._made is None or (self._made.done() and self._made.exception()):
            self._made = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(self._made)  # a client that hangs up takes it away from no other
