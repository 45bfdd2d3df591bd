"""/v1/uploads: files that are too big for JSON; a client sends a file once and names it in tasks."""

import hashlib
import hmac
import secrets
from typing import Annotated, Literal

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, QueryParameter
from msgspec import Meta
from msgspec.structs import force_setattr

from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import encoding_of, json_of, pieces_of
from penstock.api.http.contents import BINARY, JSON, describe
from penstock.api.http.headers import rate_headers
from penstock.api.http.problems import documented
from penstock.api.http.scopes import BY_URL, READ, SUBMIT
from penstock.api.schemas.render import moment
from penstock.api.schemas.tasks import Moment, ResponseBody
from penstock.api.services import Services, ServicesDep
from penstock.core.media_types import file_name
from penstock.core.upload import Upload, UploadState, upload_key
from penstock.errors import (
    InvalidRequest,
    MalformedRequest,
    PayloadTooLarge,
    RateLimited,
    StorageUnavailable,
    UnsupportedMediaType,
    UploadInUse,
    UploadMismatch,
    UploadNotFound,
    UploadNotReady,
)
from penstock.intake.requests import RequestBody
from penstock.intake.uploads import check_arrival, receive
from penstock.storage import LocalStorage, UploadLink
from penstock.store.verdicts import no_upload
from penstock.telemetry import metrics
from penstock.upkeep.sweep import delete_upload_of

LATE_S = 3600.0
"""Longest time that bytes may arrive in a bucket after their link has ended: it checks the link when they begin."""

TOKEN_BYTES = 24
MAX_NAME = 255

_WORD = r"[A-Za-z0-9.+_-]+"
_MEDIA_TYPE = rf'^({_WORD}/{_WORD}( ?; ?{_WORD}=({_WORD}|"[A-Za-z0-9.+_ -]*"))*)?(?!\n)$'
"""A media type with its parameters, or nothing, which browsers send for a file that they do not know."""
UNKNOWN_TYPE = "application/octet-stream"


class UploadRequest(RequestBody, frozen=True):
    """A file that is going to be sent. The bytes must have this size, and this sha256 if it is given. A task can reuse
    the result of an equal one only if the sha256 is known."""

    size: Annotated[int, Meta(ge=1, description="Bytes; at most limits.max_upload_bytes")]
    content_type: Annotated[str, Meta(max_length=128, pattern=_MEDIA_TYPE)] = UNKNOWN_TYPE
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$", description="In hex")] | None = None
    name: Annotated[str, Meta(max_length=MAX_NAME, description="Of the file, for the model")] | None = None

    def __post_init__(self) -> None:
        """Replace an empty media type by the one for unknown bytes."""
        if not self.content_type:
            force_setattr(self, "content_type", UNKNOWN_TYPE)


class OpenedView(ResponseBody, frozen=True):
    """Where to send the bytes: with `method` to `url`, with these `headers` and without an API key. The request must
    begin before `expires_at`."""

    upload_id: str
    url: str
    method: Literal["PUT"]
    headers: dict[str, str]
    expires_at: Moment


class UploadView(ResponseBody, frozen=True):
    """An upload. `expires_at` is when it is deleted; it is null while the number `tasks` of tasks use it.
    `sha256` is null until it is known."""

    upload_id: str
    status: UploadState
    size: int
    content_type: str
    sha256: str | None
    tasks: int
    name: str | None
    created_at: Moment
    expires_at: Moment | None


@post(
    "/uploads",
    operation_id="openUpload",
    tags=["uploads"],
    summary="Open an upload",
    description="Answers where to send the bytes of a file: to the bucket, if there is one, or to this server. Then "
    "name the upload in tasks by `input.upload_id`. An upload that no task uses is deleted after a while.",
    opt=SUBMIT | describe(body={JSON: UploadRequest}),
    status_code=201,
    responses=documented(
        MalformedRequest, PayloadTooLarge, UnsupportedMediaType, InvalidRequest, RateLimited, StorageUnavailable
    ),
)
async def open_upload(request: ApiRequest, services: ServicesDep) -> Response[OpenedView]:
    """Stores the record of the upload; the bytes come later."""
    asked = _checked(await json_of(request, UploadRequest), services)
    caller, limit = request.auth, services.settings.api.rate_limit_per_minute
    upload_id = services.new_upload_id()
    link = await services.storage.upload_link(
        upload_key(caller.tenant, upload_id), size=asked.size, content_type=asked.content_type, sha256=asked.sha256
    )
    token = None if link else secrets.token_urlsafe(TOKEN_BYTES)
    try:
        opened = await services.store.uploads.open(
            upload_id,
            tenant=caller.tenant,
            caller=caller.id,
            size=asked.size,
            content_type=asked.content_type,
            sha256=asked.sha256,
            token=token and _digest(token),
            url_ttl_s=services.settings.storage.url_ttl_s,
            late_s=LATE_S if link else 0,
            unused_ttl_s=services.settings.storage.upload_ttl_s,
            rate_limit=limit,
            quotas=services.quotas_of(caller.tenant),
            name=file_name(asked.name or ""),
        )
    except RateLimited as error:
        error.headers |= rate_headers("upload", limit, left=0, reset_s=error.retry_after_s or 1)
        raise
    metrics.report("uploads", outcome="opened")
    where = link or _own_link(request, upload_id, token, asked)
    view = OpenedView(
        upload_id=upload_id, url=where.url, method="PUT", headers=where.headers, expires_at=moment(opened.url_until)
    )
    headers = {"Location": f"/v1/uploads/{upload_id}"}
    headers |= rate_headers("upload", limit, left=opened.rate_left, reset_s=opened.rate_reset_s)
    return Response(view, headers=headers)


@put(
    "/uploads/{upload_id:str}",
    operation_id="sendUpload",
    tags=["uploads"],
    summary="Send the bytes of an upload",
    description="Send them to the `url` of the opened upload, which needs no API key. All bytes are stored when this "
    "answers. It can be repeated safely with the same bytes.",
    status_code=200,
    request_max_body_size=None,
    opt=BY_URL | describe(body={"*/*": BINARY}),
    security=[{"uploadToken": []}],
    responses=documented(UploadNotFound, UploadMismatch, MalformedRequest, RateLimited, StorageUnavailable),
)
async def send_upload(
    request: ApiRequest, services: ServicesDep, upload_id: FromPath[str], token: Annotated[str, QueryParameter()] = ""
) -> UploadView:
    """Writes the bytes to the disk as they come, and no more of them than were announced."""
    uploads, storage = services.of(upload_id).store.uploads, services.storage
    upload = await uploads.find(upload_id)
    if upload is None or not _is_let_in(upload, token) or not isinstance(storage, LocalStorage):
        raise no_upload(upload_id)
    # A wrong Content-Length is refused before the bytes come; with a compression it is not the size of the file.
    if encoding_of(request) is None and request.content_length not in (None, upload.size):
        raise UploadMismatch(f"{request.content_length} bytes were declared, {upload.size} were announced")
    try:
        with request.app.state.tenant_limits.counted(upload.tenant):
            await receive(upload, pieces_of(request), storage, uploads)
    except (UploadMismatch, MalformedRequest):
        metrics.report("uploads", outcome="broken")
        raise
    return _view(await uploads.owned(upload_id, tenant=upload.tenant, caller=upload.caller))


@get(
    "/uploads/{upload_id:str}",
    operation_id="getUpload",
    tags=["uploads"],
    opt=READ,
    summary="Read an upload",
    responses=documented(UploadNotFound, StorageUnavailable),
)
async def read_upload(request: ApiRequest, services: ServicesDep, upload_id: FromPath[str]) -> UploadView:
    """Answers the upload, which is READY when its bytes are stored."""
    caller = request.auth
    upload = await services.store.uploads.owned(upload_id, tenant=caller.tenant, caller=caller.id)
    try:
        return _view(await check_arrival(upload, services))
    except (UploadNotReady, UploadMismatch):
        return _view(upload)


@delete(
    "/uploads/{upload_id:str}",
    operation_id="deleteUpload",
    tags=["uploads"],
    opt=SUBMIT,
    summary="Delete an upload",
    description="Deletes an upload that no task uses. One that is in use is deleted after the last of its tasks.",
    status_code=204,
    responses=documented(UploadNotFound, UploadInUse, StorageUnavailable),
)
async def delete_upload(request: ApiRequest, services: ServicesDep, upload_id: FromPath[str]) -> None:
    """Ends the use of the upload at once. If the storage cannot be reached, the bytes are deleted later."""
    caller = request.auth
    await services.store.uploads.retire(upload_id, tenant=caller.tenant, caller=caller.id)
    await delete_upload_of(services.store.uploads, services.storage, caller.tenant, upload_id)


def _checked(asked: UploadRequest, services: Services) -> UploadRequest:
    if asked.size > services.settings.limits.max_upload_bytes:
        limit = services.settings.limits.max_upload_bytes
        raise PayloadTooLarge(f"the file has {asked.size} bytes, the limit is {limit}", param="size")
    return asked


def _own_link(request: ApiRequest, upload_id: str, token: str | None, asked: UploadRequest) -> UploadLink:
    url = f"{str(request.base_url).rstrip('/')}/v1/uploads/{upload_id}?token={token}"
    return UploadLink(url, {"content-length": str(asked.size), "content-type": asked.content_type})


def _is_let_in(upload: Upload, token: str) -> bool:
    return upload.is_open and upload.token is not None and hmac.compare_digest(upload.token, _digest(token))


def _digest(token: str) -> str:
    # Redis has only the digest of a token, so that whoever reads a backup cannot send bytes.
    return hashlib.sha256(token.encode()).hexdigest()


def _view(upload: Upload) -> UploadView:
    return UploadView(
        upload_id=upload.id,
        status=upload.state,
        size=upload.size,
        content_type=upload.content_type,
        sha256=upload.sha256,
        tasks=upload.tasks,
        name=upload.name,
        created_at=moment(upload.created),
        expires_at=None if upload.due is None else moment(upload.due),
    )
