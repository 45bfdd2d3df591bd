"""One example of every answer, and of every refusal, for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

import msgspec

from penstock import __version__
from penstock.api.description.specimens import (
    BATCH_ID,
    BATCH_VIEW,
    CURSOR,
    DEPLOYMENT,
    FILE,
    IMAGE_URL,
    MODEL,
    MODEL_VERSION,
    PREDICTION,
    PREDICTIONS,
    QUEUE,
    REPLICATE,
    REPLICATE_MODEL,
    STATUS,
    TASK,
    TASK_ID,
    UPLOAD_ID,
    UPLOAD_REQUEST,
    VERSION_ID,
    WORKER,
)
from penstock.api.http.problems import Problem, type_of
from penstock.api.replicate.catalogue import DeploymentPage, ModelVersionPage, ReplicateModelPage
from penstock.api.replicate.files import FilePageView
from penstock.api.replicate.predictions import PredictionPage
from penstock.api.replicate.routes import WebhookSecretView
from penstock.api.routes.uploads import OpenedView, UploadView
from penstock.api.schemas.batches import BatchList
from penstock.api.schemas.operators import (
    BlockerView,
    DiscoveryView,
    ExplainView,
    LiveView,
    ModelList,
    PurgedView,
    QueueList,
    ReadyView,
    StartedView,
    StatsView,
    WorkerList,
)
from penstock.api.schemas.render import links
from penstock.api.schemas.tasks import (
    AheadView,
    CanceledView,
    DeletedView,
    QuoteView,
    ResponseBody,
    RetriedView,
    SizeView,
    SubmittedView,
    TaskList,
)
from penstock.core.task import Priority, State
from penstock.core.upload import UploadState
from penstock.errors import codes
from penstock.intake.requests import InputRequest, TaskRequest
from penstock.models.base import registry


def _hit(matched: int, *, has_more: bool) -> dict[str, Any]:
    """What the answers of acts on all matching tasks have in common."""
    cursor = CURSOR if has_more else None
    return {"matched": matched, "task_ids": (TASK_ID,), "dry_run": False, "has_more": has_more, "next_cursor": cursor}


_ANSWERS: tuple[ResponseBody, ...] = (
    TASK,
    BATCH_VIEW,
    BatchList(data=(BATCH_VIEW,), has_more=True, next_cursor=CURSOR),
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
                code="retry_delay", detail="its last attempt failed; it waits", until="2026-11-22T09:00:09.000Z"
            ),
        ),
        eta_s=8.224,
    ),
    PREDICTION,
    PredictionPage(next=f"{PREDICTIONS}?cursor={CURSOR}", previous=None, results=(PREDICTION,)),
    OpenedView(
        upload_id=UPLOAD_ID,
        url=f"http://127.0.0.1:8000/v1/uploads/{UPLOAD_ID}?token=hZ3XkWm5wTqvJx0gQ2nB8sYdLrC7aPfE",
        method="PUT",
        headers={"content-length": str(UPLOAD_REQUEST.size), "content-type": UPLOAD_REQUEST.content_type},
        expires_at="2026-11-22T09:15:00.000Z",
    ),
    UploadView(
        upload_id=UPLOAD_ID,
        status=UploadState.READY,
        size=UPLOAD_REQUEST.size,
        content_type=UPLOAD_REQUEST.content_type,
        sha256=UPLOAD_REQUEST.sha256,
        tasks=0,
        created_at="2026-11-22T09:00:00.000Z",
        expires_at="2026-11-23T09:00:04.512Z",
    ),
    FILE,
    FilePageView(next=f"{REPLICATE}/files?cursor={CURSOR}", previous=None, results=(FILE,)),
    MODEL_VERSION,
    ModelVersionPage(next=None, previous=None, results=(MODEL_VERSION,)),
    REPLICATE_MODEL,
    ReplicateModelPage(next=None, previous=None, results=(REPLICATE_MODEL,)),
    DEPLOYMENT,
    DeploymentPage(next=None, previous=None, results=(DEPLOYMENT,)),
    WebhookSecretView(key="whsec_c2VjcmV0IG9mIGFuIGV4YW1wbGUsIG5vdCBvbmU="),
    CanceledView(canceled=12, **_hit(12, has_more=False)),
    DeletedView(deleted=100, **_hit(100, has_more=True)),
    RetriedView(retried=12, **_hit(12, has_more=False)),
    MODEL,
    ModelList(data=(MODEL,)),
    STATUS,
    WorkerList(data=(STATUS,)),
    QueueList(data=(QUEUE,)),
    PurgedView(canceled=12, has_more=False, matched=12, task_ids=(), dry_run=False),
    StatsView(
        tasks={"PENDING": 3, "RUNNING": 3, "SUCCESS": 812, "FAILED": 1, "CANCELED": 0, "EXPIRED": 0},
        queues=(QUEUE,),
        workers={"READY": 1},
    ),
    ReadyView(status="ready", redis="ok", storage="ok", storage_age_s=2.4, workers=1),
    StartedView(status="started"),
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
    "worker_id": "gpu1-cuda0-4f2a",
    "upload_id": UPLOAD_ID,
    "file_id": UPLOAD_ID,
    "output_id": TASK_ID,
    "file_name": f"{TASK_ID}.png",
    "version": VERSION_ID,
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
