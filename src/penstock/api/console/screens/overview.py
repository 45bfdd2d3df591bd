"""The overview: what the server does now."""

from collections.abc import Iterator

import htpy as h
from litestar import Response, get

from penstock.api.console.answers import page
from penstock.api.console.page.panels import heading, live, panel, tile
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import badge, duration, number
from penstock.api.console.reads import operations
from penstock.api.console.viewer import viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ALL_TENANTS, READ
from penstock.api.schemas.operators import StatsView
from penstock.api.services import ServicesDep


@get("/", opt=READ | OF_ALL_TENANTS)
async def show_overview(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show how many tasks are in which state, the queues, and the workers."""
    viewer = viewer_of(request)
    stats = await operations.stats(request, services)
    counts = [
        tile(state.capitalize(), number(count), link=viewer.page("/tasks", status=state))
        for state, count in stats.tasks.items()
    ]
    queues = table(
        ["Model", "Priority", Column("Waiting", True), Column("Oldest", True), ""],
        _queues(stats),
        caption="Queues",
        empty="No task waits.",
    )
    now = live("now", viewer.page("/"), h.div(".tiles")[counts], panel("Queues", queues))
    return page(request, "Overview", heading("Overview"), now, screen="overview")


def _queues(stats: StatsView) -> Iterator[TableRow]:
    for queue in stats.queues:
        if queue.depth or queue.paused:
            yield TableRow(
                [
                    queue.model,
                    queue.priority.value,
                    number(queue.depth),
                    duration(queue.oldest_s) if queue.depth else "",
                    badge("paused") if queue.paused else "",
                ]
            )
