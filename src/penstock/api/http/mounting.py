"""A router that costs little to mount.

It relies on two things that Litestar does, which tests/unit/test_mounting.py holds. `register` takes a deep copy of a
router, with every example of its description: a fifth of what an API takes to be made. And it copies each handler,
which parses its signature when it is asked for, and keeps it: what was parsed before is copied along, so that
handlers that are mounted twice, as the console does with those of /v1, are parsed once.
"""

from collections.abc import Sequence
from typing import Any

from litestar import Router
from litestar.handlers import HTTPRouteHandler
from litestar.types import ControllerRouterHandler


class MountedRouter(Router):
    """A router for one application: it is mounted itself, not a copy of it.

    Its handlers are copies, as those of every router, so that the same handlers may be given to several.
    """

    def __init__(self, path: str, *, route_handlers: Sequence[ControllerRouterHandler], **options: Any) -> None:
        for handler in route_handlers:
            if isinstance(handler, HTTPRouteHandler):
                _ = handler.parsed_fn_signature
        super().__init__(path, route_handlers=route_handlers, **options)

    # `register` sets the owner of what it has copied: a router of a module, which several applications of a process
    # mount, has to stay a plain one.
    def __deepcopy__(self, memo: dict[int, Any]) -> "MountedRouter":
        return self
