"""What the examples of the document show: one task, one batch, one worker and so on, as they would be answered."""

from typing import Any

import msgspec

from penstock.api.replicate.catalogue import (
    DeploymentAccount,
    DeploymentConfiguration,
    DeploymentView,
    ModelVersionView,
    ReleaseView,
    ReplicateModelView,
)
from penstock.api.replicate.files import FileUrls, FileView
from penstock.api.replicate.predictions import PredictionUrls, PredictionView
from penstock.api.replicate.routes import ModelPredictionRequest, PredictionRequest
from penstock.api.routes.uploads import UploadRequest
from penstock.api.schemas.batches import BatchView, CountsView, LineResultView, LineView, batch_links
from penstock.api.schemas.operators import (
    LimitsView,
    MemoryView,
    ModelView,
    PauseView,
    QueueView,
    RunningView,
    VersionView,
    WorkerStatusView,
    WorkerView,
)
from penstock.api.schemas.render import links
from penstock.api.schemas.tasks import (
    AttemptView,
    DeliveryView,
    EventView,
    ProgressView,
    ResultView,
    TaskView,
    WebhookView,
)
from penstock.core.batch import BatchState
from penstock.core.task import Priority, State
from penstock.intake.requests import RequestBody

TASK_ID = "tsk_019a9f3c5d108f3b2c71d04e6a95b8c2"
UPLOAD_ID = "upl_5f0c1d7a9b3e4286a1f4c07d92be63d8"
BATCH_ID = "bat_019a9f3c5d107be25d81c3f0927ad6e4"
DIGEST = "5d6a1f0e9c3b7a2488d1e0f4b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5"
CURSOR = "AAZg4T8OwsCOAYKyqQoMTg"
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

TASK = TaskView(
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
        s3_key=f"penstock/results/default/{TASK_ID}/1.png",
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

MODEL = ModelView(
    name="superres-x4",
    title="Super-resolution, 4×",
    version="1",
    versions=(VersionView(version="1", digest="1 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"),),
    licence="BSD-3-Clause (general), Apache-2.0 (clean)",
    source="realesr-general-x4v3 (Xintao Wang); SPAN x4 ch48 (Wan, Yu et al.)",
    produces="image",
    score_range=None,
    limits=LimitsView(
        input_formats=("image/png", "image/jpeg", "image/webp"),
        input_bytes=52_428_800,
        input_megapixels=50,
        timeout_s=600.0,
    ),
    notes={"scale": 4, "formats": ["png", "jpeg", "webp"]},
    params={"type": "object", "properties": {"variant": {"enum": ["clean", "general"], "default": "general"}}},
)

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
        process=2_214_592_512, tasks=301_989_888, tasks_limit=20_615_843_020, device_limit=23_806_869_504
    ),
    spool_full=False,
)
STATUS = WorkerStatusView(
    **msgspec.structs.asdict(WORKER),
    tasks=(
        RunningView(
            task_id=TASK_ID,
            model="superres-x4",
            priority=Priority.HIGH,
            stage="infer",
            claimed_at="2026-11-22T09:00:00.004Z",
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

REPLICATE = "http://127.0.0.1:8000/replicate/v1"
PREDICTIONS = f"{REPLICATE}/predictions"
VERSION_ID = "0c2ad5e1b09f3d4768e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7"
PREDICTION = PredictionView(
    id=TASK_ID,
    model="penstock/superres-x4",
    version=VERSION_ID,
    status="succeeded",
    input={"image": IMAGE_URL, "variant": "general"},
    output=f"{PREDICTIONS}/{TASK_ID}/output/{TASK_ID}.png?token=hZ3XkWm5wTqvJx0gQ2nB8sYd",
    error=None,
    logs="",
    metrics={"predict_time": 2.1},
    created_at="2026-11-22T09:00:00.000Z",
    started_at="2026-11-22T09:00:00.004Z",
    completed_at="2026-11-22T09:00:02.104Z",
    urls=PredictionUrls(get=f"{PREDICTIONS}/{TASK_ID}", cancel=f"{PREDICTIONS}/{TASK_ID}/cancel"),
)
MODEL_VERSION = ModelVersionView(
    id=VERSION_ID,
    created_at="2026-11-20T12:00:00.000Z",
    cog_version="",
    openapi_schema={
        "openapi": "3.1.0",
        "info": {"title": "Super-resolution, 4×", "version": "1"},
        "paths": {},
        "components": {
            "schemas": {
                "Input": {
                    "title": "Input",
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "uri"}},
                    "required": ["image"],
                },
                "Output": {"title": "Output", "type": "string", "format": "uri"},
            }
        },
    },
)
REPLICATE_MODEL = ReplicateModelView(
    url=f"{REPLICATE}/models/penstock/superres-x4",
    owner="penstock",
    name="superres-x4",
    description="Super-resolution, 4×",
    visibility="private",
    is_official=False,
    github_url=None,
    paper_url=None,
    license_url=None,
    run_count=0,
    cover_image_url=None,
    default_example=None,
    latest_version=MODEL_VERSION,
)
DEPLOYMENT = DeploymentView(
    owner="penstock",
    name="superres-x4",
    current_release=ReleaseView(
        number=1,
        model="penstock/superres-x4",
        version=VERSION_ID,
        created_at="2026-11-20T12:00:00.000Z",
        created_by=DeploymentAccount(type="organization", username="penstock", name="Penstock"),
        configuration=DeploymentConfiguration(hardware="cuda:0", min_instances=1, max_instances=1),
    ),
)
FILE = FileView(
    id=UPLOAD_ID,
    name="photo.jpg",
    content_type="image/jpeg",
    size=8346,
    etag=DIGEST,
    checksums={"sha256": DIGEST},
    metadata={},
    created_at="2026-11-22T09:00:00.000Z",
    expires_at="2026-11-23T09:00:00.000Z",
    urls=FileUrls(get=f"{REPLICATE}/files/{UPLOAD_ID}"),
)
GIVEN = {"image": IMAGE_URL, "variant": "general", "output_format": "webp"}
TOLD = {"webhook": "https://shop.example.com/told", "webhook_events_filter": ["completed"]}
REPLICATED: dict[type[RequestBody], dict[str, Any]] = {
    PredictionRequest: {"version": "penstock/superres-x4", "input": GIVEN, **TOLD},
    ModelPredictionRequest: {"input": GIVEN},
}
"""Requests in Replicate's words."""

UPLOAD_REQUEST = UploadRequest(
    size=6_291_456,
    content_type="image/jpeg",
    sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
)
UPLOAD = msgspec.to_builtins(UPLOAD_REQUEST)
"""The opening of an upload."""
BATCH = {
    "defaults": {"model": "image-scoring-v1"},
    "lines": [{"custom_id": "photo 1", "input": {"image_url": IMAGE_URL}}],
    "client_request_id": "album-42",
}
LINES = f'''{{"custom_id": "photo 1", "model": "image-scoring-v1", "input": {{"image_url": "{IMAGE_URL}"}}}}
{{"custom_id": "photo 2", "model": "superres-x4", "input": {{"image_url": "{IMAGE_URL}"}}}}
'''
BATCH_VIEW = BatchView(
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
