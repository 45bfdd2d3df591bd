"""Answers of the server about workers, queues and counts."""

from penstock.client.views import Progress, View


class Memory(View, frozen=True):
    """Bytes: of the process, of the images of its tasks in flight and what they may take, of all models on the device
    at most, and of the host's memory that is page-locked for a GPU."""

    process: int
    tasks: int
    tasks_limit: int
    device_limit: int | None = None
    pinned: int = 0


class Running(View, frozen=True):
    """A task that a worker runs."""

    task_id: str
    model: str
    priority: str
    stage: str
    claimed_at: str
    tenant: str = ""
    progress: Progress | None = None


class Worker(View, frozen=True):
    """A worker heard of within its lease."""

    id: str
    device: str
    host: str
    models: tuple[str, ...]
    slots: int
    running: int
    state: str
    started_at: str
    memory: Memory | None = None
    spool_full: bool = False
    reason: str = ""
    tasks: tuple[Running, ...] = ()


class WorkerList(View, frozen=True):
    """The workers."""

    data: tuple[Worker, ...]


class Pause(View, frozen=True):
    """Since when a queue is paused, and by the key of which name."""

    since: str
    by: str


class Queue(View, frozen=True):
    """Waiting tasks of one model and priority, and the device time that they should take."""

    model: str
    priority: str
    depth: int
    oldest_s: float
    device_s: float | None = None
    paused: Pause | None = None


class QueueList(View, frozen=True):
    """The queues."""

    data: tuple[Queue, ...]


class Purged(View, frozen=True):
    """How many waiting tasks were canceled, or would be, and whether there may be others."""

    matched: int
    has_more: bool


class Backlog(View, frozen=True):
    """The expected device time, in seconds, of all work that is left, and the same by model."""

    device_s: float
    models: dict[str, float]


class Stats(View, frozen=True):
    """Task records by status, queues, workers by state, and the backlog, which an older server does not
    tell."""

    tasks: dict[str, int]
    queues: tuple[Queue, ...]
    workers: dict[str, int]
    backlog: Backlog | None = None
