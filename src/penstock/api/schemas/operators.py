"""The wire, as operators see it: the catalogue, workers, queues, counts, health, and why a task waits."""

from typing import Any, Literal

from penstock.api.schemas.tasks import AheadView, Eta, Moment, ResponseBody
from penstock.core.task import Priority, Stage, State
from penstock.models.base import Produces


class LimitsView(ResponseBody, frozen=True):
    """What is refused at a submit, or ends a task: larger inputs, and attempts that take longer."""

    input_formats: tuple[str, ...]
    input_bytes: int
    input_megapixels: int
    timeout_s: float


class VersionView(ResponseBody, frozen=True):
    """A version that is served; `digest` changes whenever it gives other results for the same input."""

    version: str
    digest: str


class RangeView(ResponseBody, frozen=True):
    """Bounds of a number, both of which it may reach."""

    minimum: float
    maximum: float


class ModelView(ResponseBody, frozen=True):
    """A model that is served; `params` is the JSON Schema of a task's `params`, `version` the one that runs,
    `score_range` that of `score` in the data of a model that gives one."""

    name: str
    title: str
    version: str
    versions: tuple[VersionView, ...]
    licence: str
    source: str
    produces: Produces
    score_range: RangeView | None
    limits: LimitsView
    notes: dict[str, Any]
    params: dict[str, Any]


class ModelList(ResponseBody, frozen=True):
    """The models that are served."""

    data: tuple[ModelView, ...]


class MemoryView(ResponseBody, frozen=True):
    """Bytes: what the process takes of the host, what the images of its tasks in flight take and may take, and what one
    model may take of the device (null: no limit, or it is the host's)."""

    process: int
    tasks: int
    tasks_limit: int
    device_limit: int | None


class WorkerView(ResponseBody, frozen=True):
    """A worker heard of within its lease. `models` are loaded; DRAINING claims nothing more, nor does one whose results
    wait for the storage and have filled its spool."""

    id: str
    device: str
    host: str
    models: tuple[str, ...]
    slots: int
    running: int
    state: Literal["READY", "DRAINING"]
    started_at: Moment
    memory: MemoryView | None
    spool_full: bool


class RunningView(ResponseBody, frozen=True):
    """A task that a worker runs; those of other tenants are not shown."""

    task_id: str
    model: str
    priority: Priority
    stage: Stage
    claimed_at: Moment


class WorkerStatusView(WorkerView, frozen=True):
    """A worker, and what it runs."""

    tasks: tuple[RunningView, ...]


class WorkerList(ResponseBody, frozen=True):
    """The workers."""

    data: tuple[WorkerStatusView, ...]


class PauseView(ResponseBody, frozen=True):
    """Since when a queue is paused, and by the key of which name."""

    since: Moment
    by: str


class QueueView(ResponseBody, frozen=True):
    """Waiting tasks of one model and priority; `device_s` is the device time that they should take, null while no task
    of the model has been measured."""

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
    """How many waiting tasks were canceled; `has_more` says that there may be others: ask again. With `dry_run` none
    was, `matched` says how many would be, and `task_ids` has the first 100 of them."""

    matched: int
    task_ids: tuple[str, ...]
    dry_run: bool
    canceled: int
    has_more: bool


class BlockerView(ResponseBody, frozen=True):
    """What is in the way of a task: until when, or which other task, if that is known."""

    code: Literal[
        "follows_equal_task",
        "retry_delay",
        "queue_paused",
        "no_worker",
        "workers_busy",
        "spool_full",
        "storage_unavailable",
    ]
    detail: str
    until: Moment | None = None
    task_id: str | None = None


class ExplainView(ResponseBody, frozen=True):
    """Why a task is not done yet; `workers` are those that are READY and serve its model."""

    task_id: str
    status: State
    stage: Stage
    queue_position: int | None
    ahead: AheadView
    workers: tuple[WorkerView, ...]
    blockers: tuple[BlockerView, ...]
    eta_s: Eta


class StatsView(ResponseBody, frozen=True):
    """Task records by status, queues, and workers by state."""

    tasks: dict[str, int]
    queues: tuple[QueueView, ...]
    workers: dict[str, int]


class LiveView(ResponseBody, frozen=True):
    """The process answers."""

    status: Literal["ok"]


class ReadyView(ResponseBody, frozen=True):
    """What the server needs is there; `workers` counts those that are READY, `storage_age_s` are the seconds since the
    storage was looked at. `warnings` say what holds tasks up and is no reason to send no requests."""

    status: Literal["ready"]
    redis: Literal["ok"]
    storage: Literal["ok"]
    storage_age_s: float
    workers: int
    warnings: tuple[str, ...] = ()


class StartedView(ResponseBody, frozen=True):
    """Redis and the storage have answered since the server was started."""

    status: Literal["started"]


class DiscoveryView(ResponseBody, frozen=True):
    """What this server is, and where its parts are."""

    name: str
    version: str
    docs: str
    openapi: str
    links: dict[str, str]
