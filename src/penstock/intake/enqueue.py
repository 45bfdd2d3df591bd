"""A submit: from the client's body to a queued task, with every check that can be made before a worker sees it."""

import asyncio
import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec
from loguru import logger
from msgspec import UNSET, Struct

from penstock.api.http.auth import Caller
from penstock.api.routes.webhooks import accepted
from penstock.api.services import Services
from penstock.core.events import Dialect, Webhook
from penstock.core.request import Line, OutputOptions, Request, Source
from penstock.core.submission import EnqueuePermit, Submission
from penstock.core.upload import Upload
from penstock.errors import (
    InputTooLarge,
    InvalidRequest,
    MalformedRequest,
    ModelNotFound,
    PenstockError,
    StorageUnavailable,
    StoreUnavailable,
)
from penstock.intake.inline import bytes_of, is_inline, is_long, refuse_bare_base64
from penstock.intake.parse import convert, decode
from penstock.intake.requests import ClientRequestId, InputRequest, TaskRequest
from penstock.intake.reuse_digest import looking, reuse_digest
from penstock.intake.uploads import beginning_of, check_digest, ready_upload
from penstock.models import imaging
from penstock.models.base import registry
from penstock.net.guard import check_input
from penstock.settings import Settings
from penstock.storage import CHUNK_BYTES
from penstock.store import Submitted

UNSEEN = 0
"""Kilopixels of an image that nobody has seen: it counts as a mean task of its model."""

SHOWN_MODELS = 20
"""Names of models that a client is told of when it has asked for another."""

CLIENT_REQUEST_ID = "client_request_id"
KEPT_IN_RECORD_BYTES = 4 * 1024
"""An inline image of this size travels in the record of its task: two syncs of a disk would take longer."""

BEGINNING_BYTES = CHUNK_BYTES
"""Of an upload, read for its header: all of most photos, and of the others more than their metadata takes."""

IMAGE_URL, UPLOAD_ID = "input.image_url", "input.upload_id"

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_DURATION = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s?)?", re.IGNORECASE)
CANCEL_AFTER_MIN_S, CANCEL_AFTER_MAX_S = 5, 604_800
KEY_PATTERN = r'^("([!#-\[\]-~]|\\["\\]){1,128}"|[!#-~]{1,128})$'
DURATION_PATTERN = r"^(([0-9]{1,4}h)?([0-9]{1,6}m)?[0-9]{1,7}s?|([0-9]{1,4}h)?[0-9]{1,6}m|[0-9]{1,4}h)$"
"""What is documented of the headers `Idempotency-Key` and `Cancel-After`; a little less than what is understood."""

_NO_CACHE = "no-cache"
_BARE = re.compile(r"[!#-~]+")


class Examined(Struct, frozen=True, kw_only=True):
    """What looking at a request has shown: the URL to fetch, the bytes themselves or the upload that has them, and what
    the device will compute (kilopixels); `size` is width and height, None while nobody has seen the image."""

    cost: int
    fingerprint: str = ""
    url: str | None = None
    image: bytes | None = None
    upload: Upload | None = None
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
    asked = decode(body, TaskRequest)
    check_params(asked, models)
    if idempotency_key is not None:
        key = request_id_of(idempotency_key, asked.client_request_id)
        asked = msgspec.structs.replace(asked, client_request_id=key)
    if _NO_CACHE in (directive.strip().lower() for directive in (cache_control or "").split(",")):
        asked = msgspec.structs.replace(asked, reuse=False)
    return asked if cancel_after is None else _with_deadline(asked, cancel_after)


async def examine(
    asked: TaskRequest, services: Services, caller: Caller, *, base_url: str, dialect: Dialect = "penstock"
) -> Examined:
    """Check the webhook, and the input as far as it is here, and weigh it.

    Raises WebhooksDisabled, UrlBlocked, InvalidRequest, InputTooLarge, UnsupportedImageFormat, ImageTooLarge,
    ImageDecodeFailed, UploadNotFound, UploadNotReady, UploadMismatch.
    """
    webhook = accepted(asked.webhook, services, base_url, dialect)
    uploaded = asked.input.upload_id is not UNSET
    with _blaming(UPLOAD_ID if uploaded else IMAGE_URL):
        examined = await (_examine_upload if uploaded else _examine_url)(asked, services, caller)
        return msgspec.structs.replace(examined, webhook=webhook)


async def _examine_url(asked: TaskRequest, services: Services, caller: Caller) -> Examined:
    """In a thread where there is much to look at."""
    url = asked.input.image_url
    if url is UNSET:
        raise InvalidRequest("either image_url or upload_id is needed")
    if not is_inline(url):
        refuse_bare_base64(url)
        checked = str(check_input(url, services.policy))
        return Examined(fingerprint=_fingerprint(asked), cost=UNSEEN, url=checked)
    if not is_long(url):
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
    once it is known that the task may have to run, and deleted again when nothing came of it.

    Raises RateLimited, QueueFull, IdempotencyMismatch, UploadNotFound, StoreUnavailable, StorageUnavailable.
    """
    store, storage = services.store, services.storage
    rate_limit = services.settings.api.rate_limit_per_minute
    submission = await submission_of(
        task_id, asked, examined, caller=caller, traceparent=traceparent, services=services
    )
    key = submission.own_input
    if key is None or examined.image is None:
        return await looking(submission, storage, lambda s: store.tasks.submit(s, rate_limit=rate_limit))
    if submission.reuse_digest is not None and not submission.must_run:
        answered = await looking(
            submission, storage, lambda s: store.tasks.submit_without_input(s, rate_limit=rate_limit)
        )
        if answered is not None:
            return answered
    else:
        await store.tasks.await_inputs([key])
    await storage.put(key, examined.image, examined.content_type)
    try:
        submitted = await looking(submission, storage, lambda s: store.tasks.submit(s, rate_limit=rate_limit))
    except StoreUnavailable:
        raise  # perhaps only the answer is lost and the task is there: its input stays
    except PenstockError:
        await discard(services, key)
        raise
    if submitted.id != submission.id or submitted.is_hit:
        await discard(services, key)
    return submitted


def check_params(asked: TaskRequest, models: Collection[str]) -> None:
    """Of the model that is asked for. Raises InvalidRequest, ModelNotFound."""
    runner = registry().get(asked.model)
    if runner is None or asked.model not in models:
        served = ", ".join(sorted(models)[:SHOWN_MODELS])
        raise ModelNotFound(f"no model of this name is served here; the models are {served}", param="model")
    if UNSET not in (asked.input.image_url, asked.input.upload_id):
        raise InvalidRequest("either image_url or upload_id, not both", param=UPLOAD_ID)
    convert(asked.params, runner.params, inside="params")
    if asked.output.lossless and asked.output.format == "jpeg":
        raise InvalidRequest("JPEG is never lossless; ask for png or webp", param="output.lossless")


def request_id_of(header: str, said: str | None) -> str:
    """The `client_request_id` that `Idempotency-Key` gives, beside what the body says. The draft has a quoted string; a
    bare one is what most clients send.

    Raises MalformedRequest, InvalidRequest.
    """
    quoted = _QUOTED.fullmatch(header)
    if not quoted and not _BARE.fullmatch(header):
        raise MalformedRequest('Idempotency-Key must be one string, such as "order-991"', param="Idempotency-Key")
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if said not in (None, key):
        raise InvalidRequest(
            "Idempotency-Key and client_request_id are both given, and differ", param=CLIENT_REQUEST_ID
        )
    return str(convert(key, ClientRequestId, inside="Idempotency-Key"))


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


def _examine_inline(asked: TaskRequest, settings: Settings, caller: Caller) -> Examined:
    image, header = look_at(asked, settings)
    return msgspec.structs.replace(weigh(asked, image, header, settings, caller), fingerprint=_fingerprint(asked))


def look_at(asked: TaskRequest, settings: Settings) -> tuple[bytes, imaging.Header]:
    """The inline image of a request, and what its header says.

    Raises InvalidRequest, InputTooLarge, UnsupportedImageFormat, ImageTooLarge, ImageDecodeFailed.
    """
    with _blaming(IMAGE_URL):
        image = bytes_of(str(asked.input.image_url), settings.limits.max_input_bytes)
        header = imaging.probe(image, max_megapixels=settings.limits.max_image_megapixels)
        _check_holds(asked, header)
        return image, header


def look_again(asked: TaskRequest, header: imaging.Header, settings: Settings) -> bytes:
    """The same image, whose header is known from the first look: the limits may have changed since. Raises as that
    does."""
    with _blaming(IMAGE_URL):
        image = bytes_of(str(asked.input.image_url), settings.limits.max_input_bytes)
        imaging.check_size(header, settings.limits.max_image_megapixels)
        _check_holds(asked, header)
        return image


def weigh(
    asked: TaskRequest,
    image: bytes,
    header: imaging.Header,
    settings: Settings,
    caller: Caller,
    webhook: Webhook | None = None,
) -> Examined:
    """What follows from an inline image that is all right, without a fingerprint: only a client_request_id needs it."""
    reuse = settings.queue.reuse
    return Examined(
        cost=_cost(asked, header),
        image=image,
        size=(header.width, header.height),
        content_type=f"image/{header.format.lower()}",
        reuse_digest=reuse_digest(asked, hashlib.sha256(image).hexdigest(), caller) if reuse else None,
        webhook=webhook,
    )


def output_size(asked: TaskRequest, width: int, height: int) -> tuple[int, int] | None:
    """Of the result for an image of this size; None where there is no image, or nobody knows."""
    runner = registry()[asked.model]
    return runner.output_size(width, height, msgspec.convert(asked.params, runner.params))


async def _examine_upload(asked: TaskRequest, services: Services, caller: Caller) -> Examined:
    """By its first bytes: the rest is for a worker to read."""
    settings = services.settings
    upload = await ready_upload(str(asked.input.upload_id), caller, services)
    if upload.size > settings.limits.max_input_bytes:
        raise InputTooLarge(f"the image has {upload.size} bytes, the limit is {settings.limits.max_input_bytes}")
    probe = imaging.probe if upload.size <= BEGINNING_BYTES else imaging.probe_beginning
    beginning = await beginning_of(upload, BEGINNING_BYTES, services)
    header = await asyncio.to_thread(probe, beginning, max_megapixels=settings.limits.max_image_megapixels)
    if header is not None:
        _check_holds(asked, header)
    digest = reuse_digest(asked, upload.sha256, caller) if upload.sha256 and settings.queue.reuse else None
    if digest and asked.reuse and not upload.is_checked and (await services.store.tasks.have_results([digest]))[0]:
        await check_digest(upload, services)  # or bytes that nobody has read would get the result of others
    return Examined(
        fingerprint=_fingerprint(asked, upload),
        cost=UNSEEN if header is None else _cost(asked, header),
        upload=upload,
        size=None if header is None else (header.width, header.height),
        reuse_digest=digest,
    )


def _check_holds(asked: TaskRequest, header: imaging.Header) -> None:
    if made := output_size(asked, header.width, header.height):
        imaging.check_holds(msgspec.convert(asked.output, OutputOptions, from_attributes=True), *made)


def _cost(asked: TaskRequest, header: imaging.Header) -> int:
    runner = registry()[asked.model]
    return runner.device_size(header.width, header.height, msgspec.convert(asked.params, runner.params))


def _fingerprint(asked: TaskRequest, upload: Upload | None = None) -> str:
    """Of all but `reuse`, which says nothing about the task, and comes as a header that proxies may add; and of the
    bytes of an upload, if they are known, so that a client which sends them anew is told of the same task."""
    same = msgspec.structs.replace(asked, reuse=True)
    if upload is not None and upload.sha256 is not None:
        same = msgspec.structs.replace(same, input=InputRequest(upload_id=f"sha256:{upload.sha256}"))
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()


async def submission_of(
    task_id: str,
    asked: TaskRequest,
    examined: Examined,
    *,
    caller: Caller,
    traceparent: str,
    services: Services,
    input_name: str = "",
    line: Line | None = None,
    permit: EnqueuePermit | None = None,
) -> Submission:
    """The submission for the store: a task of its own, or the `line` of a batch, queued under a `permit`. An inline
    image is stored as `input_name`, or under the id of its task."""
    settings = services.settings
    attempts = asked.retry.max_attempts if asked.retry else settings.queue.max_retries + 1
    return Submission(
        id=task_id,
        tenant=caller.tenant,
        caller=caller.id,
        priority=asked.priority,
        cost=examined.cost,
        request=Request(
            model=asked.model,
            source=_source(input_name or task_id, examined, caller),
            params=asked.params,
            output=msgspec.convert(asked.output, OutputOptions, from_attributes=True),
            client_request_id=asked.client_request_id,
            metadata=asked.metadata,
            traceparent=traceparent,
            webhook=examined.webhook,
            line=line,
        ),
        fingerprint=examined.fingerprint,
        max_retries=min(attempts - 1, settings.queue.max_retries),
        timeout_s=min(asked.timeout_s or settings.worker.task_timeout_s, settings.worker.task_timeout_s),
        start_within_s=asked.start_within_s,
        finish_within_s=asked.finish_within_s,
        result_ttl_s=asked.result_ttl_s or settings.queue.result_ttl_s,
        reuse_digest=examined.reuse_digest,
        must_run=not asked.reuse,
        file_seen="ask",
        permit=permit,
        forecast=await services.estimates.forecast(asked.model, cost=examined.cost),
    )


def _source(input_name: str, examined: Examined, caller: Caller) -> Source:
    if examined.upload is not None:
        return Source(key=examined.upload.key, upload=examined.upload.id, sha256=examined.upload.sha256)
    if examined.image is None:
        return Source(url=examined.url)
    if len(examined.image) <= KEPT_IN_RECORD_BYTES:
        return Source(data=examined.image)
    return Source(key=input_key(caller.tenant, input_name))


def input_key(tenant: str, name: str) -> str:
    """Under which the storage has an inline image; the name begins with the id of its task."""
    return f"inputs/{tenant}/{name}"


async def discard(services: Services, *keys: str) -> None:
    """Delete what was stored for tasks that do not need it."""
    try:
        await services.storage.delete(*keys)
    except StorageUnavailable as error:  # the answer to the client matters more
        logger.bind(keys=keys, reason=error.detail).warning("input left behind")


@contextmanager
def _blaming(param: str) -> Iterator[None]:
    """Errors inside are about this member of the request."""
    try:
        yield
    except PenstockError as error:
        error.param = error.param or param
        raise
