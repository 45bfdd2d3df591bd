"""/replicate/v1/files: where Replicate's clients store an open file before they name it in a prediction.

A file is an upload with a name, which is listed. It is deleted as uploads are: a while after its last prediction.
"""

import asyncio
import hashlib
import re
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post
from litestar.datastructures import State as AppState
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import body_of
from penstock.api.http.contents import BINARY, Schema, describe
from penstock.api.http.headers import rate_headers
from penstock.api.http.problems import documented
from penstock.api.http.scopes import READ, SUBMIT
from penstock.api.replicate.predictions import PREFIX, file_url
from penstock.api.schemas.render import moment
from penstock.api.schemas.tasks import Moment, ResponseBody
from penstock.api.services import Services, ServicesDep
from penstock.core.upload import FileFacts, Upload, upload_key
from penstock.errors import (
    InvalidRequest,
    MalformedRequest,
    PayloadTooLarge,
    RateLimited,
    StorageUnavailable,
    UnsupportedMediaType,
    UploadNotFound,
)
from penstock.intake.parse import UNREADABLE
from penstock.store.verdicts import no_upload
from penstock.telemetry import metrics
from penstock.upkeep.sweep import delete_upload_of

MEDIA_TYPE = "multipart/form-data"
CONTENT, METADATA = "content", "metadata"
MAX_PARTS = 16
MAX_NAME = 255
"""Characters; most file systems allow so many bytes."""
MAX_METADATA_BYTES = 16 * 1024
PUBLISH_S = 600.0
"""How long the upload is reserved while its bytes go to the storage."""
PAGE = 100
"""Files of one page."""

FORM: Schema = {
    "type": "object",
    "properties": {CONTENT: BINARY, METADATA: {"type": "string", "contentMediaType": "application/json"}},
    "required": [CONTENT],
}

ANY_TYPE = "application/octet-stream"
_TYPE = re.compile(r"[A-Za-z0-9.+_-]{1,32}/[A-Za-z0-9.+_-]{1,64}")


class FileUrls(ResponseBody, frozen=True):
    """`get` describes the file, and names it in the input of a prediction."""

    get: str


class FileView(ResponseBody, frozen=True):
    """A stored file; `urls.get` names it in the input of predictions. `expires_at` is when it is deleted; it is null
    while predictions use the file."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, Any]
    created_at: Moment
    expires_at: Moment | None
    urls: FileUrls


class FilePageView(ResponseBody, frozen=True):
    """A page of files, newest first; `next` is the URL of the next page."""

    next: str | None
    previous: str | None
    results: tuple[FileView, ...]


class ReceivedFile(Struct, frozen=True, kw_only=True):
    """A file with the declarations of the client that sent it; `sha256` is in hex."""

    facts: FileFacts
    content_type: str
    data: bytes
    sha256: str


@post(
    "/files",
    operation_id="createFile",
    tags=["replicate"],
    summary="Store a file for predictions",
    description="`urls.get` of the answer names the file in the input of a prediction.",
    status_code=201,
    opt=SUBMIT | describe(body={MEDIA_TYPE: FORM}),
    responses=documented(
        MalformedRequest, PayloadTooLarge, UnsupportedMediaType, InvalidRequest, RateLimited, StorageUnavailable
    ),
)
async def create_file(request: ApiRequest, services: ServicesDep) -> FileView:
    """Stores any file; a prediction that names it checks whether it is an image."""
    declared, options = parse_options_header(request.headers.get("content-type", ""))
    if declared != MEDIA_TYPE:
        raise UnsupportedMediaType(f"send the file as {MEDIA_TYPE}")
    # In a thread: the event loop would stand still while the largest body is parsed and digested.
    file = await asyncio.to_thread(file_of_form, await body_of(request), options.get("boundary", ""))
    return _view(await _store(file, request, services), str(request.base_url))


@get(
    "/files",
    operation_id="listFiles",
    tags=["replicate"],
    opt=READ,
    summary="List files, newest first",
    responses=documented(InvalidRequest),
)
async def list_files(
    request: ApiRequest,
    services: ServicesDep,
    state: AppState,
    cursor: Annotated[str | None, QueryParameter(format="cursor", description="from `next` of the page before")] = None,
) -> FilePageView:
    """Lists the files of the API key. A page may be short although another one follows."""
    caller, base_url = request.auth, str(request.base_url)
    before = None if cursor is None else state.cursors.read(cursor, caller.tenant)
    page = await services.store.uploads.files(tenant=caller.tenant, caller=caller.id, before=before, limit=PAGE)
    after = page.next_before
    further = None if after is None else state.cursors.write(after, caller.tenant)
    return FilePageView(
        next=further and f"{base_url.rstrip('/')}{PREFIX}/files?cursor={further}",
        previous=None,
        results=tuple(_view(file, base_url) for file in page.files),
    )


@get(
    "/files/{file_id:str}",
    operation_id="getFile",
    tags=["replicate"],
    opt=READ,
    summary="Read what is known of a file",
    responses=documented(UploadNotFound),
)
async def read_file(request: ApiRequest, services: ServicesDep, file_id: FromPath[str]) -> FileView:
    """Answers 404 for a file of another API key."""
    caller = request.auth
    upload = await services.store.uploads.owned(file_id, tenant=caller.tenant, caller=caller.id)
    return _view(upload, str(request.base_url))


@delete(
    "/files/{file_id:str}",
    operation_id="deleteFile",
    tags=["replicate"],
    opt=SUBMIT,
    summary="Delete a file",
    description="The file is no longer listed. It is deleted at once or, while predictions use it, after the last of "
    "them is deleted.",
    status_code=204,
    responses=documented(UploadNotFound, StorageUnavailable),
)
async def delete_file(request: ApiRequest, services: ServicesDep, file_id: FromPath[str]) -> None:
    """Deletes the bytes later if the storage cannot be reached now."""
    caller = request.auth
    if await services.store.uploads.retire_file(file_id, tenant=caller.tenant, caller=caller.id):
        await delete_upload_of(services.store.uploads, services.storage, caller.tenant, file_id)


ROUTES = (create_file, list_files, read_file, delete_file)


async def _store(received: ReceivedFile, request: ApiRequest, services: Services) -> Upload:
    """Return the upload that has the bytes of the file. Raises RateLimited, StorageUnavailable."""
    caller, limit = request.auth, services.settings.api.rate_limit_per_minute
    uploads, upload_id = services.store.uploads, services.new_upload_id()
    try:
        await uploads.open(
            upload_id,
            tenant=caller.tenant,
            caller=caller.id,
            size=len(received.data),
            content_type=received.content_type,
            sha256=received.sha256,
            token=None,
            url_ttl_s=0,
            late_s=PUBLISH_S,
            unused_ttl_s=services.settings.storage.upload_ttl_s,
            rate_limit=limit,
            quotas=services.quotas_of(caller.tenant),
            file=received.facts,
        )
    except RateLimited as error:
        error.headers |= rate_headers("upload", limit, left=0, reset_s=error.retry_after_s or 1)
        raise
    metrics.report("uploads", outcome="opened")
    await uploads.hold(upload_id, PUBLISH_S, sha256=received.sha256)  # so nobody has to read the bytes for their digest
    await services.storage.put(upload_key(caller.tenant, upload_id), received.data, received.content_type)
    if await uploads.arrive(upload_id):
        metrics.report("uploads", outcome="completed")
    return await uploads.owned(upload_id, tenant=caller.tenant, caller=caller.id)


def _view(upload: Upload, base_url: str) -> FileView:
    """Raises UploadNotFound for an upload that is not, or no longer, a file."""
    if upload.file is None or upload.sha256 is None:
        raise no_upload(upload.id)
    return FileView(
        id=upload.id,
        name=upload.file.name,
        content_type=upload.content_type,
        size=upload.size,
        etag=upload.sha256,
        checksums={"sha256": upload.sha256},
        metadata=upload.file.metadata,
        created_at=moment(upload.created),
        expires_at=None if upload.due is None else moment(upload.due),
        urls=FileUrls(get=file_url(upload.id, base_url)),
    )


def file_of_form(body: bytes, boundary: str) -> ReceivedFile:
    """Return the file that a form has. Raises MalformedRequest, InvalidRequest."""
    parts = _parts(body, boundary)
    if CONTENT not in parts:
        raise InvalidRequest("the file is missing", param=CONTENT)
    segment, data = parts[CONTENT]
    if not data:
        raise InvalidRequest("the file is empty", param=CONTENT)
    _, metadata = parts.get(METADATA, (None, b"{}"))
    declared = segment.content_type or ""
    return ReceivedFile(
        facts=FileFacts(name=(segment.filename or CONTENT)[:MAX_NAME], metadata=_metadata(metadata)),
        content_type=declared if _TYPE.fullmatch(declared) else ANY_TYPE,
        data=bytes(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _metadata(text: bytes | bytearray) -> dict[str, Any]:
    if len(text) > MAX_METADATA_BYTES:
        raise InvalidRequest(f"metadata has more than {MAX_METADATA_BYTES} bytes", param=METADATA)
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE as error:
        raise InvalidRequest("metadata must be a JSON object", param=METADATA) from error


def _parts(body: bytes, boundary: str) -> dict[str, tuple[MultipartSegment, bytearray]]:
    """The parts by name; the first of several with one name counts. Raises MalformedRequest."""
    parts: list[tuple[MultipartSegment, bytearray]] = []
    try:
        with PushMultipartParser(boundary, max_segment_count=MAX_PARTS) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    parts.append((event, bytearray()))
                elif event:
                    parts[-1][1].extend(event)
    except (MultipartError, ValueError) as error:
        raise MalformedRequest(f"the body is not {MEDIA_TYPE}") from error
    return {segment.name: (segment, data) for segment, data in reversed(parts)}  # so the first of a name wins
