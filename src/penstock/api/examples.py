"""One example of every answer, and of every refusal, for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock import __version__
from penstock.api.batch_views import BatchList, BatchView, CountsView, LineResultView, LineView, batch_links
from penstock.api.predictions import PredictionPage, PredictionUrls, PredictionView
from penstock.api.problems import Problem, type_of
from penstock.api.replicate import ModelPredictionRequest, PredictionRequest
from penstock.api.replicate_files import FileUrls, FileView
from penstock.api.schemas import (
    AheadView,
    Ask,
    AttemptView,
    BlockerView,
    CanceledView,
    DeletedView,
    DeliveryView,
    DiscoveryView,
    EventView,
    ExplainView,
    InputRequest,
    LiveView,
    ModelList,
    ModelView,
    ProgressView,
    QueueView,
    QuoteView,
    ReadyView,
    ResultView,
    RetriedView,
    SizeView,
    StatsView,
    SubmittedView,
    TaskList,
    TaskRequest,
    TaskView,
    View,
    WebhookView,
    WorkerList,
    WorkerView,
)
from penstock.api.uploads import OpenedView, UploadRequest, UploadView
from penstock.api.views import links
from penstock.batch import BatchState
from penstock.errors import codes
from penstock.runners.base import registry
from penstock.task import Priority, State
from penstock.upload import UploadState

TASK_ID = "tsk_019a9f3c5d108f3b2c71d04e6a95b8c2"
UPLOAD_ID = "upl_5f0c1d7a9b3e4286a1f4c07d92be63d8"
BATCH_ID = "bat_019a9f3c5d107be25d81c3f0927ad6e4"
_DIGEST = "5d6a1f0e9c3b7a2488d1e0f4b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5"
_CURSOR = "AAZg4T8OwsCOAYKyqQoMTg"
IMAGE_URL = "https://images.example.com/photo.jpg"

METRICS = """\
# HELP penstock_tasks_stored Task records, by status
# TYPE penstock_tasks_stored gauge
penstock_tasks_stored{status="PENDING"} 3.0
"""
EVENTS = """\
retry: 2000

id: RUNNING.1.infer.6
event: progress
data: {"ratio":0.25,"unit":"tiles","done":6,"total":24}

"""
SCORE = {"score": 5.6132, "distribution": [0.004, 0.011, 0.036, 0.112, 0.3, 0.306, 0.151, 0.055, 0.018, 0.007]}

_TASK = TaskView(
    task_id=TASK_ID,
    client_request_id="order-991",
    batch_id=None,
    custom_id=None,
    model="superres-x4",
    model_version="1",
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
        s3_key=f"results/default/{TASK_ID}/1.png",
        size=4_718_592,
        url=f"http://127.0.0.1:8000/v1/tasks/{TASK_ID}/result",
        sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        content_type="image/png",
        width=2048,
        height=1536,
        data=None,
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

_MODEL = ModelView(
    name="superres-x4",
    title="Super-resolution, 4×",
    version="1",
    licence="BSD-3-Clause (general), Apache-2.0 (clean)",
    source="realesr-general-x4v3 (Xintao Wang); SPAN x4 ch48 (Wan, Yu et al.)",
    produces="image",
    notes={"scale": 4, "formats": ["png", "jpeg", "webp"]},
    params={"type": "object", "properties": {"variant": {"enum": ["clean", "general"], "default": "general"}}},
)

_WORKER = WorkerView(
    id="gpu1-cuda0-4f2a",
    device="cuda:0",
    host="gpu1",
    models=("image-scoring-v1", "superres-x4"),
    slots=8,
    running=3,
    state="READY",
    started_at="2026-11-22T08:00:00.000Z",
)

_PREDICTIONS = "http://127.0.0.1:8000/replicate/v1/predictions"
_PREDICTION = PredictionView(
    id=TASK_ID,
    model="superres-x4",
    version="1",
    status="succeeded",
    input={"image": IMAGE_URL, "variant": "general"},
    output=f"http://127.0.0.1:8000/v1/tasks/{TASK_ID}/result",
    error=None,
    logs="",
    metrics={"predict_time": 2.1},
    created_at="2026-11-22T09:00:00.000Z",
    started_at="2026-11-22T09:00:00.004Z",
    completed_at="2026-11-22T09:00:02.104Z",
    urls=PredictionUrls(get=f"{_PREDICTIONS}/{TASK_ID}", cancel=f"{_PREDICTIONS}/{TASK_ID}/cancel"),
)
_GIVEN = {"image": IMAGE_URL, "variant": "general", "output_format": "webp"}
_TOLD = {"webhook": "https://shop.example.com/told", "webhook_events_filter": ["completed"]}
REPLICATED: dict[type[Ask], dict[str, Any]] = {
    PredictionRequest: {"version": "penstock/superres-x4", "input": _GIVEN, **_TOLD},
    ModelPredictionRequest: {"input": _GIVEN},
}
"""Requests in Replicate's words."""

_UPLOAD = UploadRequest(
    size=6_291_456,
    content_type="image/jpeg",
    sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
)
UPLOAD = msgspec.to_builtins(_UPLOAD)
"""The opening of an upload."""
BATCH = {
    "defaults": {"model": "image-scoring-v1"},
    "lines": [{"custom_id": "photo 1", "input": {"image_url": IMAGE_URL}}],
    "client_request_id": "album-42",
}
LINES = f'''{{"custom_id": "photo 1", "model": "image-scoring-v1", "input": {{"image_url": "{IMAGE_URL}"}}}}
{{"custom_id": "photo 2", "model": "superres-x4", "input": {{"image_url": "{IMAGE_URL}"}}}}
'''
_BATCH = BatchView(
    batch_id=BATCH_ID,
    status=BatchState.RUNNING,
    client_request_id="album-42",
    created_at="2026-11-22T09:00:00.000Z",
    finished_at=None,
    expires_at=None,
    counts=CountsView(
        total=50_000, waiting=48_700, queued=490, running=10, succeeded=799, failed=1, canceled=0, expired=0
    ),
    progress=ProgressView(ratio=0.016, unit="lines", done=800, total=50_000),
    eta_s=2952.0,
    defaults={"model": "image-scoring-v1"},
    metadata={"album": "42"},
    webhook=None,
    links=batch_links(BATCH_ID),
)
ENDED = (
    msgspec.json.Encoder()
    .encode_lines(
        [
            LineView(
                line=1,
                custom_id="photo 1",
                task_id=TASK_ID,
                status=State.SUCCESS,
                result=LineResultView(
                    url=f"http://127.0.0.1:8000/v1/tasks/{TASK_ID}/result",
                    content_type="application/json",
                    size=None,
                    sha256=None,
                    width=None,
                    height=None,
                    data=SCORE,
                ),
                error=None,
            )
        ]
    )
    .decode()
)

_ANSWERS: tuple[View, ...] = (
    _TASK,
    _BATCH,
    BatchList(data=(_BATCH,), has_more=True, next_cursor=_CURSOR),
    TaskList(data=(_TASK,), has_more=True, next_cursor=_CURSOR),
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
        workers=(_WORKER,),
        blockers=(
            BlockerView(
                code="retry_delay", detail="its last attempt failed; it waits", until="2026-11-22T09:00:09.000Z"
            ),
        ),
        eta_s=8.224,
    ),
    _PREDICTION,
    PredictionPage(next=f"{_PREDICTIONS}?cursor={_CURSOR}", previous=None, results=(_PREDICTION,)),
    OpenedView(
        upload_id=UPLOAD_ID,
        url=f"http://127.0.0.1:8000/v1/uploads/{UPLOAD_ID}?token=hZ3XkWm5wTqvJx0gQ2nB8sYdLrC7aPfE",
        method="PUT",
        headers={"content-length": str(_UPLOAD.size), "content-type": _UPLOAD.content_type},
        expires_at="2026-11-22T09:15:00.000Z",
    ),
    UploadView(
        upload_id=UPLOAD_ID,
        status=UploadState.READY,
        size=_UPLOAD.size,
        content_type=_UPLOAD.content_type,
        sha256=_UPLOAD.sha256,
        tasks=0,
        created_at="2026-11-22T09:00:00.000Z",
        expires_at="2026-11-23T09:00:04.512Z",
    ),
    FileView(
        id="file_5d6a1f0e9c3b7a2488d1e0f4",
        name="photo.jpg",
        content_type="image/jpeg",
        size=4,
        etag=_DIGEST,
        checksums={"sha256": _DIGEST},
        metadata={},
        created_at="2026-11-22T09:00:00.000Z",
        expires_at=None,
        urls=FileUrls(get="data:;base64,/9j/2Q=="),
    ),
    CanceledView(canceled=12, has_more=False),
    DeletedView(deleted=100, has_more=True),
    RetriedView(retried=12, has_more=False),
    _MODEL,
    ModelList(data=(_MODEL,)),
    WorkerList(data=(_WORKER,)),
    StatsView(
        tasks={"PENDING": 3, "RUNNING": 3, "SUCCESS": 812, "FAILED": 1, "CANCELED": 0, "EXPIRED": 0},
        queues=(QueueView(model="superres-x4", priority=Priority.NORMAL, depth=3, oldest_s=0.412),),
        workers={"READY": 1},
    ),
    ReadyView(status="ready", redis="ok", storage="ok", workers=1),
    LiveView(status="ok"),
    DiscoveryView(
        name="penstock",
        version=__version__,
        docs="/docs",
        openapi="/schema/openapi.json",
        links={"tasks": "/v1/tasks", "models": "/v1/models"},
    ),
)

PARAMETERS = {
    "task_id": TASK_ID,
    "batch_id": BATCH_ID,
    "options": '{"defaults": {"model": "image-scoring-v1"}}',
    "prediction_id": TASK_ID,
    "upload_id": UPLOAD_ID,
    "owner": "penstock",
    "name": "superres-x4",
    "model": "superres-x4",
    "priority": "high",
    "created_after": "2026-11-22T00:00:00Z",
    "created_before": "2026-11-23T00:00:00Z",
    "limit": 50,
    "wait": 30,
    "Idempotency-Key": "order-991",
    "Cancel-After": "5m",
    "Cache-Control": "no-cache",
    "Prefer": "wait=30",
    "Range": "bytes=1048576-",
    "Last-Event-ID": "RUNNING.1.infer.6",
}
"""Of parameters, by name; one that means something else in two places has none."""


def of_answers() -> Mapping[str, Any]:
    """By the name of the schema."""
    return {type(view).__name__: msgspec.to_builtins(view) for view in _ANSWERS}


def of_problems() -> Mapping[str, Any]:
    """By code: each refusal as it would be answered, with the title in place of an occurrence's own detail."""
    return {
        code: msgspec.to_builtins(
            Problem(
                type=type_of(code),
                title=error.title,
                status=error.status,
                detail=error.title,
                code=code,
                param=None,
                retryable=error.retryable,
                request_id="req_7f3c1a9e5b2d4f6081a3c5e7",
            )
        )
        for code, error in sorted(codes().items())
    }


def of_submit(model: str) -> dict[str, Any]:
    """The shortest task for this model, with its params as they are when left out, if they may be."""
    asked = TaskRequest(model=model, input=InputRequest(image_url=IMAGE_URL))
    example: dict[str, Any] = {"model": asked.model, "input": msgspec.to_builtins(asked.input)}
    try:
        defaults = msgspec.convert({}, registry()[model].params)
    except msgspec.ValidationError:
        return example
    return example | {"params": msgspec.to_builtins(defaults)}
