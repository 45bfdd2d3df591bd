"""Answers about workers, queues, counts and health, and about why a task waits."""

from typing import Any, Literal

from penstock.api.schemas.tasks import AheadView, Eta, Moment, ProgressView, ResponseBody
from penstock.core.task import Priority, Stage, State


class MemoryView(ResponseBody, frozen=True):
    """Memory in bytes: what the process uses on the host, what the images of its running tasks use and may use, what
    all its models together may use on the device (null if the driver does not say, or if the device is the host), and
    what is page-locked on the host for a GPU."""

    process: int
    tasks: int
    tasks_limit: int
    device_limit: int | None
    pinned: int


class WorkerView(ResponseBody, frozen=True):
    """A worker with a current lease. `models` are loaded. A DRAINING worker claims no more tasks, nor does one whose
    spool is full of results that wait for the storage. A worker that is DOWN cannot run, as `reason` says: its device
    is lost or cannot be used, and is tried again later."""

    id: str
    device: str
    host: str
    models: tuple[str, ...]
    slots: int
    running: int
    state: Literal["READY", "DRAINING", "DOWN"]
    started_at: Moment
    memory: MemoryView | None
    spool_full: bool
    reason: str


class RunningView(ResponseBody, frozen=True):
    """A task that a worker runs; tasks of other tenants are shown to operators who ask for them."""

    task_id: str
    tenant: str
    model: str
    priority: Priority
    stage: Stage
    claimed_at: Moment
    progress: ProgressView | None


class WorkerStatusView(WorkerView, frozen=True):
    """A worker and the tasks that it runs."""

    tasks: tuple[RunningView, ...]


class WorkerList(ResponseBody, frozen=True):
    """A list of workers."""

    data: tuple[WorkerStatusView, ...]


class PauseView(ResponseBody, frozen=True):
    """When a queue was paused, and the name of the key that did it."""

    since: Moment
    by: str


class QueueView(ResponseBody, frozen=True):
    """The waiting tasks of one model and priority. `device_s` is the device time that they should take, or null
    until a task of the model has been measured."""

    model: str
    priority: Priority
    depth: int
    oldest_s: float
    device_s: float | None
    paused: PauseView | None


class QueueList(ResponseBody, frozen=True):
    """Queues by model, highest priority first."""

    data: tuple[QueueView, ...]


class PurgedView(ResponseBody, frozen=True):
    """How many waiting tasks were canceled; if `has_more`, there may be others: repeat the request. With `dry_run` no
    task was canceled: `matched` says how many would be, and `task_ids` has the first 100 of them."""

    matched: int
    task_ids: tuple[str, ...]
    dry_run: bool
    canceled: int
    has_more: bool


class BlockerView(ResponseBody, frozen=True):
    """Something that a task waits for: until when, or for which other task, if that is known."""

    code: Literal[
        "follows_equal_task",
        "retry_delay",
        "queue_paused",
        "tenant_at_quota",
        "model_cold",
        "model_loading",
        "model_failed",
        "no_worker",
        "workers_busy",
        "spool_full",
        "storage_unavailable",
    ]
    detail: str
    until: Moment | None = None
    task_id: str | None = None


class ExplainView(ResponseBody, frozen=True):
    """Why a task is not done yet. `workers` are READY and serve its model."""

    task_id: str
    status: State
    stage: Stage
    queue_position: int | None
    ahead: AheadView
    workers: tuple[WorkerView, ...]
    blockers: tuple[BlockerView, ...]
    eta_s: Eta


class BacklogView(ResponseBody, frozen=True):
    """The expected device time, in seconds, of all work that is left, of all tenants, and the same by model. It is 0
    only where nothing waits that may start, and nothing runs."""

    device_s: float
    models: dict[str, float]


class StatsView(ResponseBody, frozen=True):
    """Numbers of tasks by status and of workers by state, the queues, and the backlog."""

    tasks: dict[str, int]
    queues: tuple[QueueView, ...]
    workers: dict[str, int]
    backlog: BacklogView


class LiveView(ResponseBody, frozen=True):
    """The process is alive and answers."""

    status: Literal["ok"]


class ReadyView(ResponseBody, frozen=True):
    """The server can work. `workers` counts those that are READY; `storage_age_s` is the number of seconds since the
    storage was checked. `warnings` name what delays tasks, and is no reason to stop sending requests."""

    status: Literal["ready"]
    redis: Literal["ok"]
    storage: Literal["ok"]
    storage_age_s: float
    workers: int
    warnings: tuple[str, ...] = ()


class StartedView(ResponseBody, frozen=True):
    """Redis and the storage have answered since the server was started."""

    status: Literal["started"]


class SettingsView(ResponseBody, frozen=True):
    """The version of the server, and its settings by section and name; those that may have a secret are left out."""

    version: str
    settings: dict[str, dict[str, Any]]


class DiscoveryView(ResponseBody, frozen=True):
    """What this server is, and the paths of its parts."""

    name: str
    version: str
    docs: str | None
    openapi: str | None
    links: dict[str, str]
