"""The batch: many tasks from one request, enqueued line by line.

    start ──▶ RUNNING ──last end──▶ COMPLETED
                 └─cancel──▶ CANCELING ──last end──▶ CANCELED

The lines are kept in the storage, in parts, and become tasks in order, at most `queue.batch_window` at a time. A retry
of one of its tasks opens a batch again. Pure: nothing here knows Redis or HTTP.
"""

import hashlib
import secrets
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Raw, Struct

from penstock.core.events import Event, Webhook
from penstock.core.task import State

PREFIX = "bat_"
"""The prefix of ids of batches, by which the scripts tell them from tasks."""


class BatchState(StrEnum):
    """The four states of a batch. The counts of the batch tell how its lines ended."""

    RUNNING = "RUNNING"
    CANCELING = "CANCELING"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether every line has ended."""
        return self in ENDS.values()


ENDS = {BatchState.RUNNING: BatchState.COMPLETED, BatchState.CANCELING: BatchState.CANCELED}
"""The state of a batch after its last line has ended, by the state before."""


class BatchPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The request of a batch, which never changes.

    `defaults` are the members of every line that does not have them itself; `starts` has the place of the first line of
    each part; `versions` says which version the lines that name only a model run on.
    """

    defaults: dict[str, Any]
    starts: tuple[int, ...]
    base_url: str
    traceparent: str
    client_request_id: str | None = None
    metadata: dict[str, str] = {}
    webhook: Webhook | None = None
    versions: dict[str, str] = {}


def lines_left(models: Sequence[Mapping[str, int]], fed: int) -> dict[str, float]:
    """Return how many lines are not fed, by model. `models` says of each part how many of its lines are of which; in
    the part that is fed just now, each model is taken to have the same share of what is left."""
    left: dict[str, float] = {}
    for lines in models:
        total = sum(lines.values())
        share = max(0.0, 1 - fed / total)
        fed = max(0, fed - total)
        for model, count in lines.items():
            left[model] = left.get(model, 0.0) + count * share
    return {model: count for model, count in left.items() if count}


class StoredLine(Struct, frozen=True, array_like=True):
    """A line as it is stored in a part, which is a JSON array of lines.

    `number` is its number in the client's file, from 1, `text` its JSON; `header` is the format, width and height of an
    inline image.
    """

    number: int
    text: Raw
    header: tuple[str, int, int] | None = None


class Batch(Struct, frozen=True, kw_only=True):
    """The record of a batch as it was read; times are ms since 1970 by the clock of Redis.

    `fed` is the number of lines that have become tasks or have ended without one; `counts` has the number of lines by
    the state of their task; `epoch` is that of the latest lease to feed it.
    """

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
        """The number of tasks that wait or run."""
        return self.counts[State.PENDING] + self.counts[State.RUNNING]

    @property
    def ended(self) -> int:
        """The number of lines that have ended, with or without a task."""
        return self.fed - self.unfinished

    def part_of(self, place: int) -> int:
        """The number of the part that has the line at this place."""
        return bisect_right(self.plan.starts, place) - 1


class End(Struct, frozen=True, kw_only=True):
    """A row of the manifest: the final state of the line at `place`, and the code of its error.

    A line may end without having become a task, when it was canceled or could not be enqueued.
    """

    place: int
    state: State
    code: str | None
    became_task: bool


class Started(Struct, frozen=True, kw_only=True):
    """The answer to a start: the id of the batch, or of the one that an earlier start with the same
    `client_request_id` has made (`replayed`)."""

    id: str
    replayed: bool


class FeedLease(Struct, frozen=True, kw_only=True):
    """The timed right to enqueue the lines of a batch. It lasts `lasts_s` from the latest write of its holder; every
    write carries `epoch`."""

    id: str
    tenant: str
    epoch: int
    lasts_s: float


def new_batch_id() -> str:
    """A new id: `bat_` and 32 hex digits, 48 bits of milliseconds and 80 random bits, so that ids sort by time."""
    return f"{PREFIX}{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def task_id_of(batch_id: str, place: int) -> str:
    """The id of the task of a line. It follows from the place, so that no record of it is needed."""
    digest = hashlib.sha256(f"{batch_id} {place}".encode()).hexdigest()
    return f"tsk_{batch_id[4:16]}{digest[:20]}"


def part_key(tenant: str, batch_id: str, part: int) -> str:
    """The storage key of a part of the lines."""
    return f"batches/{tenant}/{batch_id}/{part}"
