"""The console of a server, which is made when somebody looks at it."""

import asyncio
from collections.abc import Iterable, MutableMapping

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Receive, Scope, Send

from penstock.api.http.headers import allow_of
from penstock.lazy_import import lazy_import, load

ROUTER = "penstock.api.console.router"

router = lazy_import(ROUTER)


class ConsoleOnDemand:
    """Adds the routes of the console to an application before the first request for one of them.

    Their pages and templates take 4 MB and a quarter of a second, which a server that nobody looks at does not need to
    start. `allowed` gets the methods of their paths.
    """

    def __init__(self, app: Litestar, v1: Iterable[HTTPRouteHandler], allowed: MutableMapping[str, str]) -> None:
        self._app = app
        self._next = app.asgi_handler
        self._v1 = v1
        self._allowed = allowed
        self._adding = asyncio.Lock()
        self._is_there = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if not self._is_there and f"{scope['path']}/".startswith("/console/"):
            async with self._adding:
                await self._add()
        await self._next(scope, receive, send)

    async def _add(self) -> None:
        if self._is_there:
            return
        await load(ROUTER)
        for routes in router.console(self._v1):
            self._app.register(routes)
            await asyncio.sleep(0)  # other requests wait for one route, and not for all
        self._allowed.update(methods_of(self._app))
        self._is_there = True


def methods_of(app: Litestar) -> dict[str, str]:
    """Return the methods of each path, as the answer to OPTIONS names them."""
    # Litestar answers OPTIONS with the first method of a path, and leaves out the others.
    return {route.path_format: allow_of(route.methods) for route in app.routes if isinstance(route, HTTPRoute)}
