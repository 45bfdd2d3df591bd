"""The shapes of batches in requests and answers."""

from typing import Annotated, Any

from msgspec import Meta, field

from penstock.api.schemas.render import moment, progress_view, webhook_view
from penstock.api.schemas.tasks import (
    ErrorView,
    Moment,
    NoteView,
    ProgressView,
    ResponseBody,
    ResultFileView,
    WebhookView,
)
from penstock.core.batch import Batch, BatchState
from penstock.core.task import Progress, State

JSONL = ("application/jsonl", "application/x-ndjson")
"""Media types of a file of lines; an answer has the first unless the client prefers the other."""


class BatchLinksView(ResponseBody, frozen=True):
    """Links to what can be done with a batch, relative to the server."""

    self_: str = field(name="self")
    cancel: str
    results: str
    tasks: str


class CountsView(ResponseBody, frozen=True):
    """Numbers of lines: those `waiting` are not tasks yet, those `queued` and `running` are, the others have ended."""

    total: int
    waiting: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


class BatchView(ResponseBody, frozen=True):
    """A batch with its progress."""

    batch_id: str
    status: BatchState
    client_request_id: str | None
    created_at: Moment
    finished_at: Moment | None
    expires_at: Moment | None
    counts: CountsView
    progress: ProgressView
    eta_s: Annotated[
        float | None,
        Meta(description="Seconds until it should have ended, at the pace so far; null while no line has ended"),
    ]
    defaults: dict[str, Any]
    metadata: dict[str, str]
    webhook: WebhookView | None
    links: BatchLinksView


class BatchList(ResponseBody, frozen=True):
    """A page of batches, newest first; `next_cursor` continues the list."""

    data: tuple[BatchView, ...]
    has_more: bool
    next_cursor: str | None


class LineResultView(ResponseBody, frozen=True):
    """The result of a line; all but `url` is null when its record was deleted after its retention."""

    url: str
    content_type: str | None
    size: int | None
    sha256: str | None
    width: int | None
    height: int | None
    data: dict[str, Any] | None
    files: tuple[ResultFileView, ...]
    notes: tuple[NoteView, ...]


class LineView(ResponseBody, frozen=True):
    """How a line has ended; `task_id` is null if it never became a task."""

    line: int
    custom_id: str
    task_id: str | None
    status: State
    result: LineResultView | None
    error: ErrorView | None


def batch_view(batch: Batch, now_ms: int | None = None) -> BatchView:
    """Return everything the store knows of a batch; with an estimate if the time (ms since 1970) is given."""
    plan, counts = batch.plan, batch.counts
    progress = progress_view(Progress(done=batch.ended, total=batch.total, unit="lines"))
    assert progress is not None  # noqa: S101  there is at least one line
    return BatchView(
        batch_id=batch.id,
        status=batch.state,
        client_request_id=plan.client_request_id,
        created_at=moment(batch.created),
        finished_at=None if batch.finished is None else moment(batch.finished),
        expires_at=None if batch.expires is None else moment(batch.expires),
        counts=CountsView(
            total=batch.total,
            waiting=batch.total - batch.fed,
            queued=counts[State.PENDING],
            running=counts[State.RUNNING],
            succeeded=counts[State.SUCCESS],
            failed=counts[State.FAILED],
            canceled=counts[State.CANCELED],
            expired=counts[State.EXPIRED],
        ),
        progress=progress,
        eta_s=None if now_ms is None else _eta_s(batch, now_ms),
        defaults=plan.defaults,
        metadata=plan.metadata,
        webhook=webhook_view("batch", plan.webhook, batch.events) if plan.webhook else None,
        links=batch_links(batch.id),
    )


def batch_links(batch_id: str) -> BatchLinksView:
    """Return the links of one batch."""
    self_ = f"/v1/batches/{batch_id}"
    tasks = f"/v1/tasks?batch_id={batch_id}"
    return BatchLinksView(self_=self_, cancel=f"{self_}/cancel", results=f"{self_}/results", tasks=tasks)


def batch_version(batch: Batch) -> str:
    """Return a version that changes with everything of a batch that changes by itself."""
    events = [f"{sum(e.epoch for e in batch.events)}-{sum(e.tries for e in batch.events)}"] if batch.events else []
    return ".".join(map(str, [batch.state, batch.fed, *(batch.counts[state] for state in State), *events]))


def _eta_s(batch: Batch, now_ms: int) -> float | None:
    if batch.state.is_final or not batch.ended:
        return None
    return round((batch.total - batch.ended) * max(0, now_ms - batch.created) / batch.ended / 1000, 3)
