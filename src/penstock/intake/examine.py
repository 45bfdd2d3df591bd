"""What can be checked of a task before a worker has it: its webhook, its URL, and its image as far as it is here."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from penstock.core.events import Webhook
from penstock.core.request import OutputOptions
from penstock.core.upload import Upload
from penstock.errors import InputTooLarge, InvalidRequest, PenstockError
from penstock.intake.call import SubmitCall
from penstock.intake.deps import Deps
from penstock.intake.inline import bytes_of, is_inline, is_long, refuse_bare_base64
from penstock.intake.requests import IMAGE_URL, UPLOAD_ID, InputRequest, TaskRequest
from penstock.intake.reuse_digest import reuse_digest
from penstock.intake.uploads import beginning_of, check_digest, ready_upload
from penstock.intake.webhook import webhook_of
from penstock.models import imaging
from penstock.net.guard import check_input
from penstock.settings import Settings
from penstock.storage import CHUNK_BYTES

UNSEEN = 0
"""Kilopixels of an image that nobody has seen: it counts as a mean task of its model."""

BEGINNING_BYTES = CHUNK_BYTES
"""How much of an upload is read for its header: all of most photos, and of the others more than their metadata."""


class Examined(Struct, frozen=True, kw_only=True):
    """What is known of a task whose checks have passed.

    The input is one of three: the `url` to fetch, the bytes of the `image`, or the `upload` that has them. `cost` is
    what the device will compute, in kilopixels; `size` is the width and height in pixels, None while nobody has seen
    the image. `fingerprint` tells two bodies with one `client_request_id` apart; equal tasks share `reuse_digest`.
    """

    cost: int
    fingerprint: str = ""
    url: str | None = None
    image: bytes | None = None
    upload: Upload | None = None
    size: tuple[int, int] | None = None
    content_type: str = ""
    reuse_digest: str | None = None
    webhook: Webhook | None = None


async def examine(call: SubmitCall, deps: Deps) -> Examined:
    """Check the webhook, and the input as far as it is here; nothing is fetched.

    Raises WebhooksDisabled, UrlBlocked, InvalidRequest, InputTooLarge, UnsupportedImageFormat, ImageTooLarge,
    ImageDecodeFailed, UploadNotFound, UploadNotReady, UploadMismatch.
    """
    webhook = webhook_of(call.task.webhook, deps, base_url=call.base_url, dialect=call.dialect)
    is_upload = call.task.input.upload_id is not UNSET
    with _blaming(UPLOAD_ID if is_upload else IMAGE_URL):
        examined = await (_examine_upload if is_upload else _examine_url)(call, deps)
        return replace(examined, webhook=webhook)


async def _examine_url(call: SubmitCall, deps: Deps) -> Examined:
    url = call.task.input.image_url
    if url is UNSET:
        raise InvalidRequest("either image_url or upload_id is needed")
    if not is_inline(url):
        refuse_bare_base64(url)
        return Examined(fingerprint=_fingerprint(call.task), cost=UNSEEN, url=str(check_input(url, deps.policy)))
    if not is_long(url):
        return _examine_inline(call, deps.settings)
    # The base64 and the digest of megabytes would hold up every other request.
    return await asyncio.to_thread(_examine_inline, call, deps.settings)


def _examine_inline(call: SubmitCall, settings: Settings) -> Examined:
    image, header = look_at(call, settings)
    return replace(weigh(call, image, header, settings), fingerprint=_fingerprint(call.task))


async def _examine_upload(call: SubmitCall, deps: Deps) -> Examined:
    """Only the beginning of an upload is read: the rest is for a worker."""
    settings = deps.settings
    upload = await ready_upload(str(call.task.input.upload_id), call.caller, deps)
    if upload.size > settings.limits.max_input_bytes:
        raise InputTooLarge(f"the image has {upload.size} bytes, the limit is {settings.limits.max_input_bytes}")
    # A header may be cut off at the end of the beginning: only a whole file without one is refused.
    probe = imaging.probe if upload.size <= BEGINNING_BYTES else imaging.probe_beginning
    beginning = await beginning_of(upload, BEGINNING_BYTES, deps)
    header = await asyncio.to_thread(probe, beginning, max_megapixels=settings.limits.max_image_megapixels)
    if header is not None:
        _check_result_fits(call, header)
    return Examined(
        fingerprint=_fingerprint(call.task, upload),
        cost=UNSEEN if header is None else _cost(call, header),
        upload=upload,
        size=None if header is None else (header.width, header.height),
        reuse_digest=await _digest_of_upload(call, upload, deps),
    )


async def _digest_of_upload(call: SubmitCall, upload: Upload, deps: Deps) -> str | None:
    if not upload.sha256 or not deps.settings.queue.reuse:
        return None
    digest = reuse_digest(call, upload.sha256)
    if call.task.reuse and not upload.is_checked and (await deps.store.tasks.have_results([digest]))[0]:
        await check_digest(upload, deps)  # or bytes that nobody has read would get the result of others
    return digest


def look_at(call: SubmitCall, settings: Settings) -> tuple[bytes, imaging.Header]:
    """Return the inline image of a task, and what its header says.

    Raises InvalidRequest, InputTooLarge, UnsupportedImageFormat, ImageTooLarge, ImageDecodeFailed.
    """
    with _blaming(IMAGE_URL):
        image = bytes_of(str(call.task.input.image_url), settings.limits.max_input_bytes)
        header = imaging.probe(image, max_megapixels=settings.limits.max_image_megapixels)
        _check_result_fits(call, header)
        return image, header


def look_again(call: SubmitCall, header: imaging.Header, settings: Settings) -> bytes:
    """Return an inline image whose header is known from the first look; the limits may have changed since.

    Raises as `look_at` does.
    """
    with _blaming(IMAGE_URL):
        image = bytes_of(str(call.task.input.image_url), settings.limits.max_input_bytes)
        imaging.check_size(header, settings.limits.max_image_megapixels)
        _check_result_fits(call, header)
        return image


def weigh(
    call: SubmitCall, image: bytes, header: imaging.Header, settings: Settings, webhook: Webhook | None = None
) -> Examined:
    """Return what is known of a task whose inline image has passed `look_at`.

    There is no fingerprint: only a task that may have a `client_request_id` needs one, and its caller adds it.
    """
    reuse = settings.queue.reuse
    return Examined(
        cost=_cost(call, header),
        image=image,
        size=(header.width, header.height),
        content_type=f"image/{header.format.lower()}",
        reuse_digest=reuse_digest(call, hashlib.sha256(image).hexdigest()) if reuse else None,
        webhook=webhook,
    )


def output_size(call: SubmitCall, width: int, height: int) -> tuple[int, int] | None:
    """Return width and height of the result for an image of this size, None where no image comes or nobody knows."""
    return call.sizes.result_of(width, height)


def _check_result_fits(call: SubmitCall, header: imaging.Header) -> None:
    if size := output_size(call, header.width, header.height):
        imaging.check_holds(msgspec.convert(call.task.output, OutputOptions, from_attributes=True), *size)


def _cost(call: SubmitCall, header: imaging.Header) -> int:
    return call.sizes.kilopixels_of(header.width, header.height)


def _fingerprint(task: TaskRequest, upload: Upload | None = None) -> str:
    """Digest everything but `reuse`, which says nothing about the task and which a proxy may add as a header.

    The bytes of an upload, if they are known, stand for its id, so that a client which sends them anew gets the
    same task.
    """
    same = replace(task, reuse=True)
    if upload is not None and upload.sha256 is not None:
        same = replace(same, input=InputRequest(upload_id=f"sha256:{upload.sha256}"))
    return hashlib.sha256(msgspec.json.encode(same, order="deterministic")).hexdigest()


@contextmanager
def _blaming(param: str) -> Iterator[None]:
    """Let the errors inside name this member of the request, unless they name another."""
    try:
        yield
    except PenstockError as error:
        error.param = error.param or param
        raise
