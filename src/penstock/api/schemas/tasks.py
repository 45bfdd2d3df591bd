"""The wire: what clients send (unknown members refused) and what they see (every member always there)."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import force_setattr

from penstock.core.task import Format, Priority, Reuse, Stage, State, TaskEventType

# --- in -------------------------------------------------------------------------------------------------------

ClientRequestId = Annotated[
    str,
    Meta(min_length=1, max_length=128, pattern=r"^[!-~]+(?!\n)$", description="1 to 128 visible ASCII characters"),
]
IMAGE_URL = "http(s) URL, data: URI of a PNG, JPEG or WebP in any form, or s3://bucket/key where that is allowed"


class RequestBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything a client sends."""


class InputRequest(RequestBody, frozen=True):
    """Where the image is: one of the two."""

    image_url: (
        Annotated[str, Meta(min_length=1, description=IMAGE_URL, extra_json_schema={"format": "uri"})] | UnsetType
    ) = UNSET
    upload_id: (
        Annotated[str, Meta(pattern=r"^upl_[0-9a-f]{32}(?!\n)$", description="of POST /v1/uploads")] | UnsetType
    ) = UNSET


class OutputRequest(RequestBody, frozen=True):
    """How a result image is written; `quality` is of JPEG and WebP, jpg is another word for jpeg. PNG is always
    lossless, `lossless` makes WebP so: about as small, and up to three times as fast to write."""

    format: Literal[Format, "jpg"] = "png"
    quality: Annotated[int, Meta(ge=1, le=100)] = 90
    lossless: bool = False

    def __post_init__(self) -> None:
        """Whoever reads it finds one word for one thing."""
        if self.format == "jpg":
            force_setattr(self, "format", "jpeg")


class RetryRequest(RequestBody, frozen=True):
    """How often a transient failure is tried; at most as often as the operator allows."""

    max_attempts: Annotated[int, Meta(ge=1, le=10)]


class WebhookRequest(RequestBody, frozen=True):
    """Whom to tell what happens to the task, by Standard Webhooks 1.0."""

    url: Annotated[
        str,
        Meta(min_length=1, description="https URL that takes a signed POST", extra_json_schema={"format": "uri"}),
    ]
    events: Annotated[tuple[TaskEventType, ...], Meta(min_length=1, description="default: every end")] = (
        "succeeded",
        "failed",
        "canceled",
        "expired",
    )


class TaskRequest(RequestBody, frozen=True):
    """A task to run. The same `client_request_id` with the same body names the same task."""

    model: Annotated[str, Meta(min_length=1, max_length=128)]
    input: InputRequest
    params: dict[str, Any] = {}
    output: OutputRequest = OutputRequest()
    priority: Priority = Priority.NORMAL
    client_request_id: ClientRequestId | None = None
    metadata: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
    ] = {}
    start_within_s: (
        Annotated[float, Meta(ge=1, le=604_800, description="not started by then: the task ends as EXPIRED")] | None
    ) = None
    finish_within_s: (
        Annotated[float, Meta(ge=5, le=604_800, description="from submit to end; the twin of Cancel-After")] | None
    ) = None
    timeout_s: (
        Annotated[
            float,
            Meta(
                ge=1,
                le=86_400,
                description="of the work of one attempt, not of its waits behind others; at most worker.task_timeout_s",
            ),
        ]
        | None
    ) = None
    result_ttl_s: (
        Annotated[int, Meta(ge=60, le=604_800, description="task and result are deleted this long after its end")]
        | None
    ) = None
    retry: RetryRequest | None = None
    webhook: WebhookRequest | None = None
    reuse: Annotated[
        bool, Meta(description="false: run it even if an equal task has a result; so does Cache-Control: no-cache")
    ] = True


# --- out ------------------------------------------------------------------------------------------------------

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, UTC, to the millisecond."""


class ResponseBody(Struct, frozen=True, kw_only=True):
    """Base of everything a client sees."""


class LinksView(ResponseBody, frozen=True):
    """Where to go on from here, relative to the server."""

    self_: str = field(name="self")
    cancel: str
    events: str
    result: str


class ProgressView(ResponseBody, frozen=True):
    """Device work done; `ratio` is done / total."""

    ratio: float
    unit: str
    done: int
    total: int


class ErrorView(ResponseBody, frozen=True):
    """Why an attempt or a task failed; `code` is one of the codes of the API's errors."""

    code: str
    message: str
    retryable: bool


class AttemptView(ResponseBody, frozen=True):
    """One go at the task by one worker."""

    n: int
    worker: str
    device: str
    started_at: Moment
    ended_at: Moment
    outcome: str
    error: ErrorView | None


class ResultView(ResponseBody, frozen=True):
    """A file (`url` serves it), plain data, or both. A signed `url` is made anew by every read."""

    s3_key: str | None
    size: int | None
    url: str
    sha256: str | None
    content_type: str
    width: int | None
    height: int | None
    data: dict[str, Any] | None


Eta = Annotated[
    float | None,
    Meta(
        description="Seconds until it should be done: the device time of the tasks that wait ahead of it (the mean of "
        "the model's last tasks) shared by the workers that are READY, and its own, by its size. Other models' tasks, "
        "download and upload are not in it. null while no task of the model has been measured or no worker serves it"
    ),
]


class SubmittedView(ResponseBody, frozen=True):
    """Answer to a submit."""

    task_id: str
    status: State
    queue_position: int | None
    eta_s: Eta
    links: LinksView


ReuseView = Annotated[
    Reuse,
    Meta(
        description="Whose run gives the result. miss: its own; coalesced: that of an equal task which it waits for; "
        "hit: that of one which had ended"
    ),
]


class DeliveryView(ResponseBody, frozen=True):
    """One try to deliver an event."""

    at: Moment
    ms: int
    outcome: str
    code: int | None


class EventView(ResponseBody, frozen=True):
    """An event that the webhook is told; `deliveries` are the latest 20 tries."""

    type: str
    sequence: int
    status: Literal["waiting", "delivered", "failed"]
    deliveries: tuple[DeliveryView, ...]
    next_delivery_at: Moment | None


class WebhookView(ResponseBody, frozen=True):
    """The webhook of a task or a batch, and how the deliveries to it went."""

    url: str
    events: tuple[str, ...]
    log: tuple[EventView, ...]


class TaskView(ResponseBody, frozen=True):
    """A task."""

    task_id: str
    client_request_id: str | None
    batch_id: str | None
    custom_id: str | None
    model: str
    model_version: str | None
    status: State
    stage: Stage
    priority: Priority
    progress: ProgressView | None
    queue_position: int | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    expires_at: Moment | None
    start_by: Moment | None
    deadline: Moment | None
    reuse: ReuseView
    timing: dict[str, float]
    execution: dict[str, Any]
    attempts: tuple[AttemptView, ...]
    result: ResultView | None
    error: ErrorView | None
    metadata: dict[str, str]
    webhook: WebhookView | None
    links: LinksView


class AheadView(ResponseBody, frozen=True):
    """Tasks of the same model that wait and are served before; `device_s` is null while none has been measured."""

    tasks: int
    device_s: float | None


class SizeView(ResponseBody, frozen=True):
    """Of an image, in pixels."""

    width: int
    height: int


class QuoteView(ResponseBody, frozen=True):
    """What a submit would lead to. `run_device_s` is the device time of the task itself; an image behind a URL is not
    fetched for a quote: `input` and `output` are null, and its size is taken to be one megapixel."""

    model: str
    priority: Priority
    queue_position: int
    ahead: AheadView
    run_device_s: float | None
    eta_s: Eta
    input: SizeView | None
    output: SizeView | None


class BulkView(ResponseBody, frozen=True):
    """What every act on all matching tasks answers: how many tasks `matched`, and the first 100 of them; with
    `has_more` there may be others: go on with `cursor=next_cursor`."""

    matched: int
    task_ids: tuple[str, ...]
    dry_run: bool
    has_more: bool
    next_cursor: str | None


class RetriedView(BulkView, frozen=True):
    """How many of the tasks that matched were queued again."""

    retried: int


class CanceledView(BulkView, frozen=True):
    """How many of the tasks that matched were canceled."""

    canceled: int


class DeletedView(BulkView, frozen=True):
    """How many of the tasks that matched were deleted."""

    deleted: int


class TaskList(ResponseBody, frozen=True):
    """Tasks, newest first; `next_cursor` continues the list."""

    data: tuple[TaskView, ...]
    has_more: bool
    next_cursor: str | None
