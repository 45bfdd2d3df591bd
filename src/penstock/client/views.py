"""The answers of the server. Members that this version does not know are ignored, so that a newer server can be
used."""

from typing import Any

from msgspec import Struct

LIVE = ("PENDING", "RUNNING")
"""The statuses of a task that has not ended. Any other, even an unknown one, is an end."""


class View(Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Progress(View, frozen=True):
    """Device work done; `ratio` is done / total."""

    ratio: float
    unit: str
    done: int
    total: int


class Failure(View, frozen=True):
    """Why an attempt or a task failed; `code` is one of the closed list in docs/reference/errors.md."""

    code: str
    message: str
    retryable: bool


class Attempt(View, frozen=True):
    """One attempt of a worker at a task. Times are RFC 3339, UTC."""

    n: int
    worker: str
    device: str
    started_at: str
    ended_at: str
    outcome: str
    error: Failure | None = None


class ResultFile(View, frozen=True):
    """A file of a result: `size` in bytes, `sha256` in hex, `width` and `height` in pixels."""

    name: str
    url: str
    content_type: str
    size: int
    sha256: str
    width: int | None = None
    height: int | None = None


class Result(View, frozen=True):
    """Files, JSON `data`, or both. What stands beside `files` is about the first of them, or about the data where there
    is none. `notes` are words for what was done to the images of the input, such as `turned`."""

    url: str
    content_type: str
    s3_key: str | None = None
    size: int | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    data: dict[str, Any] | None = None
    files: tuple[ResultFile, ...] = ()
    notes: tuple[str, ...] = ()


class Upload(View, frozen=True):
    """Bytes that have been sent: a source for any number of tasks, until the server has not needed them for a day (or
    as its operator has it)."""

    upload_id: str
    size: int
    sha256: str


class Opened(View, frozen=True):
    """The URL that takes the bytes of an upload."""

    upload_id: str
    url: str
    method: str
    headers: dict[str, str]


class Links(View, frozen=True):
    """What the links of a task can do: the `token` reads it without a key."""

    token: str | None = None


class Submitted(View, frozen=True):
    """Answer to a submit. `eta_s` is in how many seconds it should be done, or None if nobody can tell; `replayed` says
    that an earlier submit with this `client_request_id` had made the task."""

    task_id: str
    status: str
    queue_position: int | None = None
    eta_s: float | None = None
    replayed: bool = False
    links: Links = Links()

    @property
    def token(self) -> str | None:
        """The token that reads the task without a key, as `?token=`; None unless the submit asked for one."""
        return self.links.token


class Delivery(View, frozen=True):
    """One try to deliver an event: when, how long it took, and how it went; `code` is the HTTP status, if one came."""

    at: str
    ms: int
    outcome: str
    code: int | None = None


class Event(View, frozen=True):
    """An event that is sent to a webhook; `status` is `waiting`, `delivered` or `failed`, and `deliveries` has the
    latest tries."""

    type: str
    sequence: int
    status: str
    deliveries: tuple[Delivery, ...] = ()
    next_delivery_at: str | None = None


class Webhook(View, frozen=True):
    """The webhook of a task or a batch: of which events it is told, and how their deliveries went."""

    url: str
    events: tuple[str, ...] = ()
    log: tuple[Event, ...] = ()


class Task(View, frozen=True):
    """A task as it was when it was read. `timing` is in ms by stage; moments are RFC 3339, UTC. `model_guessed` names
    what of the model is a guess that nobody has confirmed."""

    task_id: str
    model: str
    status: str
    stage: str
    priority: str
    created_at: str
    client_request_id: str | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    model_version: str | None = None
    model_digest: str | None = None
    model_guessed: tuple[str, ...] = ()
    progress: Progress | None = None
    queue_position: int | None = None
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    start_by: str | None = None
    deadline: str | None = None
    reuse: str = "miss"
    timing: dict[str, float] = {}
    execution: dict[str, Any] = {}
    attempts: tuple[Attempt, ...] = ()
    result: Result | None = None
    error: Failure | None = None
    metadata: dict[str, str] = {}
    webhook: Webhook | None = None

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self.status not in LIVE

    @property
    def succeeded(self) -> bool:
        """Whether the task has a result."""
        return self.status == "SUCCESS"


class Page(View, frozen=True):
    """A page of a list of tasks."""

    data: tuple[Task, ...]
    next_cursor: str | None = None


class Acted(View, frozen=True):
    """One answer of a request that acts on all tasks that match."""

    matched: int
    task_ids: tuple[str, ...]
    next_cursor: str | None = None
    canceled: int = 0
    retried: int = 0
    deleted: int = 0


class Hit(View, frozen=True):
    """How many tasks matched, how many were changed, and the ids of the first that matched."""

    matched: int
    changed: int
    task_ids: tuple[str, ...]

    def and_of(self, page: Acted) -> "Hit":
        """Returns the sum with one more answer."""
        changed = page.canceled + page.retried + page.deleted
        ids = self.task_ids or page.task_ids
        return Hit(matched=self.matched + page.matched, changed=self.changed + changed, task_ids=ids)


class Counts(View, frozen=True):
    """Lines of a batch: `waiting` are not tasks yet, `queued` and `running` are, and the others have ended."""

    total: int
    waiting: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    expired: int


class Batch(View, frozen=True):
    """A batch as it was when it was read; `eta_s` is at the pace so far."""

    batch_id: str
    status: str
    created_at: str
    counts: Counts
    client_request_id: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    progress: Progress | None = None
    eta_s: float | None = None
    metadata: dict[str, str] = {}
    webhook: Webhook | None = None

    @property
    def is_final(self) -> bool:
        """Whether every line has ended."""
        return self.status not in ("RUNNING", "CANCELING")


class LineResult(View, frozen=True):
    """The result of a line; all but `url` is None when its task was deleted after its retention."""

    url: str
    content_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    data: dict[str, Any] | None = None
    files: tuple[ResultFile, ...] = ()
    notes: tuple[str, ...] = ()


class Line(View, frozen=True):
    """How a line of a batch has ended; `task_id` is None if it never became a task."""

    line: int
    custom_id: str
    status: str
    task_id: str | None = None
    result: LineResult | None = None
    error: Failure | None = None
