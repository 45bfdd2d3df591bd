"""The routes of the console: its pages, and the API itself once more, opened by a session in place of a key.

Acts and files of the pages use the second: so the console has no act of its own, and none without its scope and audit.
"""

from collections.abc import Iterable

from litestar import Router
from litestar.handlers import HTTPRouteHandler

from penstock.api.console.answers import AS_PAGES
from penstock.api.console.assets import send_asset
from penstock.api.console.screens import (
    audit,
    batches,
    errors,
    inputs,
    keys,
    login,
    models,
    overview,
    queues,
    replay,
    task,
    tasks,
    trial,
    usage,
    webhooks,
    workers,
)
from penstock.api.console.sessions import open_session
from penstock.api.http.auth import require_key
from penstock.api.http.mounting import MountedRouter
from penstock.api.http.scopes import check_declared

ENTRY = (login.show_login, login.try_login, send_asset)
"""What needs no session."""

SCREENS: tuple[HTTPRouteHandler, ...] = (
    overview.show_overview,
    tasks.show_tasks,
    tasks.find,
    task.show_task,
    replay.show_replay,
    inputs.send_input,
    queues.show_queues,
    workers.show_workers,
    models.show_models,
    models.show_model,
    trial.show_trial,
    batches.show_batches,
    batches.show_batch,
    webhooks.show_webhooks,
    usage.show_usage,
    keys.show_keys,
    audit.show_audit,
    errors.show_error,
    login.leave,
)


def console(v1: Iterable[HTTPRouteHandler]) -> list[Router]:
    """Return the routers of the console; `v1` are the handlers of /v1."""
    check_declared((*ENTRY, *SCREENS))
    pages = MountedRouter(
        "/console",
        route_handlers=[*ENTRY, *SCREENS, errors.nothing_here],
        middleware=[open_session, require_key],
        exception_handlers=AS_PAGES,
        include_in_schema=False,
    )
    acts = MountedRouter(
        "/console/v1", route_handlers=list(v1), middleware=[open_session, require_key], include_in_schema=False
    )
    return [pages, acts]
