"""A batch: many tasks from one request, fed to the queue line by line.

    start ──▶ RUNNING ──last end──▶ COMPLETED
                 └─cancel──▶ CANCELING ──last end──▶ CANCELED

Its lines lie in the storage, in parts; a line becomes a task when its turn comes. A retry of one of its tasks opens a
batch again. Pure: nothing here knows Redis or HTTP.
"""

import hashlib
import secrets
import time
from bisect import bisect_right
from enum import StrEnum
from typing import Any

from msgspec import Raw, Struct

from penstock.core.events import Event, Webhook
from penstock.core.task import State

PREFIX = "bat_"
"""Of the id of a batch; the scripts know by it what a webhook is about."""


class BatchState(StrEnum):
    """The four states of a batch; how its lines went is in its counts."""

    RUNNING = "RUNNING"
    CANCELING = "CANCELING"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Every line has ended."""
        return self in ENDS.values()


ENDS = {BatchState.RUNNING: BatchState.COMPLETED, BatchState.CANCELING: BatchState.CANCELED}
"""What a batch becomes when its last line has ended."""


class BatchPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the client asked for, never changed: `defaults` are members of every line that does not have them itself,
    `starts` the place of the first line of each part."""

    defaults: dict[str, Any]
    starts: tuple[int, ...]
    base_url: str
    traceparent: str
    client_request_id: str | None = None
    metadata: dict[str, str] = {}
    webhook: Webhook | None = None


class StoredLine(Struct, frozen=True, array_like=True):
    """A line of a part, which is a JSON array: its number in what the client has sent, from 1, and what it says; for an
    inline image, what its header says: format, width and height."""

    number: int
    text: Raw
    header: tuple[str, int, int] | None = None


class Batch(Struct, frozen=True, kw_only=True):
    """The record as read; moments in ms since 1970 by the clock of Redis. `fed` lines have become tasks or have ended
    without; `counts` are of lines, by the state of their task; `epoch` is that of who feeds it."""

    id: str
    tenant: str
    caller: str
    state: BatchState
    plan: BatchPlan
    total: int
    fed: int
    counts: dict[State, int]
    epoch: int
    created: int
    finished: int | None
    expires: int | None
    events: tuple[Event, ...]

    @property
    def unfinished(self) -> int:
        """Tasks that wait or run."""
        return self.counts[State.PENDING] + self.counts[State.RUNNING]

    @property
    def ended(self) -> int:
        """Lines that have ended, with or without a task."""
        return self.fed - self.unfinished

    def part_of(self, place: int) -> int:
        """Which part has the line of this place."""
        return bisect_right(self.plan.starts, place) - 1


class End(Struct, frozen=True, kw_only=True):
    """A row of the manifest: how the line of this place has ended, with the code of its error. A line that was not
    `run` has never become a task."""

    place: int
    state: State
    code: str | None
    became_task: bool


class Started(Struct, frozen=True, kw_only=True):
    """Answer to a start: the batch, which is another one if the same caller has started it before."""

    id: str
    replayed: bool


class FeedLease(Struct, frozen=True, kw_only=True):
    """The timed right to feed a batch, which `lasts_s` from each sign of life: every write of its holder carries
    `epoch`."""

    id: str
    tenant: str
    epoch: int
    lasts_s: float


def new_batch_id() -> str:
    """`bat_` and 32 hex digits: 48 bits of milliseconds, 80 of randomness, so that ids sort by time."""
    return f"{PREFIX}{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def task_id_of(batch_id: str, place: int) -> str:
    """The id of the task of a line: always the same, so that nothing has to be kept to find it."""
    digest = hashlib.sha256(f"{batch_id} {place}".encode()).hexdigest()
    return f"tsk_{batch_id[4:16]}{digest[:20]}"


def part_key(tenant: str, batch_id: str, part: int) -> str:
    """Under which the storage has a part of the lines."""
    return f"batches/{tenant}/{batch_id}/{part}"
