"""What the store answers with, besides tasks."""

from msgspec import Struct

from penstock.task import Lease, Reuse, Stage, State, Task


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


class NotItsTurn(Exception):
    """The line of a batch is not handed in: it is not its turn, or another feeds the batch now (`turn`), or as many of
    its tasks as may be are unfinished (`window`)."""


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


class Pace(Struct, frozen=True, kw_only=True):
    """Of a model: moving averages of the device time and the cost (kilopixels) of its finished tasks."""

    device_s: float
    cost: float

    def of(self, cost: int) -> float:
        """Seconds on the device for a task of this size."""
        return self.device_s * cost / self.cost


class Explanation(Struct, frozen=True, kw_only=True):
    """What is known of how long a task still takes. `left` is the part of its device work that is not done; `position`
    and `left` are those of `leader`, an equal task whose result it waits for, if it has one; `due` is the moment (ms)
    of its retry, which is `due_in_s` from now."""

    state: State
    stage: Stage
    model: str
    cost: int
    position: int | None
    left: float
    due: int | None
    due_in_s: float | None
    leader: str | None
    pace: Pace | None
    workers: tuple[WorkerInfo, ...]


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
