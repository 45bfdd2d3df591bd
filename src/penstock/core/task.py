"""READ FIRST. The task: its states, the one table of allowed moves, and its record.

    submit ──▶ PENDING ──claim──▶ RUNNING ──complete──▶ SUCCESS
                 │  ▲                │ ├──fail·overrun──▶ FAILED
                 │  └─retry·release──┘ └────cancel─────▶ CANCELED
                 ├──reuse───────────▶ SUCCESS
                 ├──cancel──────────▶ CANCELED
                 └──expire·overrun──▶ EXPIRED
    FAILED, CANCELED, EXPIRED ──resubmit──▶ PENDING

Pure: nothing here knows Redis, HTTP or a device. The scripts in Redis know no names of states: each call passes them
the allowed moves of its verb, taken from `TRANSITIONS`.
"""

import os
import time
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, field

from penstock.core.events import Event
from penstock.core.request import Request
from penstock.errors import PenstockError

RECORD_VERSION = 5
"""The version of every record. A server or worker refuses to start where it finds records of another version."""


class State(StrEnum):
    """The six states of a task; `stage` and the code of its error tell more."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether the task has ended. Only `resubmit` leads out of such a state, and nothing leads out of SUCCESS."""
        return self not in (State.PENDING, State.RUNNING)


class Verb(StrEnum):
    """The moves between states, each made by one script."""

    CLAIM = "claim"
    REUSE = "reuse"
    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    RELEASE = "release"
    CANCEL = "cancel"
    EXPIRE = "expire"
    OVERRUN = "overrun"
    RESUBMIT = "resubmit"


TRANSITIONS: dict[tuple[State, Verb], State] = {
    (State.PENDING, Verb.CLAIM): State.RUNNING,
    (State.PENDING, Verb.REUSE): State.SUCCESS,
    (State.PENDING, Verb.CANCEL): State.CANCELED,
    (State.PENDING, Verb.EXPIRE): State.EXPIRED,
    (State.RUNNING, Verb.COMPLETE): State.SUCCESS,
    (State.RUNNING, Verb.FAIL): State.FAILED,
    (State.RUNNING, Verb.RETRY): State.PENDING,
    (State.RUNNING, Verb.RELEASE): State.PENDING,
    (State.RUNNING, Verb.CANCEL): State.CANCELED,
    (State.PENDING, Verb.OVERRUN): State.EXPIRED,
    (State.RUNNING, Verb.OVERRUN): State.FAILED,
    (State.FAILED, Verb.RESUBMIT): State.PENDING,
    (State.CANCELED, Verb.RESUBMIT): State.PENDING,
    (State.EXPIRED, Verb.RESUBMIT): State.PENDING,
}
"""Every allowed move. Any other is refused."""


class Priority(StrEnum):
    """Strict classes, highest first. Within a class, API keys get equal shares of device time."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


PRIORITIES: tuple[Priority, ...] = tuple(Priority)

Stage = Literal["queued", "retry", "fetch", "load", "prepare", "infer", "postprocess", "upload", "done"]

Reuse = Literal["miss", "coalesced", "hit"]
"""Whose run gave the result: the task's own (`miss`), that of an equal task for which it waited (`coalesced`), or that
of an equal task which had ended before (`hit`)."""


class Artifact(Struct, frozen=True, kw_only=True):
    """A result file in the storage: `size` in bytes, `width` and `height` in pixels where it is an image. The `name` is
    that of no other file of the result."""

    name: str
    s3_key: str
    size: int
    sha256: str
    content_type: str
    width: int | None = None
    height: int | None = None


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a run: files, JSON data, or both. Scripts find out by the beginning of its JSON whether it has
    files, so that these come first. `notes` are words for what was done to the images on their way to it."""

    artifacts: tuple[Artifact, ...] = ()
    data: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Artifact | None:
        """The file that stands for the result where only one can; None where it has none."""
        return self.artifacts[0] if self.artifacts else None


class ErrorRecord(Struct, frozen=True, kw_only=True):
    """Why an attempt or a task failed, with the `code` and the message of the API's problem documents."""

    code: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: PenstockError) -> "ErrorRecord":
        """The stored form of an error."""
        return cls(code=error.code, message=error.detail, retryable=error.retryable)


class Attempt(Struct, frozen=True, kw_only=True):
    """One attempt of one worker to run a task; times are ms since 1970 by the clock of Redis."""

    number: int = field(name="n")
    fence: str
    worker: str
    device: str
    started: int
    ended: int
    outcome: str
    error: ErrorRecord | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What the worker writes at the end: the result or the error, the ms of each stage, and figures of the run."""

    result: Result | None = None
    error: ErrorRecord | None = None
    timing: dict[str, float] = {}
    execution: dict[str, Any] = {}


class Progress(Struct, frozen=True, kw_only=True):
    """How much of the device work of a task is done. `done` never decreases within one attempt."""

    done: int
    total: int
    unit: str = "tiles"


class Task(Struct, frozen=True, kw_only=True):
    """The record of a task as it was read; times are ms since 1970 by the clock of Redis.

    `epoch` counts the claims, `failures` the retries, `crashes` the workers that died while they ran the task;
    `position` is the number of tasks ahead of it while it waits.
    """

    id: str
    tenant: str
    caller: str
    state: State
    stage: Stage
    priority: Priority
    request: Request
    epoch: int
    failures: int
    crashes: int
    created: int
    started: int | None
    finished: int | None
    start_by: int | None
    deadline: int | None
    expires: int | None
    worker: str | None
    progress: Progress | None
    position: int | None
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    reuse: Reuse
    version: int
    events: tuple[Event, ...] = ()


def moves(verb: Verb) -> dict[str, str]:
    """The moves of one verb, from state to state, as names for the scripts."""
    return {source.value: target.value for (source, known), target in TRANSITIONS.items() if known is verb}


def new_task_id() -> str:
    """A new id: `tsk_` and 32 hex digits, 48 bits of milliseconds and 80 random bits, so that ids sort by time."""
    return f"tsk_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class Reclaimed(Struct, frozen=True, order=True):
    """A task that was taken back from a dead worker; it waits again, or failed because it killed too many workers."""

    id: str
    state: State
    model: str
