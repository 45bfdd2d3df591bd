"""Examples of the answers and requests of Replicate's API."""

from typing import Any

from penstock.api.description.examples.parameters import CURSOR, DIGEST, IMAGE, TASK_ID, UPLOAD_ID, VERSION_ID
from penstock.api.replicate.catalogue import (
    DeploymentAccount,
    DeploymentConfiguration,
    DeploymentPage,
    DeploymentView,
    ModelVersionPage,
    ModelVersionView,
    ReleaseView,
    ReplicateModelPage,
    ReplicateModelView,
)
from penstock.api.replicate.files import FilePageView, FileUrls, FileView
from penstock.api.replicate.predictions import PredictionPage, PredictionUrls, PredictionView
from penstock.api.replicate.requests import ModelPredictionRequest, PredictionRequest
from penstock.api.replicate.routes import WebhookSecretView
from penstock.api.schemas.tasks import ResponseBody
from penstock.intake.requests import RequestBody

REPLICATE = "http://127.0.0.1:8000/replicate/v1"
PREDICTIONS = f"{REPLICATE}/predictions"
PREDICTION = PredictionView(
    id=TASK_ID,
    model="penstock/superres-x4",
    version=VERSION_ID,
    status="succeeded",
    input={"image": IMAGE, "variant": "general"},
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

_INPUT = {"image": IMAGE, "variant": "general", "output_format": "webp"}
REQUESTS: dict[type[RequestBody], Any] = {
    PredictionRequest: {
        "version": "penstock/superres-x4",
        "input": _INPUT,
    },
    ModelPredictionRequest: {"input": _INPUT},
}

ANSWERS: tuple[ResponseBody, ...] = (
    PREDICTION,
    PredictionPage(next=f"{PREDICTIONS}?cursor={CURSOR}", previous=None, results=(PREDICTION,)),
    FILE,
    FilePageView(next=f"{REPLICATE}/files?cursor={CURSOR}", previous=None, results=(FILE,)),
    MODEL_VERSION,
    ModelVersionPage(next=None, previous=None, results=(MODEL_VERSION,)),
    REPLICATE_MODEL,
    ReplicateModelPage(next=None, previous=None, results=(REPLICATE_MODEL,)),
    DEPLOYMENT,
    DeploymentPage(next=None, previous=None, results=(DEPLOYMENT,)),
    WebhookSecretView(key="whsec_c2VjcmV0IG9mIGFuIGV4YW1wbGUsIG5vdCBvbmU="),
)
