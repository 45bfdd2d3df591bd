"""READ FIRST. The task: its states, the one table of allowed moves, its parts, and when it is tried again.

    submit ──▶ PENDING ──claim──▶ RUNNING ──complete──▶ SUCCESS
                 │  ▲                │ ├──fail·overrun──▶ FAILED
                 │  └─retry·release──┘ └────cancel─────▶ CANCELED
                 ├──reuse───────────▶ SUCCESS
                 ├──cancel──────────▶ CANCELED
                 └──expire·overrun──▶ EXPIRED
    FAILED, CANCELED, EXPIRED ──resubmit──▶ PENDING

Pure: nothing here knows Redis, HTTP or a device. The Redis scripts know no state names; they are given the
allowed moves of their verb from `TRANSITIONS`.
"""

import random
import secrets
import time
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, field

from penstock.core.events import Event
from penstock.core.request import Request
from penstock.errors import PenstockError

TENANT = "default"
"""The only tenant so far; every record and every API key belongs to one."""

RECORD_VERSION = 3
"""Written into every record; a server or worker refuses to start where records are of another one."""


class State(StrEnum):
    """The six states; detail goes into `stage` and `error.code`."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Nothing happens to the task any more by itself; only `resubmit` leads out, and never out of SUCCESS."""
        return self not in (State.PENDING, State.RUNNING)


class Verb(StrEnum):
    """What can happen to a task."""

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
"""Every allowed move; what is not here is refused."""


class Priority(StrEnum):
    """Strict classes, highest first; inside one, fair shares between API keys."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


PRIORITIES: tuple[Priority, ...] = tuple(Priority)

Stage = Literal["queued", "retry", "fetch", "prepare", "infer", "postprocess", "upload", "done"]

Reuse = Literal["miss", "coalesced", "hit"]
"""Whose run gave a task its result: its own, that of an equal task which it waited for, or of one that had ended."""


class Artifact(Struct, frozen=True, kw_only=True):
    """A result file in the storage; `size` in bytes, `width` and `height` in pixels."""

    s3_key: str
    size: int
    sha256: str
    content_type: str
    width: int | None = None
    height: int | None = None


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run gave: a file, or plain JSON data, or both."""

    artifact: Artifact | None = None
    data: dict[str, Any] | None = None


class ErrorRecord(Struct, frozen=True, kw_only=True):
    """Why an attempt or a task failed; the same words as the problem document of the API."""

    code: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: PenstockError) -> "ErrorRecord":
        """The record form of an error."""
        return cls(code=error.code, message=error.detail, retryable=error.retryable)


class Attempt(Struct, frozen=True, kw_only=True):
    """One go at a task by one worker; times in ms since 1970 by the clock of Redis."""

    number: int = field(name="n")
    fence: str
    worker: str
    device: str
    started: int
    ended: int
    outcome: str
    error: ErrorRecord | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What the settling worker wrote: result or error, and where the time went (ms by stage)."""

    result: Result | None = None
    error: ErrorRecord | None = None
    timing: dict[str, float] = {}
    execution: dict[str, Any] = {}


class Progress(Struct, frozen=True, kw_only=True):
    """Device work done of a task, in units that only grow within one attempt."""

    done: int
    total: int
    unit: str = "tiles"


class Task(Struct, frozen=True, kw_only=True):
    """The record as read; moments in ms since 1970 by the clock of Redis."""

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


class Lease(Struct, frozen=True, kw_only=True):
    """The timed right to run one task: every write of its holder carries `id` and `token`. `promised_ms` is what
    its client was promised; `device_ms` what the device should need, None while no task of the model is measured."""

    id: str
    epoch: int
    fence: str
    tenant: str
    caller: str
    priority: Priority
    failures: int
    crashes: int
    max_retries: int
    timeout_s: float
    waited_ms: float
    request: Request
    promised_ms: int | None = None
    device_ms: float | None = None

    @property
    def token(self) -> str:
        """The number of the claim, and a word that no other claim of any task has, whatever Redis has lost."""
        return f"{self.epoch}-{self.fence}"

    @property
    def key(self) -> str:
        """Names one attempt: a worker may still run an old one when it is given the task again."""
        return f"{self.id} {self.token}"


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter (Amazon Builders' Library, "Timeouts, retries, and backoff")."""

    base_s: float
    cap_s: float

    def delay_ms(self, failures: int) -> int:
        """Random wait before retry number `failures` (1 is the first), uniform in 0..min(cap, base·2^(n-1))."""
        bound = min(self.cap_s, self.base_s * 2 ** min(failures - 1, 32))
        return int(random.uniform(0, bound) * 1000)  # noqa: S311  jitter is no secret


def is_suspect(lease: Lease) -> bool:
    """Whether the task was there when a worker died: it is run alone then, lest it takes another with it."""
    return lease.crashes > 0


def verdict(error: PenstockError, lease: Lease) -> Verb:
    """Whether a failed attempt is tried again: a transient error, while retries are left."""
    return Verb.RETRY if error.retryable and lease.failures < lease.max_retries else Verb.FAIL


def moves(verb: Verb) -> dict[str, str]:
    """From-state -> to-state of one verb, the form the scripts take."""
    return {source.value: target.value for (source, known), target in TRANSITIONS.items() if known is verb}


def new_task_id() -> str:
    """`tsk_` and 32 hex digits: 48 bits of milliseconds, 80 of randomness, so that ids sort by time."""
    return f"tsk_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


class Reclaimed(Struct, frozen=True, order=True):
    """A task taken back from a dead worker: waiting again, or failed as poison."""

    id: str
    state: State
    model: str
