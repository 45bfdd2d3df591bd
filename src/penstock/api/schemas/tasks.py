"""What clients see of tasks: every member is always there, but for the `token` of links."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from penstock.core.task import Priority, Reuse, Stage, State
from penstock.pixels.notes import NOTES

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, UTC, to the millisecond."""


class ResponseBody(Struct, frozen=True, kw_only=True):
    """Base of everything a client sees."""


class LinksView(ResponseBody, frozen=True):
    """Links to what can be done with a task, relative to the server. `token` is there where the submit asked for one,
    and where it was sent: with `?token=` behind them, `self`, `events` and `result` need no key."""

    self_: str = field(name="self")
    cancel: str
    events: str
    result: str
    token: str | UnsetType = UNSET


class ProgressView(ResponseBody, frozen=True):
    """How much of the device work is done; `ratio` is done / total."""

    ratio: float
    unit: str
    done: int
    total: int


class ErrorView(ResponseBody, frozen=True):
    """Why an attempt or a task has failed; `code` is one of the codes of the API's errors."""

    code: str
    message: str
    retryable: bool


class AttemptView(ResponseBody, frozen=True):
    """One attempt of a worker to run the task."""

    n: int
    worker: str
    device: str
    started_at: Moment
    ended_at: Moment
    outcome: str
    error: ErrorView | None


class ResultFileView(ResponseBody, frozen=True):
    """A file of a result, which `url` serves; its `name` is that of no other. `size` is in bytes, `width` and `height`
    are in pixels."""

    name: str
    url: str
    content_type: str
    size: int
    sha256: str
    width: int | None
    height: int | None


NoteView = Annotated[str, Meta(extra_json_schema={"enum": list(NOTES)})]


class ResultView(ResponseBody, frozen=True):
    """The result: files, plain data, or both. What stands beside `files` is about the first of them, or about the data
    where there is none. Every read makes a new signed `url` of each. `notes` say what was done to the images of the
    input: turned upright, a colour profile converted or ignored, colours filled in under transparency, the first frame
    taken, metadata stripped, a truncated file accepted; and that the result was computed once more, in fp32, or that
    its score is below what was asked for."""

    s3_key: str | None
    size: int | None
    url: str
    sha256: str | None
    content_type: str
    width: int | None
    height: int | None
    data: dict[str, Any] | None
    files: tuple[ResultFileView, ...]
    notes: tuple[NoteView, ...]


Eta = Annotated[
    float | None,
    Meta(
        description="Seconds until it should be done: the device time of the tasks that wait ahead of it (the mean of "
        "the model's last tasks) shared by the workers that are READY, and its own, by its size. Other models' tasks, "
        "download and upload are not in it. null while no task of the model has been measured or no worker serves it"
    ),
]


class SubmittedView(ResponseBody, frozen=True):
    """The answer to a submit."""

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
    """One attempt to deliver an event."""

    at: Moment
    ms: int
    outcome: str
    code: int | None


class EventView(ResponseBody, frozen=True):
    """An event that is sent to the webhook; `deliveries` has the latest 20 attempts."""

    type: str
    sequence: int
    status: Literal["waiting", "delivered", "failed"]
    deliveries: tuple[DeliveryView, ...]
    next_delivery_at: Moment | None


class WebhookView(ResponseBody, frozen=True):
    """The webhook of a task or a batch, and how its deliveries went."""

    url: str
    events: tuple[str, ...]
    log: tuple[EventView, ...]


class TaskView(ResponseBody, frozen=True):
    """A task with its state, timing and result. `model_guessed` names the members of the definition of its model that
    nobody had confirmed when it was submitted: then its result may mean something else. `execution.model_digest` is
    there where the worker had other files of the model than `model_digest` says."""

    task_id: str
    client_request_id: str | None
    batch_id: str | None
    custom_id: str | None
    model: str
    model_version: str | None
    model_digest: str | None
    model_guessed: tuple[str, ...]
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
    """The tasks of the same model that wait and come before; `device_s` is null while none has been measured."""

    tasks: int
    device_s: float | None


class SizeView(ResponseBody, frozen=True):
    """The size of an image in pixels."""

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
    """The answer of every act on matching tasks: how many `matched`, and the ids of the first 100. With `has_more`
    there may be others: go on with `cursor=next_cursor`."""

    matched: int
    task_ids: tuple[str, ...]
    dry_run: bool
    has_more: bool
    next_cursor: str | None


class RetriedView(BulkView, frozen=True):
    """How many of the matching tasks were queued again."""

    retried: int


class CanceledView(BulkView, frozen=True):
    """How many of the matching tasks were canceled."""

    canceled: int


class DeletedView(BulkView, frozen=True):
    """How many of the matching tasks were deleted."""

    deleted: int


class TaskList(ResponseBody, frozen=True):
    """A page of tasks, newest first; `next_cursor` continues the list."""

    data: tuple[TaskView, ...]
    has_more: bool
    next_cursor: str | None
