"""Examples of workers and queues, and of what the server says of itself."""

import msgspec

from penstock import __version__
from penstock.api.description.examples.parameters import TASK_ID
from penstock.api.schemas.operators import (
    BacklogView,
    DiscoveryView,
    LiveView,
    MemoryView,
    PauseView,
    PurgedView,
    QueueList,
    QueueView,
    ReadyView,
    RunningView,
    SettingsView,
    StartedView,
    StatsView,
    WorkerList,
    WorkerStatusView,
    WorkerView,
)
from penstock.api.schemas.tasks import ProgressView, ResponseBody
from penstock.core.task import Priority

METRICS = """\
# HELP penstock_tasks_stored Task records, by status
# TYPE penstock_tasks_stored gauge
penstock_tasks_stored{status="PENDING"} 3.0
"""

WORKER = WorkerView(
    id="gpu1-cuda0-4f2a",
    device="cuda:0",
    host="gpu1",
    models=("image-scoring-v1", "superres-x4"),
    slots=8,
    running=3,
    state="READY",
    started_at="2026-11-22T08:00:00.000Z",
    memory=MemoryView(
        process=2_214_592_512,
        tasks=301_989_888,
        tasks_limit=20_615_843_020,
        device_limit=23_806_869_504,
        pinned=327_155_712,
    ),
    spool_full=False,
    reason="",
)
STATUS = WorkerStatusView(
    **msgspec.structs.asdict(WORKER),
    tasks=(
        RunningView(
            task_id=TASK_ID,
            tenant="acme",
            model="superres-x4",
            priority=Priority.HIGH,
            stage="infer",
            claimed_at="2026-11-22T09:00:00.004Z",
            progress=ProgressView(ratio=0.25, unit="tiles", done=12, total=48),
        ),
    ),
)
QUEUE = QueueView(
    model="superres-x4",
    priority=Priority.NORMAL,
    depth=3,
    oldest_s=0.412,
    device_s=5.412,
    paused=PauseView(since="2026-11-22T08:59:59.000Z", by="alice"),
)

ANSWERS: tuple[ResponseBody, ...] = (
    STATUS,
    WorkerList(data=(STATUS,)),
    QueueList(data=(QUEUE,)),
    PurgedView(canceled=12, has_more=False, matched=12, task_ids=(), dry_run=False),
    StatsView(
        tasks={"PENDING": 3, "RUNNING": 3, "SUCCESS": 812, "FAILED": 1, "CANCELED": 0, "EXPIRED": 0},
        queues=(QUEUE,),
        workers={"READY": 1},
        backlog=BacklogView(device_s=7.216, models={"superres-x4": 7.216, "image-scoring-v1": 0.0}),
    ),
    SettingsView(
        version=__version__,
        settings={
            "queue": {"max_depth": 100_000, "lease_s": 6.0},
            "storage": {"local": False, "s3_bucket": "penstock"},
        },
    ),
    ReadyView(status="ready", redis="ok", storage="ok", storage_age_s=2.4, workers=1),
    StartedView(status="started"),
    LiveView(status="ok"),
    DiscoveryView(
        name="penstock",
        version=__version__,
        docs="/docs",
        openapi="/schema/openapi.json",
        links={"tasks": "/v1/tasks", "models": "/v1/models", "errors": "/errors"},
    ),
)
