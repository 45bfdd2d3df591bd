"""/v1/batches: submit, read, list, cancel, delete."""

import time
from contextlib import suppress
from typing import Annotated, Any

from litestar import Response, delete, get, post
from litestar.datastructures import State as AppState
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter
from loguru import logger
from msgspec import UNSET
from msgspec.structs import replace

from penstock.api.auditing import write_down_elsewhere
from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import json_of, pieces_of
from penstock.api.http.contents import BINARY, JSON, describe
from penstock.api.http.headers import is_current, submit_policies
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OF_ANY_TENANT, READ, SUBMIT
from penstock.api.schemas.batches import JSONL, BatchList, BatchView, batch_links, batch_version, batch_view
from penstock.api.services import Services, ServicesDep
from penstock.api.submits import POLL_S, CountingRefusals
from penstock.core.batch import Batch, new_batch_id
from penstock.errors import (
    BatchAlreadyFinal,
    BatchNotFinal,
    BatchNotFound,
    IdempotencyMismatch,
    InvalidRequest,
    MalformedRequest,
    PayloadTooLarge,
    PenstockError,
    RateLimited,
    ResultExpired,
    StorageUnavailable,
    TooManyBatches,
    UnsupportedMediaType,
    UploadMismatch,
    UploadNotFound,
    UploadNotReady,
    UrlBlocked,
    WebhookNotFound,
    WebhooksDisabled,
)
from penstock.intake.batch_lines import Slices, sliced, split
from penstock.intake.batch_start import BatchCall, lines_of_upload, start_batch
from penstock.intake.call import KEY_PATTERN, request_id_of
from penstock.intake.parse import decode
from penstock.intake.requests import BatchOptions, BatchRequest
from penstock.intake.uploads import ready_upload
from penstock.telemetry import metrics
from penstock.upkeep.retention import remove

MAX_INLINE_BYTES = 4 * 1024 * 1024
"""Most bytes of a JSON body, in which the lines are."""


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
    opt=SUBMIT | describe(body={JSON: BatchRequest} | dict.fromkeys(JSONL, BINARY)),
    request_max_body_size=None,
    responses={200: ResponseSpec(BatchView, description="The batch submitted before", generate_examples=False)}
    | documented(
        MalformedRequest, PayloadTooLarge, UnsupportedMediaType, InvalidRequest, IdempotencyMismatch, UrlBlocked,
        WebhooksDisabled, UploadNotFound, UploadNotReady, UploadMismatch, TooManyBatches, RateLimited,
        StorageUnavailable,
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
    """Answers 202 for a new batch, 200 for one that is there already."""
    limit, quotas = services.settings.api.rate_limit_per_minute, services.quotas_of(request.auth.tenant)
    with CountingRefusals(services):
        batch_options, slices = await _read(request, options, services)
        if idempotency_key is not None:
            name = request_id_of(idempotency_key, batch_options.client_request_id)
            batch_options = replace(batch_options, client_request_id=name)
        call = BatchCall(
            caller=request.auth,
            options=batch_options,
            base_url=str(request.base_url),
            traceparent=request.scope["state"]["traceparent"],
        )
        batch_id, max_batches = new_batch_id(), services.settings.queue.max_batches
        allowance = await services.store.batches.open(
            batch_id, request.auth.tenant, request.auth.id,
            rate_limit=limit, quotas=quotas, most=max_batches, client_request_id=batch_options.client_request_id,
        )  # fmt: skip
        started = await _start(batch_id, call, slices, services)
    headers = {"Location": batch_links(started).self_}
    headers |= submit_policies(limit, quotas.submits_per_minute, allowance)
    batch = await services.store.batches.batch(started, request.auth.tenant)
    if started != batch_id:
        return Response(_view(batch), status_code=200, headers=headers | {"Idempotent-Replayed": "true"})
    metrics.report("batches.started")
    logger.bind(batch_id=batch_id, lines=batch.total).info("batch accepted")
    return Response(_view(batch), headers=headers | {"Retry-After": str(POLL_S)})


@get(
    "/batches/{batch_id:str}",
    operation_id="getBatch",
    tags=["batches"],
    opt=READ | OF_ANY_TENANT,
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
    """Answers with `Retry-After` while the batch may still change."""
    batch = await services.store.batches.batch(batch_id, request.auth.tenant)
    headers = {"ETag": f'"{batch_version(batch)}"'} | ({} if batch.state.is_final else {"Retry-After": str(POLL_S)})
    if is_current(headers["ETag"], if_none_match):
        return Response[Any](None, status_code=304, headers=headers)
    return Response(_view(batch), headers=headers)


@get(
    "/batches",
    operation_id="listBatches",
    tags=["batches"],
    opt=READ | OF_ANY_TENANT,
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
    """Lists batches. Pages stay stable while batches are added: the cursor is a moment, not an offset."""
    before = None if cursor is None else state.cursors.read(cursor, request.auth.tenant)
    page = await services.store.batches.batches(request.auth.tenant, before=before, limit=limit)
    return BatchList(
        data=tuple(_view(batch) for batch in page.batches),
        has_more=page.next_before is not None,
        next_cursor=None if page.next_before is None else state.cursors.write(page.next_before, request.auth.tenant),
    )


@post(
    "/batches/{batch_id:str}/cancel",
    operation_id="cancelBatch",
    tags=["batches"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Cancel a batch",
    description="From then on none of its lines becomes a task. Its tasks that wait or run are canceled soon; until "
    "all have ended the batch is CANCELING. What has ended stays as it is. It can be "
    "repeated safely.",
    status_code=200,
    responses=documented(BatchNotFound, BatchAlreadyFinal, ResultExpired),
)
async def cancel_batch(request: ApiRequest, services: ServicesDep, batch_id: FromPath[str]) -> BatchView:
    """Answers 409 for a batch that has completed."""
    await services.store.batches.cancel(batch_id, request.auth.tenant)
    await write_down_elsewhere("batch.cancel", batch_id, request, services)
    return _view(await services.store.batches.batch(batch_id, request.auth.tenant))


@delete(
    "/batches/{batch_id:str}",
    operation_id="deleteBatch",
    tags=["batches"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Delete a batch",
    description="Deletes the batch, its lines and its manifest. Its tasks are kept as long as any others; `POST "
    "/v1/tasks/delete?batch_id=` deletes them. A batch with lines that have not ended has to be canceled first. "
    "It can be repeated safely.",
    status_code=204,
    responses=documented(BatchNotFound, BatchNotFinal, StorageUnavailable),
)
async def delete_batch(request: ApiRequest, services: ServicesDep, batch_id: FromPath[str]) -> None:
    """Makes the batch read as 410 for a week. With the storage away it answers 503; its lines go when that is back."""
    lines = await services.store.batches.delete(batch_id, request.auth.tenant)
    await write_down_elsewhere("batch.delete", batch_id, request, services)
    if lines:
        await remove(services.store.condemned, services.storage, [lines])


@post(
    "/batches/{batch_id:str}/webhook/redeliver",
    operation_id="redeliverBatchWebhook",
    tags=["batches"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Redeliver the last event of a batch",
    description="Delivers the last event again, under its `webhook-id`, with as many tries as a new event has.",
    status_code=202,
    responses=documented(BatchNotFound, WebhookNotFound, ResultExpired),
)
async def redeliver_batch(request: ApiRequest, services: ServicesDep, batch_id: FromPath[str]) -> Response[BatchView]:
    """Answers 404 also when the batch has not ended yet."""
    batch = await services.store.batches.batch(batch_id, request.auth.tenant)
    await services.patient_store.outbox.redeliver(batch_id, request.auth.tenant)
    await write_down_elsewhere("batch.redeliver", batch_id, request, services)
    return Response(_view(batch), status_code=202)


def _view(batch: Batch) -> BatchView:
    return batch_view(batch, now_ms=time.time_ns() // 1_000_000)


async def _read(request: ApiRequest, options: str | None, services: Services) -> tuple[BatchOptions, Slices]:
    """Return what the client says of the batch, and its lines, which are here or on their way."""
    max_bytes = services.settings.limits.max_batch_bytes
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == JSON:
        body = await json_of(request, BatchRequest, most=MAX_INLINE_BYTES)
        if (body.lines is UNSET) == (body.upload_id is UNSET):
            raise InvalidRequest("a batch needs either lines or an upload_id", param="lines")
        if body.lines is not UNSET:
            return body, sliced(body.lines)
        upload = await ready_upload(str(body.upload_id), request.auth, services)
        return body, split(lines_of_upload(upload, services), max_bytes)
    if media_type in JSONL:
        return decode((options or "{}").encode(), BatchOptions, inside="options"), split(pieces_of(request), max_bytes)
    raise UnsupportedMediaType(f"send a batch as Content-Type: {JSON} or {JSONL[0]}")


async def _start(batch_id: str, call: BatchCall, slices: Slices, services: Services) -> str:
    """Return the id of the batch, which is another one if this was submitted before.

    What was stored of a batch that is not started is deleted, here or, if this process dies before, by the sweep.
    """
    try:
        started = await start_batch(batch_id, call, slices, services)
    except Exception:
        await _give_up(batch_id, call.caller.tenant, services)
        raise
    if started.replayed:
        await _give_up(batch_id, call.caller.tenant, services)
    return started.id


async def _give_up(batch_id: str, tenant: str, services: Services) -> None:
    """Delete a batch, unless it was started after all."""
    with suppress(PenstockError):  # the sweep will do it; the answer to the client matters more
        if lines := await services.store.batches.delete(batch_id, tenant):
            await remove(services.store.condemned, services.storage, [lines])
