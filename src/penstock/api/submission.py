"""A submit: from the client's body to a queued task, with every check that can be made before a worker sees it."""

import asyncio
import binascii
import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec
from loguru import logger
from msgspec import Struct

from penstock import imaging
from penstock.api.guards import Caller
from penstock.api.problems import invalid
from penstock.api.reuse import reuse_digest
from penstock.api.schemas import ClientRequestId, TaskRequest
from penstock.api.services import Services
from penstock.api.webhooks import accepted
from penstock.errors import (
    InputTooLarge,
    InvalidRequest,
    MalformedRequest,
    ModelNotFound,
    PenstockError,
    StorageUnavailable,
    StoreUnavailable,
    UnsupportedImageFormat,
)
from penstock.runners.base import registry
from penstock.settings import Settings
from penstock.store import Submitted
from penstock.task import Dialect, OutputOptions, Request, Source, Submission, Webhook
from penstock.urlguard import check_input

URL_COST = 1000
"""Kilopixels that an image counts in fair shares while nobody has seen it: a usual photo."""

CLIENT_REQUEST_ID = "client_request_id"
KEPT_IN_RECORD_BYTES = 4 * 1024
"""An inline image of this size travels in the record of its task: the storage would take longer than the rest of a
submit (two syncs of a disk, or a request to S3, and as much again for the worker)."""

LOOKED_AT_HERE = 8 * 1024
"""Characters of a data: URI that the event loop looks at itself: a thread would take longer. A hostile header of this
size inflates to some megabytes at most, a few milliseconds of work."""

IMAGE_URL = "input.image_url"
INLINE_TYPES = ("", "image/png", "image/jpeg", "image/webp")

_DATA_URI = re.compile(r"data:(?P<type>[^;,]*)(?P<base64>;base64)?,", re.IGNORECASE)
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_DURATION = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s?)?", re.IGNORECASE)
CANCEL_AFTER_MIN_S, CANCEL_AFTER_MAX_S = 5, 604_800
KEY_PATTERN = r'^("([!#-\[\]-~]|\\["\\]){1,128}"|[!#-~]{1,128})$'
DURATION_PATTERN = r"^(([0-9]{1,4}h)?([0-9]{1,6}m)?[0-9]{1,7}s?|([0-9]{1,4}h)?[0-9]{1,6}m|[0-9]{1,4}h)$"
"""What is documented of the headers `Idempotency-Key` and `Cancel-After`; a little less than what is understood."""

_NO_CACHE = "no-cache"
_BARE = re.compile(r"[!#-~]+")


class Examined(Struct, frozen=True, kw_only=True):
    """What looking at a request has shown: the URL to fetch or the bytes themselves, and what fair shares count;
    `size` is width and height, None while nobody has seen the image."""

    fingerprint: str
    cost: int
    url: str | None = None
    image: bytes | None = None
    size: tuple[int, int] | None = None
    content_type: str = ""
    reuse_digest: str | None = None
    webhook: Webhook | None = None


def read_request(
    body: bytes,
    *,
    idempotency_key: str | None,
    cancel_after: str | None,
    cache_control: str | None,
    models: Collection[str],
) -> TaskRequest:
    """The client's request, with three headers as another place for members of the body: `Idempotency-Key` for
    `client_request_id`, `Cancel-After` for `finish_within_s`, `Cache-Control: no-cache` for `reuse: false`.

    Raises MalformedRequest, InvalidRequest, ModelNotFound.
    """
    try:
        asked = msgspec.json.decode(body, type=TaskRequest)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedRequest("the body is not JSON, or is nested too deeply") from error
    _check_params(asked, models)
    if idempotency_key is not None:
        asked = _with_key(asked, idempotency_key)
    if _NO_CACHE in (directive.strip().lower() for directive in (cache_control or "").split(",")):
        asked = msgspec.structs.replace(asked, reuse=False)
    return asked if cancel_after is None else _with_deadline(asked, cancel_after)


async def examine(
    asked: TaskRequest, services: Services, caller: Caller, *, base_url: str, dialect: Dialect = "penstock"
) -> Examined:
    """Check the webhook, and the input as far as it is here, and weigh it.

    Raises WebhooksDisabled, UrlBlocked, InvalidRequest, InputTooLarge, UnsupportedImageFormat, ImageTooLarge,
    ImageDecodeFailed.
    """
    webhook = accepted(asked.webhook, services, base_url, dialect)
    with _blaming(IMAGE_URL):
        return msgspec.structs.replace(await _examine_input(asked, services, caller), webhook=webhook)


async def _examine_input(asked: TaskRequest, services: Services, caller: Caller) -> Examined:
    """In a thread where there is much to look at."""
    url = asked.input.image_url
    if not _is_inline(url):
        return Examined(fingerprint=_fingerprint(asked), cost=URL_COST, url=str(check_input(url, services.policy)))
    if len(url) <= LOOKED_AT_HERE:
        return _examine_inline(asked, services.settings, caller)
    return await asyncio.to_thread(_examine_inline, asked, services.settings, caller)


async def hand_in(
    task_id: str,
    asked: TaskRequest,
    examined: Examined,
    *,
    caller: Caller,
    traceparent: str,
    services: Services,
) -> Submitted:
    """Queue the task under this new id, or answer it at once. An inline image that is not kept in the record is stored
    first, if the task may have to run, and deleted again when nothing came of it.

    Raises RateLimited, QueueFull, IdempotencyMismatch, StoreUnavailable, StorageUnavailable.
    """
    store, storage = services.store, services.storage
    rate_limit = services.settings.api.rate_limit_per_minute
    submission = _submission(task_id, asked, examined, caller=caller, traceparent=traceparent, services=services)
    key = submission.request.source.key
    if key is None or examined.image is None:
        return await store.submit(submission, rate_limit=rate_limit)
    if submission.reuse_digest is not None and not submission.must_run:
        answered = await store.submit_without_input(submission, rate_limit=rate_limit)
        if answered is not None:
            return answered
    await store.expect_answers()  # while Redis is away, retried submits must not fill the storage
    await storage.put(key, examined.image, examined.content_type)
    try:
        submitted = await store.submit(submission, rate_limit=rate_limit)
    except StoreUnavailable:
        raise  # perhaps only the answer is lost and the task is there: its input stays
    except PenstockError:
        await _discard(services, key)
        raise
    if submitted.id != submission.id or submitted.is_hit:
        await _discard(services, key)
    return submitted


def _check_params(asked: TaskRequest, models: Collection[str]) -> None:
    runner = registry().get(asked.model)
    if runner is None or asked.model not in models:
        raise ModelNotFound("no model of this name is served here; GET /v1/models lists them", param="model")
    try:
        msgspec.convert(asked.params, runner.params)
    except msgspec.ValidationError as error:
        raise invalid(error, inside="params") from error
    if asked.output.lossless and asked.output.format == "jpeg":
        raise InvalidRequest("JPEG is never lossless; ask for png or webp", param="output.lossless")


def _with_key(asked: TaskRequest, header: str) -> TaskRequest:
    """The draft has a quoted string; a bare one is what most clients send."""
    quoted = _QUOTED.fullmatch(header)
    if not quoted and not _BARE.fullmatch(header):
        raise MalformedRequest('Idempotency-Key must be one string, such as "order-991"', param="Idempotency-Key")
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if asked.client_request_id not in (None, key):
        raise InvalidRequest(
            "Idempotency-Key and client_request_id are both given, and differ", param=CLIENT_REQUEST_ID
        )
    try:
        checked = msgspec.convert(key, ClientRequestId)
    except msgspec.ValidationError as error:
        raise invalid(error, inside="Idempotency-Key") from error
    return msgspec.structs.replace(asked, client_request_id=checked)


def _with_deadline(asked: TaskRequest, header: str) -> TaskRequest:
    """Replicate's form: `30`, `90s`, `5m`, `1h30m45s`."""
    found = _DURATION.fullmatch(header.strip())
    if not found or not any(found.groups()):
        raise MalformedRequest("Cancel-After must be a time such as 90, 90s, 5m or 1h30m", param="Cancel-After")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total_s = hours * 3600 + minutes * 60 + seconds
    if not CANCEL_AFTER_MIN_S <= total_s <= CANCEL_AFTER_MAX_S:
        raise InvalidRequest("Cancel-After must be between 5 s and 7 days", param="Cancel-After")
    if asked.finish_within_s not in (None, total_s):
        raise InvalidRequest("Cancel-After and finish_within_s are both given, and differ", param="finish_within_s")
    return msgspec.structs.replace(asked, finish_within_s=float(total_s))


def _is_inline(url: str) -> bool:
    return url[:5].lower() == "data:"


def _examine_inline(asked: TaskRequest, settings: Settings, caller: Caller) -> Examined:
    image = _inline_bytes(asked.input.image_url, settings.limits.max_input_bytes)
    header = imaging.probe(image, max_megapixels=settings.limits.max_image_megapixels)
    if made := output_size(asked, header.width, header.height):
        imaging.check_holds(msgspec.convert(asked.output, OutputOptions, from_attributes=True), *made)
    return Examined(
        fingerprint=_fingerprint(asked),
        cost=max(1, header.width * header.height // 1000),
        image=image,
        size=(header.width, header.height),
        content_type=f"image/{header.format.lower()}",
        reuse_digest=reuse_digest(asked, image, caller) if settings.queue.reuse else None,
    )


def output_size(asked: TaskRequest, width: int, height: int) -> tuple[int, int] | None:
    """Of the result for an image of this size; None where there is no image, or nobody knows."""
    runner = registry()[asked.model]
    return runner.output_size(width, height, msgspec.convert(asked.params, runner.params))


def _inline_bytes(uri: str, max_bytes: int) -> bytes:
    head = _DATA_URI.match(uri)
    if head is None or not head["base64"]:
        raise InvalidRequest("a data: URI must look like data:image/png;base64,...")
    if head["type"].lower() not in INLINE_TYPES:
        raise UnsupportedImageFormat("a data: URI must be image/png, image/jpeg or image/webp")
    try:
        data = binascii.a2b_base64(uri[head.end() :], strict_mode=True)
    except ValueError as error:  # binascii.Error is one; characters outside of ASCII are another
        raise InvalidRequest("the data: URI is not valid base64") from error
    if len(data) > max_bytes:
        raise InputTooLarge(f"the image has {len(data)} bytes, the limit is {max_bytes}")
    return data


def _fingerprint(asked: TaskRequest) -> str:
    """Of all but `reuse`, which says nothing about the task, and comes as a header that proxies may add."""
    same = msgspec.structs.replace(asked, reuse=True)
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()


def _submission(
    task_id: str,
    asked: TaskRequest,
    examined: Examined,
    *,
    caller: Caller,
    traceparent: str,
    services: Services,
) -> Submission:
    settings = services.settings
    kept, stored = _places(examined.image)
    key = None if stored is None else f"inputs/{caller.tenant}/{task_id}"
    attempts = asked.retry.max_attempts if asked.retry else settings.queue.max_retries + 1
    return Submission(
        id=task_id,
        tenant=caller.tenant,
        caller=caller.id,
        priority=asked.priority,
        cost=examined.cost,
        request=Request(
            model=asked.model,
            source=Source(url=examined.url, key=key, data=kept),
            params=asked.params,
            output=msgspec.convert(asked.output, OutputOptions, from_attributes=True),
            client_request_id=asked.client_request_id,
            metadata=asked.metadata,
            traceparent=traceparent,
            webhook=examined.webhook,
        ),
        fingerprint=examined.fingerprint,
        max_retries=min(attempts - 1, settings.queue.max_retries),
        timeout_s=min(asked.timeout_s or settings.worker.task_timeout_s, settings.worker.task_timeout_s),
        start_within_s=asked.start_within_s,
        finish_within_s=asked.finish_within_s,
        result_ttl_s=asked.result_ttl_s or settings.queue.result_ttl_s,
        reuse_digest=examined.reuse_digest,
        must_run=not asked.reuse,
    )


def _places(image: bytes | None) -> tuple[bytes | None, bytes | None]:
    """An inline image as what the record keeps and what the storage does; one of them is None."""
    return (image, None) if image is not None and len(image) <= KEPT_IN_RECORD_BYTES else (None, image)


async def _discard(services: Services, key: str) -> None:
    try:
        await services.storage.delete(key)
    except StorageUnavailable as error:  # the answer to the client matters more
        logger.bind(key=key, reason=error.detail).warning("input left behind")


@contextmanager
def _blaming(param: str) -> Iterator[None]:
    """Errors inside are about this member of the request."""
    try:
        yield
    except PenstockError as error:
        error.param = error.param or param
        raise
