"""Examples of uploads, opened and received."""

from penstock.api.description.examples.parameters import UPLOAD_ID
from penstock.api.routes.uploads import OpenedView, UploadRequest, UploadView
from penstock.api.schemas.tasks import ResponseBody
from penstock.core.upload import UploadState

REQUEST = UploadRequest(
    size=6_291_456,
    content_type="image/jpeg",
    sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    name="photo.jpg",
)

ANSWERS: tuple[ResponseBody, ...] = (
    OpenedView(
        upload_id=UPLOAD_ID,
        url=f"http://127.0.0.1:8000/v1/uploads/{UPLOAD_ID}?token=hZ3XkWm5wTqvJx0gQ2nB8sYdLrC7aPfE",
        method="PUT",
        headers={"content-length": str(REQUEST.size), "content-type": REQUEST.content_type},
        expires_at="2026-11-22T09:15:00.000Z",
    ),
    UploadView(
        upload_id=UPLOAD_ID,
        status=UploadState.READY,
        size=REQUEST.size,
        content_type=REQUEST.content_type,
        sha256=REQUEST.sha256,
        tasks=0,
        name=REQUEST.name,
        created_at="2026-11-22T09:00:00.000Z",
        expires_at="2026-11-23T09:00:04.512Z",
    ),
)
