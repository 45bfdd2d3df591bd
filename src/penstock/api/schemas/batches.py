"""Batches on the wire: what clients send and what they see. A line is a task whose members may all be left out."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType, field

from penstock.api.schemas.render import moment, progress_view, webhook_view
from penstock.api.schemas.tasks import (
    ClientRequestId,
    ErrorView,
    Moment,
    ProgressView,
    RequestBody,
    ResponseBody,
    TaskRequest,
    WebhookView,
)
from penstock.core.batch import Batch, BatchState
from penstock.core.task import BatchEventType, Progress, State

MAX_INLINE = 1_000
MAX_LINES = 50_000

JSONL = ("application/jsonl", "application/x-ndjson")
"""Media types of a file of lines; we say the first."""

CustomId = Annotated[str, Meta(min_length=1, max_length=128, description="the client's name for the line")]

_MEMBERS = [
    (member.name, member.type | UnsetType, UNSET)
    for member in msgspec.structs.fields(TaskRequest)
    if member.name != "client_request_id"
]

BatchDefaults: Any = msgspec.defstruct(
    "BatchDefaults", _MEMBERS, bases=(RequestBody,), frozen=True, kw_only=True, module=__name__
)
BatchDefaults.__doc__ = "Members of every line that does not have them itself; a member is taken whole, not merged."

BatchLine: Any = msgspec.defstruct(
    "BatchLine", [("custom_id", CustomId), *_MEMBERS], bases=(RequestBody,), frozen=True, kw_only=True, module=__name__
)
BatchLine.__doc__ = (
    "One line: a task, and its `custom_id`, which no other line of the batch has. What it does not say is as the "
    "defaults of the batch have it; `priority` is low unless one of them says otherwise."
)


class BatchWebhookRequest(RequestBody, frozen=True):
    """Whom to tell that a batch has ended, by Standard Webhooks 1.0."""

    url: Annotated[str, Meta(min_length=1, description="https URL that takes a signed POST")]
    events: Annotated[tuple[BatchEventType, ...], Meta(min_length=1, description="default: both")] = (
        "completed",
        "canceled",
    )


class BatchOptions(RequestBody, frozen=True):
    """What is said of a batch as a whole. The same `client_request_id` with the same lines names the same batch."""

    defaults: Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/components/schemas/BatchDefaults"})] = field(
        default_factory=dict
    )
    client_request_id: ClientRequestId | None = None
    metadata: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
    ] = field(default_factory=dict)
    webhook: BatchWebhookRequest | None = None
    result_ttl_s: (
        Annotated[int, Meta(ge=60, le=604_800, description="the batch is deleted this long after its end")] | None
    ) = None


class BatchRequest(BatchOptions, frozen=True):
    """A batch whose lines are here, or are those of an uploaded JSONL file: one of the two."""

    lines: (
        Annotated[
            tuple[Annotated[Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/BatchLine"})], ...],
            Meta(min_length=1, max_length=MAX_INLINE),
        ]
        | UnsetType
    ) = UNSET
    upload_id: (
        Annotated[str, Meta(pattern=r"^upl_[0-9a-f]{32}(?!\n)$", description="of POST /v1/uploads")] | UnsetType
    ) = UNSET


class BatchLinksView(ResponseBody, frozen=True):
    """Where to go on from here, relative to the server."""

    self_: str = field(name="self")
    cancel: str
    results: str
    tasks: str


class CountsView(ResponseBody, frozen=True):
    """Lines: `waiting` are not tasks yet, `queued` and `running` are, and the others have ended."""

    total: int
    waiting: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


class BatchView(ResponseBody, frozen=True):
    """A batch."""

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
    """Batches, newest first; `next_cursor` continues the list."""

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


class LineView(ResponseBody, frozen=True):
    """How a line has ended; `task_id` is null if it never became a task."""

    line: int
    custom_id: str
    task_id: str | None
    status: State
    result: LineResultView | None
    error: ErrorView | None


def batch_view(batch: Batch, now_ms: int | None = None) -> BatchView:
    """Everything the store knows of a batch; with an estimate if the time is given."""
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
    """Of one batch."""
    self_ = f"/v1/batches/{batch_id}"
    tasks = f"/v1/tasks?batch_id={batch_id}"
    return BatchLinksView(self_=self_, cancel=f"{self_}/cancel", results=f"{self_}/results", tasks=tasks)


def batch_version(batch: Batch) -> str:
    """Changes with everything of a batch that changes by itself."""
    told = [f"{sum(e.epoch for e in batch.events)}-{sum(e.tries for e in batch.events)}"] if batch.events else []
    return ".".join(map(str, [batch.state, batch.fed, *(batch.counts[state] for state in State), *told]))


def _eta_s(batch: Batch, now_ms: int) -> float | None:
    if batch.state.is_final or not batch.ended:
        return None
    return round((batch.total - batch.ended) * max(0, now_ms - batch.created) / batch.ended / 1000, 3)
