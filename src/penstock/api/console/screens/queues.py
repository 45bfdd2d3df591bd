"""The queues: what waits for each model, by priority, and the acts of operators on it."""

from collections.abc import Iterator, Sequence
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

COLUMNS = ("Priority", Column("Waiting", True), Column("Oldest", True), Column("Device time", True), "State", "")


@get("/queues", opt=READ | OF_ANY_TENANT)
async def show_queues(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show a panel for each model: those in whose queues tasks wait come first."""
    viewer = viewer_of(request)
    queues = (await operations.queues(services)).data
    models = [(model, tuple(own)) for model, own in groupby(queues, key=lambda queue: queue.model)]
    models.sort(key=lambda one: -sum(queue.depth for queue in one[1]))
    panels = [_panel(model, own, viewer) for model, own in models]
    under = "Waiting tasks by model and priority. Running tasks are shown with their workers."
    shown = live("queues", viewer.page("/queues"), panels or h.div(".empty")["No model is served."])
    return page(request, "Queues", heading("Queues", under=under), shown, screen="queues")


def _panel(model: str, queues: Sequence[QueueView], viewer: Viewer) -> h.Element:
    rows = table(COLUMNS, _rows(model, queues, viewer), caption=f"Queues of {model}")
    return panel(model, rows, acts=_acts(model, queues, viewer))


def _rows(model: str, queues: Sequence[QueueView], viewer: Viewer) -> Iterator[TableRow]:
    for queue in queues:
        yield TableRow(
            [
                queue.priority.capitalize(),
                number(queue.depth),
                duration(queue.oldest_s) if queue.depth else "–",
                duration(queue.device_s) if queue.depth else "–",
                _state(queue),
                h.div(".acts")[_switch(model, queues, viewer, queue)],
            ],
            link=viewer.page("/tasks", status="PENDING", model=model, priority=queue.priority.value),
            id=f"{model} {queue.priority}",
        )


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
