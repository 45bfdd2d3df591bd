"""Answers: what the methods of the store return besides tasks."""

from collections.abc import Sequence

from msgspec import Struct

from penstock.core.lease import Lease
from penstock.core.model import Model, Residence
from penstock.core.task import Priority, Progress, Reuse, Stage, State, Task
from penstock.errors import UploadNotFound


class Submitted(Struct, frozen=True):
    """The answer to a submit. `rate_left` and `rate_reset_s` describe the caller's submit limit, `quota_left` and
    `quota_reset_s` that of its tenant, where it has one (the first is -1 where it has none); `is_paused` tells whether
    the queue of its model and priority is paused."""

    id: str
    replayed: bool
    position: int | None
    rate_left: int
    rate_reset_s: int
    reuse: Reuse
    is_paused: bool
    quota_left: int = -1
    quota_reset_s: int = 0

    @property
    def state(self) -> State:
        """The state in which the submit has left a new task."""
        return State.SUCCESS if self.is_hit else State.PENDING

    @property
    def is_hit(self) -> bool:
        """Whether this submit made a task that has already ended with the result of an equal one."""
        return self.reuse == "hit" and not self.replayed


class NotItsTurn(Exception):
    """The line of a batch is not enqueued: it is not its turn, or another feeder has the lease by now (`turn`), or as
    many of its tasks as allowed are unfinished (`window`)."""


class ResultFound(Exception):
    """An equal task, `owner`, has a result with files, under these `keys`: the caller has to look whether all of them
    are there."""

    def __init__(self, owner: str, keys: tuple[str, ...]) -> None:
        super().__init__(owner, keys)
        self.owner = owner
        self.keys = keys

    def seen(self, *, there: bool) -> str:
        """The `Submission.file_seen` with which the caller submits again after it has looked."""
        return f"{self.owner} {'there' if there else 'gone'}"


class UploadGone(UploadNotFound):
    """A task was to use this `upload`, which has just been deleted."""

    def __init__(self, upload: str) -> None:
        super().__init__("this upload has just been deleted", param="input.upload_id")
        self.upload = upload


class Claim(Struct, frozen=True):
    """A lease; or none, and how long until a delayed task is due (None when none is delayed); or none because the
    worker is drained."""

    lease: Lease | None
    next_due_s: float | None = None
    is_drained: bool = False


class WorkerMemory(Struct, frozen=True, kw_only=True):
    """Memory in bytes: of the process, of the images of its tasks in flight and their limit, the limit of all models on
    the device (0 for none, or when the device uses the memory of the host), and what is page-locked for the device."""

    process: int
    tasks: int
    tasks_limit: int
    device_limit: int
    pinned: int = 0


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """What a worker says about itself with every renewal. It claims nothing while its spool is full, as happens when
    the storage is away. `residence` says of each model that it knows where it is. Its parent says it for a worker that
    is DOWN, with the reason: its device is lost or cannot be used."""

    id: str
    device: str
    host: str
    models: tuple[str, ...]
    slots: int
    running: int
    state: str
    started: int
    memory: WorkerMemory | None = None
    spool_full: bool = False
    reason: str = ""
    residence: dict[str, Residence] = {}


class PublishedModel(Struct, frozen=True, kw_only=True):
    """A version of a model as a worker has published it last, and the moment (µs) when it was published first."""

    model: Model
    worker: str
    first: int


class PublishedModels(Struct, frozen=True, kw_only=True):
    """The published versions, those first that were published first, and the versions that operators have made the
    default, by the name of the model. `is_published` is false while no worker has published anything, or Redis has lost
    it; it stays true when all was retracted."""

    versions: tuple[PublishedModel, ...]
    defaults: dict[str, str]
    is_published: bool


class Running(Struct, frozen=True, kw_only=True):
    """A running task as the list of workers shows it; `claimed` is a moment in ms, and `progress` is None until the
    device work is known."""

    task_id: str
    tenant: str
    worker: str
    model: str
    priority: Priority
    stage: Stage
    claimed: int
    progress: Progress | None


class Pause(Struct, frozen=True, kw_only=True):
    """Since when (ms) a queue is paused, and the name of the API key that paused it."""

    at: int
    by: str


class Purged(Struct, frozen=True):
    """How many tasks were canceled, and whether there may be others."""

    canceled: int
    has_more: bool


class Pace(Struct, frozen=True, kw_only=True):
    """Moving averages of the device time and of the cost (kilopixels) of a model's finished tasks; the cost is 0 while
    none was known."""

    device_s: float
    cost: float

    def of(self, cost: int) -> float:
        """Seconds on the device for a task of this cost; for a mean task when the cost is 0, which means unknown."""
        return self.device_s * cost / self.cost if cost and self.cost else self.device_s


class UnderWay(Struct, frozen=True, kw_only=True):
    """Work of one model that has been claimed and is not done, or waits for its retry: the cost of the task, the share
    of its device work that is left, and how many tasks it stands for."""

    model: str
    cost: int
    left: float
    tasks: float = 1.0


class Explanation(Struct, frozen=True, kw_only=True):
    """What is known of how long a task still takes. `left` is the share of its device work that is not done; `position`
    and `left` are those of `leader`, an equal task whose result it waits for, if it has one; `due` is the moment (ms)
    of its retry, which is `due_in_s` from now; `priority` is the class whose `pause`, if there is one, holds it up;
    `cap` is how many tasks its tenant may run where it runs as many already, else None."""

    state: State
    stage: Stage
    model: str
    cost: int
    position: int | None
    left: float
    due: int | None
    due_in_s: float | None
    leader: str | None
    priority: Priority
    pause: Pause | None
    cap: int | None
    pace: Pace | None
    workers: tuple[WorkerInfo, ...]


class QueueDepth(Struct, frozen=True, kw_only=True):
    """How many tasks of one model and priority wait, the age of the oldest, and the device time that they should take:
    None while no task of the model has been measured."""

    model: str
    priority: Priority
    depth: int
    oldest_s: float
    device_s: float | None
    pause: Pause | None


class SetAside(Struct, frozen=True):
    """A record that could not be read: its id, the reason, and the moment (ms) when it was set aside."""

    id: str
    reason: str
    at: int


class Matching(Struct, frozen=True):
    """Ids of tasks, newest first; `next_before` continues the list, None at its end."""

    ids: Sequence[str]
    next_before: int | None


class Page(Struct, frozen=True):
    """Tasks newest first; `next_before` continues the list, None at its end."""

    tasks: tuple[Task, ...]
    next_before: int | None
