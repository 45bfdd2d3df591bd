"""/v1/batches: submit, read, list, cancel, collect, delete."""

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.datastructures import State as AppState
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response import Stream
from loguru import logger
from msgspec import UNSET

from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import pieces_of
from penstock.api.http.contents import BINARY, JSON, component, describe
from penstock.api.http.headers import is_current, rate_headers
from penstock.api.http.problems import documented
from penstock.api.routes.manifest import manifest
from penstock.api.routes.tasks import POLL_S, refusals_counted
from penstock.api.routes.webhooks import accepted
from penstock.api.schemas.batches import JSONL, BatchList, BatchView, batch_links, batch_version, batch_view
from penstock.api.services import Services, ServicesDep
from penstock.core.batch import Batch, BatchPlan, new_batch_id
from penstock.core.upload import Upload
from penstock.errors import (
    BatchAlreadyFinal,
    BatchNotFinal,
    BatchNotFound,
    IdempotencyMismatch,
    InvalidRequest,
    MalformedRequest,
    PayloadTooLarge,
    PenstockError,
    QueueFull,
    RateLimited,
    ResultExpired,
    StorageUnavailable,
    UnsupportedMediaType,
    UploadMismatch,
    UploadNotFound,
    UploadNotReady,
    UrlBlocked,
    WebhookNotFound,
    WebhooksDisabled,
)
from penstock.intake import batch_lines
from penstock.intake.enqueue import KEY_PATTERN, request_id_of
from penstock.intake.parse import decode
from penstock.intake.requests import BatchOptions, BatchRequest
from penstock.intake.uploads import ready_upload
from penstock.telemetry import metrics
from penstock.upkeep.retention import remove

MAX_INLINE_BYTES = 4 * 1024 * 1024
"""Of a JSON body: so much is decoded in a few milliseconds."""

READ_WITHIN_S = 600.0
"""How long an upload is kept at least when its lines begin to be read: many times what 50,000 lines take."""

Slices = AsyncIterator[Sequence[tuple[int, bytes | None]]]


@post(
    "/batches",
    operation_id="submitBatch", tags=["batches"],
    summary="Submit a batch",
    description="Queues up to 1,000 tasks that are in a JSON body, or up to 50,000 that are the lines of a JSONL body "
    "or of an upload; the options of a JSONL body are JSON in the query parameter `options`. All lines are checked "
    "first: if one is wrong, nothing is queued, and `errors` has the first 100 findings with their line numbers. Lines "
    "become tasks bit by bit, at low priority unless they say otherwise. Repeating a submit with its "
    "`client_request_id` (or `Idempotency-Key`) is safe.",
    status_code=202,
    opt=describe(body={JSON: BatchRequest} | dict.fromkeys(JSONL, BINARY)),
    request_max_body_size=None,
    responses={200: ResponseSpec(BatchView, description="The batch submitted before", generate_examples=False)}
    | documented(
        MalformedRequest, PayloadTooLarge, UnsupportedMediaType, InvalidRequest, IdempotencyMismatch, UrlBlocked,
        WebhooksDisabled, UploadNotFound, UploadNotReady, UploadMismatch, QueueFull, RateLimited, StorageUnavailable,
    ),
)  # fmt: skip
async def submit_batch(
    request: ApiRequest,
    services: ServicesDep,
    options: Annotated[
        str | None, QueryParameter(description="of a JSONL body: JSON with all members of the body but `lines`")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key",
            description="The same as client_request_id",
            schema_extra={"pattern": KEY_PATTERN},
        ),
    ] = None,
) -> Response[BatchView]:
    """202 for a new batch, 200 for one that is there already."""
    limit = services.settings.api.rate_limit_per_minute
    with refusals_counted(limit):
        asked, slices = await _asked(request, options, services)
        if idempotency_key is not None:
            name = request_id_of(idempotency_key, asked.client_request_id)
            asked = msgspec.structs.replace(asked, client_request_id=name)
        batch_id = new_batch_id()
        allowance = await services.batches.open(
            batch_id, request.auth.tenant, request.auth.id,
            rate_limit=limit, most=services.settings.queue.max_batches, client_request_id=asked.client_request_id,
        )  # fmt: skip
        started = await _started(batch_id, asked, slices, request, services)
    headers = {"Location": batch_links(started).self_}
    headers |= rate_headers("submit", limit, left=allowance.rate_left, reset_s=allowance.rate_reset_s)
    batch = await services.batches.batch(started, request.auth.tenant)
    if started != batch_id:
        return Response(_view(batch), status_code=200, headers=headers | {"Idempotent-Replayed": "true"})
    metrics.report("batches.started")
    logger.bind(batch_id=batch_id, lines=batch.total).info("batch accepted")
    return Response(_view(batch), headers=headers | {"Retry-After": str(POLL_S)})


@get(
    "/batches/{batch_id:str}",
    operation_id="getBatch",
    tags=["batches"],
    summary="Read a batch",
    description="Answers 304 while nothing has changed since the `ETag` in `If-None-Match`.",
    responses={304: ResponseSpec(None, description="Unchanged")} | documented(BatchNotFound, ResultExpired),
)
async def read_batch(
    request: ApiRequest,
    services: ServicesDep,
    batch_id: FromPath[str],
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
) -> Response[BatchView]:
    """`Retry-After` while it is worth looking again."""
    batch = await services.batches.batch(batch_id, request.auth.tenant)
    headers = {"ETag": f'"{batch_version(batch)}"'} | ({} if batch.state.is_final else {"Retry-After": str(POLL_S)})
    if is_current(headers["ETag"], if_none_match):
        return Response[Any](None, status_code=304, headers=headers)
    return Response(_view(batch), headers=headers)


@get(
    "/batches",
    operation_id="listBatches",
    tags=["batches"],
    summary="List batches, newest first",
    responses=documented(InvalidRequest),
)
async def list_batches(
    request: ApiRequest,
    services: ServicesDep,
    state: AppState,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, QueryParameter(format="cursor", description="`next_cursor` of a page")] = None,
) -> BatchList:
    """Pages stay stable while batches are added: the cursor is a moment, not an offset."""
    before = None if cursor is None else state.cursors.read(cursor)
    page = await services.batches.batches(request.auth.tenant, before=before, limit=limit)
    return BatchList(
        data=tuple(_view(batch) for batch in page.batches),
        has_more=page.next_before is not None,
        next_cursor=None if page.next_before is None else state.cursors.write(page.next_before),
    )


@post(
    "/batches/{batch_id:str}/cancel",
    operation_id="cancelBatch",
    tags=["batches"],
    summary="Cancel a batch",
    description="None of its lines becomes a task any more, and its tasks that wait or run are canceled, soon: the "
    "batch is CANCELING until they have. What has ended stays as it is. Repeating it is fine.",
    status_code=200,
    responses=documented(BatchNotFound, BatchAlreadyFinal, ResultExpired),
)
async def cancel_batch(request: ApiRequest, services: ServicesDep, batch_id: FromPath[str]) -> BatchView:
    """409 for a batch that has completed."""
    await services.batches.cancel(batch_id, request.auth.tenant)
    return _view(await services.batches.batch(batch_id, request.auth.tenant))


@delete(
    "/batches/{batch_id:str}",
    operation_id="deleteBatch",
    tags=["batches"],
    summary="Delete a batch",
    description="The batch, its lines and its manifest. Its tasks are kept as long as they would be without; `POST "
    "/v1/tasks/delete?batch_id=` deletes them. A batch with lines that have not ended has to be canceled first. "
    "Repeating it is fine.",
    status_code=204,
    responses=documented(BatchNotFound, BatchNotFinal, StorageUnavailable),
)
async def delete_batch(request: ApiRequest, services: ServicesDep, batch_id: FromPath[str]) -> None:
    """The batch reads as 410 afterwards, for a week. With the storage away it is 503, and done when it is back."""
    if lines := await services.batches.delete(batch_id, request.auth.tenant):
        await remove(services.condemned, services.storage, [lines])


@get(
    "/batches/{batch_id:str}/results",
    operation_id="getBatchResults",
    tags=["batches"],
    summary="How the lines of a batch have ended",
    description="JSONL, a LineView for each line that has ended by now, in the order in which they did. It can be read "
    "while the batch runs: go on with `start`, the number of lines that are known. A line whose task was retried comes "
    "once more when it has ended again. Clients whose `Accept` prefers application/x-ndjson get the same bytes by that "
    "name.",
    opt=describe(answers={200: dict.fromkeys(JSONL, BINARY | {"contentSchema": component("LineView")})}),
    responses=documented(BatchNotFound, ResultExpired, InvalidRequest, StorageUnavailable),
)
async def read_results(
    request: ApiRequest,
    services: ServicesDep,
    batch_id: FromPath[str],
    start: Annotated[int, QueryParameter(ge=0, le=2**53, description="how many lines to leave out")] = 0,
) -> Stream:
    """Streamed: 50,000 lines are never in memory at once. What is wrong with the first of them is refused."""
    batch = await services.batches.batch(batch_id, request.auth.tenant)
    rows = manifest(batch, services, str(request.base_url), start=start)
    first = await anext(rows, b"")
    called = request.accept.best_match(list(JSONL), default=JSONL[0])
    return Stream(_from(first, rows), media_type=called, headers={"Vary": "Accept"})


@post(
    "/batches/{batch_id:str}/webhook/redeliver",
    operation_id="redeliverBatchWebhook",
    tags=["batches"],
    summary="Tell the webhook again",
    description="The last event of the batch is delivered again, with all its tries and its old `webhook-id`.",
    status_code=202,
    responses=documented(BatchNotFound, WebhookNotFound, ResultExpired),
)
async def redeliver_batch(request: ApiRequest, services: ServicesDep, batch_id: FromPath[str]) -> Response[BatchView]:
    """404 also when it has not ended yet."""
    batch = await services.batches.batch(batch_id, request.auth.tenant)
    await services.patient_store.outbox.redeliver(batch_id, request.auth.tenant)
    return Response(_view(batch), status_code=202)


async def _from(first: bytes, others: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(others):
        yield first
        async for piece in others:
            yield piece


def _view(batch: Batch) -> BatchView:
    return batch_view(batch, now_ms=time.time_ns() // 1_000_000)


async def _asked(request: ApiRequest, options: str | None, services: Services) -> tuple[BatchOptions, Slices]:
    """What is said of the batch, and its lines, which are here or on their way."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared == JSON:
        asked = decode(await _whole(request), BatchRequest)
        if (asked.lines is UNSET) == (asked.upload_id is UNSET):
            raise InvalidRequest("a batch needs either lines or an upload_id", param="lines")
        if asked.lines is not UNSET:
            return asked, batch_lines.sliced(asked.lines)
        upload = await ready_upload(str(asked.upload_id), request.auth, services)
        return asked, batch_lines.split(_uploaded(upload, services), services.settings.limits.max_batch_bytes)
    if declared in JSONL:
        return decode((options or "{}").encode(), BatchOptions, inside="options"), batch_lines.split(
            pieces_of(request), services.settings.limits.max_batch_bytes
        )
    raise UnsupportedMediaType(f"send a batch as Content-Type: {JSON} or {JSONL[0]}")


async def _uploaded(upload: Upload, services: Services) -> AsyncGenerator[bytes, None]:
    """The bytes of an upload, which is not deleted meanwhile; afterwards nobody needs it.

    Raises UploadMismatch after the last one if they are not what was announced.
    """
    await services.uploads.hold(upload.id, READ_WITHIN_S)
    digest = hashlib.sha256()
    async with aclosing(await services.storage.stream(upload.key)) as pieces:
        async for piece in pieces:
            digest.update(piece)
            yield piece
    if upload.sha256 not in (None, digest.hexdigest()):
        raise UploadMismatch("the bytes have another sha256 than was announced", param="upload_id")


async def _whole(request: ApiRequest) -> bytes:
    body = bytearray()
    async for piece in pieces_of(request):
        body += piece
        if len(body) > MAX_INLINE_BYTES:
            raise PayloadTooLarge(f"lines in a JSON body have {MAX_INLINE_BYTES} bytes at most; send them as JSONL")
    return bytes(body)


async def _started(batch_id: str, asked: BatchOptions, slices: Slices, request: ApiRequest, services: Services) -> str:
    """The id of the batch, which is another one if this was submitted before. What came of a batch that is not started
    is deleted, here or, if we die before, by the sweep."""
    base_url = str(request.base_url)
    try:
        defaults = batch_lines.defaults_of(asked.defaults)
        batch_lines.check_defaults(defaults, services.policy)
        webhook = accepted(asked.webhook, services, base_url, "penstock")
        received = await batch_lines.Receiver(batch_id, defaults, request.auth, base_url, services).receive(slices)
        started = await services.batches.start(
            batch_id,
            request.auth.id,
            BatchPlan(
                defaults=asked.defaults,
                starts=received.starts,
                base_url=base_url,
                traceparent=request.scope["state"]["traceparent"],
                client_request_id=asked.client_request_id,
                metadata=asked.metadata,
                webhook=webhook,
            ),
            total=received.total,
            ttl_s=asked.result_ttl_s or services.settings.queue.result_ttl_s,
            fingerprint=_fingerprint(asked, received.digest),
        )
    except Exception:
        await _give_up(batch_id, request, services)
        raise
    if started.replayed:
        await _give_up(batch_id, request, services)
    return started.id


def _fingerprint(asked: BatchOptions, digest: str) -> str:
    said = {name: getattr(asked, name) for name in BatchOptions.__struct_fields__}
    return hashlib.sha256(msgspec.json.encode((said, digest), order="deterministic")).hexdigest()


async def _give_up(batch_id: str, request: ApiRequest, services: Services) -> None:
    """One that was started after all is left alone."""
    with suppress(PenstockError):  # the sweep will do it; the answer to the client matters more
        if lines := await services.batches.delete(batch_id, request.auth.tenant):
            await remove(services.condemned, services.storage, [lines])
