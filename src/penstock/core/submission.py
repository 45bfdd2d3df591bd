"""The submission of a new task, as the store takes it. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from penstock.core.quotas import NO_QUOTAS, Quotas
from penstock.core.request import Request
from penstock.core.task import Priority


class EnqueuePermit(Struct, frozen=True, kw_only=True):
    """The right to enqueue one line of a batch.

    `epoch` is that of the lease on the batch, which each enqueued line extends to `lease_ms` from now; `place` is the
    place of the line, from 0; `window` is how many tasks of the batch may be unfinished.
    """

    batch: str
    epoch: int
    place: int
    window: int
    lease_ms: int


class Forecast(Struct, frozen=True, kw_only=True):
    """The expected time of a task: `ahead_ms` for each task in front of it, and `own_ms` for itself."""

    ahead_ms: float
    own_ms: float

    def eta_seconds(self, tasks_ahead: int) -> float:
        """Estimated seconds until its end, with `tasks_ahead` tasks in front."""
        return round((tasks_ahead * self.ahead_ms + self.own_ms) / 1000, 3)


class Submission(Struct, frozen=True, kw_only=True):
    """A request with everything the store needs to queue it.

    - `cost`: the work of the device in kilopixels, 0 where it is not known.
    - `fingerprint`: digest of the client's body, compared when the same `client_request_id` comes again.
    - `reuse_digest`: equal for tasks that may share a run, None for a task that shares none. A task with `must_run`
      takes no other task's result, but others may take its result.
    - `input_bytes`: the size of its own input beside the record, 0 where it has none; `inline` has the bytes
      themselves, by their keys, where they may stay in Redis.
    - `quotas`: what its tenant may use.
    - `permit`: needed by a line of a batch, which is enqueued only under it.
    - `forecast`: what the client is told about its end, None where it cannot be estimated.
    - `file_seen`: with "ask", the store first names the file of a result that it would reuse, for the caller to check.
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
    input_bytes: int = 0
    inline: Mapping[str, bytes] = {}
    quotas: Quotas = NO_QUOTAS
    permit: EnqueuePermit | None = None
    forecast: Forecast | None = None
    file_seen: str = ""

    @property
    def own_input(self) -> str | None:
        """Where the storage has what belongs to this task alone, unless it stays in Redis: the key of one input, or the
        prefix of several, which ends with a slash; None where it has none. See `input_keys`."""
        found = None
        for source in self.request.inputs.values():
            if source.key and not source.upload:
                if found is not None:
                    return found.rpartition("/")[0] + "/"
                found = source.key
        return found

    @property
    def uploads(self) -> tuple[str, ...]:
        """The ids of the uploads that the task uses, each once."""
        found: dict[str, None] = {}
        for source in self.request.inputs.values():
            if source.upload:
                found[source.upload] = None
        return tuple(found)


def input_keys(tenant: str, name: str, members: Sequence[str]) -> dict[str, str]:
    """The storage keys of the inputs that come with a task, by member: one object, or several below one prefix."""
    place = f"inputs/{tenant}/{name}"
    if len(members) == 1:
        return {members[0]: place}
    return {member: f"{place}/{number}" for number, member in enumerate(members)}
