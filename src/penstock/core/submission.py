"""What the store is given of a new task."""

from msgspec import Struct

from penstock.core.request import Request
from penstock.core.task import Priority


class EnqueuePermit(Struct, frozen=True, kw_only=True):
    """The right to hand in one line of a batch: `epoch` of the lease under which it is fed, which lasts `lease_ms`
    longer with each line; the `place` of the line, from 0; and how many tasks of the batch may be unfinished."""

    batch: str
    epoch: int
    place: int
    window: int
    lease_ms: int


class Forecast(Struct, frozen=True, kw_only=True):
    """How long a task should take: so many ms for each one ahead of it, and so many itself."""

    ahead_ms: float
    own_ms: float

    def eta_seconds(self, tasks_ahead: int) -> float:
        """Estimated seconds until the end, with `tasks_ahead` tasks in front."""
        return round((tasks_ahead * self.ahead_ms + self.own_ms) / 1000, 3)


class Submission(Struct, frozen=True, kw_only=True):
    """A request with everything the store needs to queue it.

    `cost` is what the device computes, in kilopixels, 0 where nobody knows; `fingerprint` is a digest of the client's
    body, compared when `client_request_id` is seen again. `reuse_digest` is what equal tasks share, None for one that
    takes no part; a task that `must_run` takes no other's result, but others may take its. The line of a batch is
    accepted in its `permit` only. `forecast` is what its client is promised, None where nobody knows. With `file_seen`
    "ask" the store tells of the file of a result before it gives it. `own_input` is the key of one that goes with it.
    """

    id: str
    tenant: str
    caller: str
    priority: Priority
    cost: int
    request: Request
    fingerprint: str
    max_retries: int
    timeout_s: float
    start_within_s: float | None
    finish_within_s: float | None
    result_ttl_s: int
    reuse_digest: str | None = None
    must_run: bool = False
    permit: EnqueuePermit | None = None
    forecast: Forecast | None = None
    file_seen: str = ""

    @property
    def own_input(self) -> str | None:
        return None if self.request.source.upload else self.request.source.key
