"""What the store answers with, besides tasks."""

from msgspec import Struct

from penstock.task import Lease, Reuse, State, Task


class Submitted(Struct, frozen=True):
    """Answer to a submit. `rate_left` and `rate_reset_s` describe the caller's submit limit."""

    id: str
    replayed: bool
    position: int | None
    rate_left: int
    rate_reset_s: int
    reuse: Reuse

    @property
    def state(self) -> State:
        """Of a new task, as the submit has left it."""
        return State.SUCCESS if self.is_hit else State.PENDING

    @property
    def is_hit(self) -> bool:
        """Whether this submit made a task that has ended already."""
        return self.reuse == "hit" and not self.replayed


class Claim(Struct, frozen=True):
    """A lease, or none and how long until a delayed task is due (None: nothing is delayed)."""

    lease: Lease | None
    next_due_s: float | None = None


class Reclaimed(Struct, frozen=True, order=True):
    """A task taken back from a dead worker: waiting again, or failed as poison."""

    id: str
    state: State
    model: str


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """What a worker says of itself with every renewal."""

    id: str
    device: str
    host: str
    models: tuple[str, ...]
    slots: int
    running: int
    state: str
    started: int


class QueueDepth(Struct, frozen=True, kw_only=True):
    """Waiting tasks of one model and priority, and the age of the oldest near its head."""

    model: str
    priority: str
    depth: int
    oldest_s: float


class Page(Struct, frozen=True):
    """Tasks newest first; `next_before` continues the list, None at its end."""

    tasks: tuple[Task, ...]
    next_before: int | None
