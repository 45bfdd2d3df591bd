"""The queues: what waits for each model, by priority, and the acts of operators on it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import htpy as h
from litestar import Response, get

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_button
from penstock.api.console.page.panels import heading, live, panel
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import badge, duration, number, when
from penstock.api.console.reads import operations
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.schemas.operators import QueueView
from penstock.api.services import ServicesDep

COLUMNS = (
    "Priority",
    Column("Waiting", True),
    Column("Oldest", True),
    Column("Device time", True),
    "By key",
    "State",
    "",
)
MOST_KEYS = 4
"""Of a queue that are shown, those with the most tasks."""
Shares = Mapping[str, Mapping[str, int]]


@get("/queues", opt=READ | OF_ANY_TENANT)
async def show_queues(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show a panel for each model: those in whose queues tasks wait come first."""
    viewer = viewer_of(request)
    queues = (await operations.queues(request, services)).data
    models = [(model, tuple(own)) for model, own in groupby(queues, key=lambda queue: queue.model)]
    models.sort(key=lambda one: -sum(queue.depth for queue in one[1]))
    shares = await operations.shares(request, services, queues)
    panels = [_panel(model, own, shares, viewer) for model, own in models]
    under = "Waiting tasks by model and priority. Running tasks are shown with their workers."
    shown = live("queues", viewer.page("/queues"), panels or h.div(".empty")["No model is served."])
    return page(request, "Queues", heading("Queues", under=under), shown, screen="queues")


def _panel(model: str, queues: Sequence[QueueView], shares: Shares, viewer: Viewer) -> h.Element:
    rows = table(COLUMNS, _rows(model, queues, shares, viewer), caption=f"Queues of {model}")
    return panel(model, rows, acts=_acts(model, queues, viewer))


def _rows(model: str, queues: Sequence[QueueView], shares: Shares, viewer: Viewer) -> Iterator[TableRow]:
    for queue in queues:
        yield TableRow(
            [
                queue.priority.capitalize(),
                number(queue.depth),
                duration(queue.oldest_s) if queue.depth else "–",
                duration(queue.device_s) if queue.depth else "–",
                _shares(queue, shares.get(f"{model}:{queue.priority}", {}), viewer),
                _state(queue),
                h.div(".acts")[_switch(model, queues, viewer, queue)],
            ],
            link=viewer.page("/tasks", status="PENDING", model=model, priority=queue.priority.value),
            id=f"{model} {queue.priority}",
        )


def _shares(queue: QueueView, shares: Mapping[str, int], viewer: Viewer) -> h.Node:
    """The keys whose tasks wait, those with the most first; each leads to its tasks."""
    largest = sorted(shares.items(), key=lambda one: -one[1])
    shown: list[h.Node] = [_share(queue, flow, count, viewer) for flow, count in largest[:MOST_KEYS]]
    return [*shown, h.div(".under")[f"and {len(largest) - MOST_KEYS} more"] if largest[MOST_KEYS:] else None]


def _share(queue: QueueView, flow: str, count: int, viewer: Viewer) -> h.Element:
    tenant, _, key = flow.partition("/")
    is_own = viewer.caller is not None and tenant == viewer.caller.tenant
    query = {"status": "PENDING", "model": queue.model, "priority": queue.priority.value, "key": key}
    link = viewer.page("/tasks", **query, **({} if is_own else {"tenant": tenant}))
    return h.div[h.a(href=link)[key if is_own else flow], f" {number(count)}, {count / max(queue.depth, count):.0%}"]


def _state(queue: QueueView) -> h.Node:
    if queue.paused is None:
        return badge("open", "good")
    return [badge("paused"), " by ", h.b[queue.paused.by], " ", when(queue.paused.since)]


def _acts(model: str, queues: Sequence[QueueView], viewer: Viewer) -> list[h.Node]:
    purge = Act(
        link=viewer.api(f"/queues/{model}/purge"),
        scope="operate",
        confirm=f"Cancel all waiting tasks of {model}?",
        confirm_text="Running tasks go on. Tasks that are canceled can be retried one by one.",
        counted=True,
        done="Canceled {canceled} tasks",
    )
    is_empty = not any(queue.depth for queue in queues)
    return [_switch(model, queues, viewer), None if is_empty else act_button(viewer, "Purge", purge, look="danger")]


def _switch(model: str, queues: Sequence[QueueView], viewer: Viewer, queue: QueueView | None = None) -> h.Node:
    """Pauses or resumes one queue of the model, or all."""
    of_one = {"priority": queue.priority.value} if queue else {}
    what, mine = ("", (queue,)) if queue else (" all", queues)
    if all(one.paused for one in mine):
        resume = Act(link=viewer.api(f"/queues/{model}/resume", **of_one), scope="operate", done=f"{model} goes on")
        return act_button(viewer, f"Resume{what}", resume, look="primary")
    pause = Act(
        link=viewer.api(f"/queues/{model}/pause", **of_one),
        scope="operate",
        done=f"{model} is paused: no waiting task starts",
    )
    return act_button(viewer, f"Pause{what}", pause, look="quiet" if queue else "")
