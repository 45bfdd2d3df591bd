"""A new batch: its options checked, its lines received, and the batch started."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import Struct

from penstock.core.access import Caller
from penstock.core.batch import BatchPlan, Started
from penstock.core.upload import Upload
from penstock.errors import InvalidRequest, UploadMismatch, UrlBlocked
from penstock.intake.batch_lines import Slices, defaults_of
from penstock.intake.batch_receive import Receiver
from penstock.intake.deps import Deps
from penstock.intake.inline import is_inline, refuse_bare_base64
from penstock.intake.requests import BatchDefaults, BatchOptions
from penstock.intake.webhook import webhook_of
from penstock.net.guard import Policy, check_input

READ_WITHIN_S = 600.0
"""How long an upload is kept at least when its lines begin to be read: many times what 50,000 lines take."""


class BatchCall(Struct, frozen=True, kw_only=True):
    """A submit of a batch as it was read, but for its lines, which may still be on their way."""

    caller: Caller
    options: BatchOptions
    base_url: str
    traceparent: str


async def start_batch(batch_id: str, call: BatchCall, slices: Slices, deps: Deps) -> Started:
    """Check and store the lines, and start the batch that was opened under this id; tells when it was started before.

    What is stored of a batch that is not started has to be deleted by the caller. Raises InvalidLines, InvalidRequest,
    UrlBlocked, WebhooksDisabled, IdempotencyMismatch, QuotaExceeded, NotReady, StorageUnavailable, StoreUnavailable.
    """
    options = call.options
    defaults = defaults_of(options.defaults)
    check_defaults(defaults, deps.policy)
    webhook = webhook_of(options.webhook, deps, base_url=call.base_url)
    received = await Receiver(batch_id, defaults, call.caller, call.base_url, deps).receive(slices)
    plan = BatchPlan(
        defaults=options.defaults,
        starts=received.starts,
        base_url=call.base_url,
        traceparent=call.traceparent,
        client_request_id=options.client_request_id,
        metadata=options.metadata,
        webhook=webhook,
        versions=received.versions,
    )
    return await deps.store.batches.start(
        batch_id,
        call.caller.tenant,
        call.caller.id,
        plan,
        total=received.total,
        ttl_s=options.result_ttl_s or deps.settings.queue.result_ttl_s,
        fingerprint=_fingerprint(options, received.digest),
        models=received.models,
        quotas=deps.quotas_of(call.caller.tenant),
    )


async def lines_of_upload(upload: Upload, deps: Deps) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an upload, which is not deleted meanwhile; afterwards nobody needs it.

    Raises UploadMismatch after the last piece when the bytes are not what was announced.
    """
    await deps.store.uploads.hold(upload.id, READ_WITHIN_S)
    digest = hashlib.sha256()
    async with aclosing(await deps.storage.stream(upload.key)) as pieces:
        async for piece in pieces:
            digest.update(piece)
            yield piece
    if upload.sha256 not in (None, digest.hexdigest()):
        raise UploadMismatch("the bytes have another sha256 than was announced", param="upload_id")


def check_defaults(defaults: BatchDefaults, policy: Policy) -> None:
    """Check the URL of the defaults, even if no line uses it. Raises InvalidRequest, UrlBlocked."""
    url = (defaults.input or {}).get("image_url")
    if not isinstance(url, str) or is_inline(url):
        return
    try:
        refuse_bare_base64(url)
        check_input(url, policy)
    except (InvalidRequest, UrlBlocked) as error:
        error.param = "defaults.input.image_url"
        raise


def _fingerprint(options: BatchOptions, digest: str) -> str:
    members = {name: getattr(options, name) for name in BatchOptions.__struct_fields__}
    return hashlib.sha256(msgspec.json.encode((members, digest), order="deterministic")).hexdigest()
