"""Examples of tasks, of their events and of acts on many."""

from typing import Any

from penstock.api.description.examples.operators import WORKER
from penstock.api.description.examples.parameters import CURSOR, TASK_ID
from penstock.api.schemas.operators import BlockerView, ExplainView
from penstock.api.schemas.render import links
from penstock.api.schemas.tasks import (
    AheadView,
    AttemptView,
    CanceledView,
    DeletedView,
    DeliveryView,
    EventView,
    ProgressView,
    QuoteView,
    ResponseBody,
    ResultFileView,
    ResultView,
    RetriedView,
    SizeView,
    SubmittedView,
    TaskList,
    TaskView,
    WebhookView,
)
from penstock.core.task import Priority, State

EVENTS = """\
retry: 2000

id: RUNNING.1.infer.6
event: progress
data: {"ratio":0.25,"unit":"tiles","done":6,"total":24}

"""
SCORE = {"score": 5.6132, "distribution": [0.004, 0.011, 0.036, 0.112, 0.3, 0.306, 0.151, 0.055, 0.018, 0.007]}

TASK = TaskView(
    task_id=TASK_ID,
    client_request_id="order-991",
    batch_id=None,
    custom_id=None,
    model="superres-x4",
    model_version="1",
    model_digest="1 92586ffbb5fd21e9f153abb178d5c92083fa091e5178ed1b6d86112ac2b0d012",
    model_guessed=(),
    status=State.SUCCESS,
    stage="done",
    priority=Priority.HIGH,
    progress=ProgressView(ratio=1.0, unit="tiles", done=24, total=24),
    queue_position=None,
    created_at="2026-11-22T09:00:00.000Z",
    started_at="2026-11-22T09:00:00.004Z",
    finished_at="2026-11-22T09:00:02.104Z",
    expires_at="2026-11-23T09:00:02.104Z",
    start_by=None,
    deadline="2026-11-22T09:05:00.000Z",
    reuse="miss",
    timing={"queue_ms": 4.0, "prepare_ms": 21.5, "infer_ms": 1804.2, "upload_ms": 9.1, "total_ms": 2104.0},
    execution={"worker": "gpu1-cuda0-4f2a", "device": "cuda:0", "tiles": 24},
    attempts=(
        AttemptView(
            n=1,
            worker="gpu1-cuda0-4f2a",
            device="cuda:0",
            started_at="2026-11-22T09:00:00.004Z",
            ended_at="2026-11-22T09:00:02.104Z",
            outcome="SUCCESS",
            error=None,
        ),
    ),
    result=ResultView(
        s3_key=f"penstock/results/default/{TASK_ID}/1.png",
        size=4_718_592,
        url=f"http://127.0.0.1:8000/v1/tasks/{TASK_ID}/result",
        sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        content_type="image/png",
        width=2048,
        height=1536,
        data=None,
        files=(
            ResultFileView(
                name="result.png",
                url=f"http://127.0.0.1:8000/v1/tasks/{TASK_ID}/result/result.png",
                content_type="image/png",
                size=4_718_592,
                sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                width=2048,
                height=1536,
            ),
        ),
        notes=("turned", "metadata_stripped"),
    ),
    error=None,
    metadata={"album": "42"},
    webhook=WebhookView(
        url="https://shop.example.com/told",
        events=("succeeded", "failed"),
        log=(
            EventView(
                type="task.succeeded",
                sequence=1,
                status="delivered",
                deliveries=(DeliveryView(at="2026-11-22T09:00:02.131Z", ms=84, outcome="delivered", code=204),),
                next_delivery_at=None,
            ),
        ),
    ),
    links=links(TASK_ID),
)


def _matching(matched: int, *, has_more: bool) -> dict[str, Any]:
    """The members that the answers of all acts on matching tasks share."""
    cursor = CURSOR if has_more else None
    return {"matched": matched, "task_ids": (TASK_ID,), "dry_run": False, "has_more": has_more, "next_cursor": cursor}


ANSWERS: tuple[ResponseBody, ...] = (
    TASK,
    TaskList(data=(TASK,), has_more=True, next_cursor=CURSOR),
    SubmittedView(task_id=TASK_ID, status=State.PENDING, queue_position=1, eta_s=4.3, links=links(TASK_ID)),
    QuoteView(
        model="superres-x4",
        priority=Priority.NORMAL,
        queue_position=3,
        ahead=AheadView(tasks=3, device_s=6.42),
        run_device_s=1.804,
        eta_s=8.224,
        input=SizeView(width=512, height=384),
        output=SizeView(width=2048, height=1536),
    ),
    ExplainView(
        task_id=TASK_ID,
        status=State.PENDING,
        stage="queued",
        queue_position=3,
        ahead=AheadView(tasks=3, device_s=6.42),
        workers=(WORKER,),
        blockers=(
            BlockerView(
                code="retry_delay",
                detail="its last attempt failed; it waits before the next one",
                until="2026-11-22T09:00:09.000Z",
            ),
        ),
        eta_s=8.224,
    ),
    CanceledView(canceled=12, **_matching(12, has_more=False)),
    DeletedView(deleted=100, **_matching(100, has_more=True)),
    RetriedView(retried=12, **_matching(12, has_more=False)),
)
