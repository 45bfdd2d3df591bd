"""The batches: how far each is, its lines by how they ended, and what one can do with it."""

from collections.abc import Iterator
from typing import Annotated

import htpy as h
import msgspec
from litestar import Response, get
from litestar.params import FromPath, QueryParameter

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_button
from penstock.api.console.page.panels import bar, heading, live, pages, panel, tile
from penstock.api.console.page.tables import Column, TableRow, facts, table
from penstock.api.console.page.words import badge, between, copyable, duration, number, when
from penstock.api.console.parts.webhook import deliveries
from penstock.api.console.reads import accounts
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.schemas.batches import BatchView
from penstock.api.services import ServicesDep

A_PAGE = 50
COLUMNS = ("Batch", "Status", "Progress", Column("Lines", True), Column("Failed", True), "Made", "Ends in")
STATES = {
    "queued": "PENDING",
    "running": "RUNNING",
    "succeeded": "SUCCESS",
    "failed": "FAILED",
    "canceled": "CANCELED",
    "expired": "EXPIRED",
}
"""The counts of lines that are tasks, each with the state of these."""
LIVE = ("RUNNING", "CANCELING")


@get("/batches", opt=READ | OF_ANY_TENANT)
async def show_batches(
    request: ApiRequest,
    services: ServicesDep,
    cursor: Annotated[str | None, QueryParameter(format="cursor")] = None,
) -> Response[str]:
    """Show a page of the batches, the newest first."""
    viewer = viewer_of(request)
    found = await accounts.listed_batches(request, services, limit=A_PAGE, cursor=cursor)
    rows = [_row(batch, viewer) for batch in found.data]
    empty = "No batch yet: send many tasks in one request to /v1/batches, or by penstock submit --batch."
    shown = table(COLUMNS, rows, caption="Batches", empty=empty)
    query: dict[str, object] = {"cursor": cursor}
    return page(
        request,
        "Batches",
        heading("Batches"),
        live("batches", viewer.page("/batches", **query), shown),
        pages(viewer, "/batches", query, found.next_cursor),
        screen="batches",
    )


@get("/batches/{batch_id:str}", opt=READ | OF_ANY_TENANT)
async def show_batch(request: ApiRequest, services: ServicesDep, batch_id: FromPath[str]) -> Response[str]:
    """Show one batch."""
    viewer = viewer_of(request)
    batch = await accounts.batch(batch_id, request, services)
    now = live(
        "batch",
        viewer.page(f"/batches/{batch_id}"),
        _head(batch, viewer),
        panel("Lines", bar(batch.progress.ratio, "lines that have ended"), _counts(batch, viewer)),
        panel("About", facts(_facts(batch))),
        deliveries(viewer, batch.webhook, f"/batches/{batch_id}"),
        every_s=2 if batch.status in LIVE else 0,
    )
    return page(request, "Batch", now, screen="batches")


def _row(batch: BatchView, viewer: Viewer) -> TableRow:
    link = viewer.page(f"/batches/{batch.batch_id}")
    return TableRow(
        [
            h.a(".id", href=link)[batch.batch_id],
            badge(batch.status),
            bar(batch.progress.ratio, f"progress of {batch.batch_id}"),
            number(batch.counts.total),
            number(batch.counts.failed) if batch.counts.failed else "–",
            when(batch.created_at),
            duration(batch.eta_s) if batch.status in LIVE else "–",
        ],
        link=link,
        id=batch.batch_id,
    )


def _head(batch: BatchView, viewer: Viewer) -> h.Element:
    return heading(
        ["Batch ", badge(batch.status)],
        *_acts(batch, viewer),
        h.a(".button", href=viewer.api(f"/batches/{batch.batch_id}/results"), download=f"{batch.batch_id}.jsonl")[
            "Results"
        ],
        under=copyable(batch.batch_id),
    )


def _acts(batch: BatchView, viewer: Viewer) -> Iterator[h.Node]:
    link, counts = viewer.api(f"/batches/{batch.batch_id}"), batch.counts
    if counts.failed:
        retry = Act(
            link=viewer.api("/tasks/retry", status="FAILED", batch_id=batch.batch_id),
            scope="submit",
            counted=True,
            confirm="Run the failed lines of this batch again?",
            done="Queued {retried} tasks again",
        )
        yield act_button(viewer, "Retry failed lines", retry, look="primary")
    if batch.status == "RUNNING":
        cancel = Act(
            link=viewer.api(f"/batches/{batch.batch_id}/cancel"),
            scope="submit",
            confirm="Cancel this batch?",
            confirm_text=f"{number(counts.total - batch.progress.done)} lines have not ended. Results that are there "
            "are kept.",
            done="None of its lines becomes a task any more",
        )
        yield act_button(viewer, "Cancel", cancel, look="danger")
    if batch.status not in LIVE:
        delete = Act(
            link=link,
            method="DELETE",
            scope="submit",
            confirm="Delete this batch?",
            confirm_text="Its tasks are kept as long as any others.",
            then=viewer.page("/batches"),
        )
        yield act_button(viewer, "Delete", delete, look="danger")


def _counts(batch: BatchView, viewer: Viewer) -> h.Element:
    """Return a tile for each count, which leads to the tasks that it counts."""
    counts: dict[str, int] = msgspec.structs.asdict(batch.counts)
    return h.div(".tiles")[
        [
            tile(name.capitalize(), number(count), link=_tasks(batch, name, viewer) if count else "")
            for name, count in counts.items()
            if count or name in ("succeeded", "failed")
        ]
    ]


def _tasks(batch: BatchView, name: str, viewer: Viewer) -> str:
    if name == "total":
        return viewer.page("/tasks", batch_id=batch.batch_id)
    return viewer.page("/tasks", batch_id=batch.batch_id, status=STATES[name]) if name in STATES else ""


def _facts(batch: BatchView) -> Iterator[tuple[str, h.Node]]:
    yield "Made", when(batch.created_at)
    yield "Ended", when(batch.finished_at) if batch.finished_at else ""
    yield "Took", duration(between(batch.created_at, batch.finished_at)) if batch.finished_at else ""
    yield "Ends in", duration(batch.eta_s) if batch.eta_s is not None and batch.status in LIVE else ""
    yield "Kept until", when(batch.expires_at) if batch.expires_at else ""
    yield "Request id", h.code[batch.client_request_id] if batch.client_request_id else ""
    yield "Defaults", h.code[msgspec.json.encode(batch.defaults).decode()] if batch.defaults else ""
    yield from batch.metadata.items()
