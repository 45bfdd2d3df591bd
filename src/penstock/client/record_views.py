"""Answers of the server about why a task waits, stored uploads, lists of batches, and the server itself."""

from typing import Any

from msgspec import field

from penstock.client.operator_views import Worker
from penstock.client.views import Batch, View


class Ahead(View, frozen=True):
    """The tasks of the same model that wait and come before; `device_s` is None while none has been measured."""

    tasks: int
    device_s: float | None = None


class Blocker(View, frozen=True):
    """Something that a task waits for: until when, or for which other task, if that is known."""

    code: str
    detail: str
    until: str | None = None
    task_id: str | None = None


class Explanation(View, frozen=True):
    """Why a task is not done yet. `workers` are ready and serve its model; `eta_s` is None if nobody can tell."""

    task_id: str
    status: str
    stage: str
    ahead: Ahead
    queue_position: int | None = None
    workers: tuple[Worker, ...] = ()
    blockers: tuple[Blocker, ...] = ()
    eta_s: float | None = None


class Size(View, frozen=True):
    """The size of an image in pixels."""

    width: int
    height: int


class Quote(View, frozen=True):
    """What a submit would lead to. `run_device_s` is the device time of the task itself, `eta_s` in how many seconds
    it should be done: None if nobody can tell. A size is None of what is no image, or is not fetched for a quote."""

    model: str
    priority: str
    queue_position: int
    ahead: Ahead
    run_device_s: float | None = None
    eta_s: float | None = None
    input: Size | None = None
    output: Size | None = None


class StoredUpload(View, frozen=True):
    """An upload as the server knows it. `expires_at` is None while the number `tasks` of tasks use it."""

    upload_id: str
    status: str
    size: int
    content_type: str
    created_at: str
    sha256: str | None = None
    tasks: int = 0
    name: str | None = None
    expires_at: str | None = None


class BatchPage(View, frozen=True):
    """A page of a list of batches."""

    data: tuple[Batch, ...]
    next_cursor: str | None = None


class Readiness(View, frozen=True):
    """Whether a server can work: `status` is `ready`, or `not_ready` with the reason in `detail`. `workers` counts
    those that are READY, and `warnings` name what delays tasks."""

    status: str
    detail: str = ""
    workers: int = 0
    warnings: tuple[str, ...] = ()


class ServerSettings(View, frozen=True):
    """The version of a server, and its settings by section and name, without secrets."""

    version: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
