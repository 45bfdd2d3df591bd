"""Enqueue: makes a submit call a task in the queue, or answers it with a task or a result that is there already."""

import msgspec
from loguru import logger
from msgspec import Struct

from penstock.core.model import SOLE_IMAGE
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.submission import EnqueuePermit, Submission, input_keys
from penstock.errors import PenstockError, StorageUnavailable, StoreUnavailable
from penstock.intake.call import Caller, SubmitCall
from penstock.intake.deps import Deps
from penstock.intake.examine import Examined, examine
from penstock.intake.reuse_digest import checking_file
from penstock.store import Submitted
from penstock.telemetry import endings, metrics

KEPT_IN_RECORD_BYTES = 4 * 1024
"""An inline image of at most this size is kept in the record of its task: storing it as a file would take two syncs of
a disk, which is longer."""


class Receipt(Struct, frozen=True):
    """The answer to a submit that was accepted: what the store says, and what the device will compute (kilopixels)."""

    submitted: Submitted
    cost: int


async def submit(task_id: str, call: SubmitCall, deps: Deps) -> Receipt:
    """Check a call and queue its task under this new id, or answer it with a task that is there already.

    Raises ModelUnavailable, and what `examine` and `enqueue` raise.
    """
    if call.model.id in deps.estimates.unavailable:
        await deps.estimates.check(call.model.id)
    examined = await examine(call, deps)
    submitted = await enqueue(task_id, call, examined, deps)
    if not submitted.replayed:
        metrics.report("tasks.submitted", model=call.model.id, priority=call.task.priority)
    if submitted.is_hit:
        endings.count_hits(call.model.id)
    return Receipt(submitted, examined.cost)


async def enqueue(task_id: str, call: SubmitCall, examined: Examined, deps: Deps) -> Submitted:
    """Queue the task of a call that was examined, or answer it at once.

    An inline image that is not kept in the record is stored once it is known that the task may have to run, and deleted
    again when nothing came of it. Raises RateLimited, QueueFull, IdempotencyMismatch, UploadNotFound, StoreUnavailable,
    StorageUnavailable.
    """
    tasks, storage = deps.store.tasks, deps.storage
    rate_limit = deps.settings.api.rate_limit_per_minute
    submission = await submission_of(task_id, call, examined, deps)
    key = submission.own_input
    if key is None or examined.image is None:
        return await checking_file(submission, storage, lambda s: tasks.submit(s, rate_limit=rate_limit))
    if submission.reuse_digest is not None and not submission.must_run:
        hit = await checking_file(submission, storage, lambda s: tasks.submit_without_input(s, rate_limit=rate_limit))
        if hit is not None:
            return hit
    else:
        await tasks.await_inputs([key])  # known before it is stored, so that it is deleted if this process dies
    await storage.put(key, examined.image, examined.content_type)
    try:
        submitted = await checking_file(submission, storage, lambda s: tasks.submit(s, rate_limit=rate_limit))
    except StoreUnavailable:
        raise  # perhaps only the answer is lost and the task is there: its input stays
    except PenstockError:
        await discard(deps, key)
        raise
    if submitted.id != submission.id or submitted.is_hit:
        await discard(deps, key)
    return submitted


async def submission_of(
    task_id: str,
    call: SubmitCall,
    examined: Examined,
    deps: Deps,
    *,
    input_name: str = "",
    permit: EnqueuePermit | None = None,
) -> Submission:
    """Return what the store needs to queue the task; the line of a batch is queued under a `permit`.

    An inline image is stored as `input_name`, or under the id of its task.
    """
    task, settings = call.task, deps.settings
    attempts = task.retry.max_attempts if task.retry else settings.queue.max_retries + 1
    return Submission(
        id=task_id,
        tenant=call.caller.tenant,
        caller=call.caller.id,
        priority=task.priority,
        cost=examined.cost,
        request=Request(
            model=call.model.id,
            version=call.model.version,
            digest=call.model.digest,
            guessed=tuple(call.model.guessed),
            inputs={SOLE_IMAGE: _source(input_name or task_id, examined, call.caller)},
            params=task.params,
            output=msgspec.convert(task.output, OutputOptions, from_attributes=True),
            client_request_id=task.client_request_id,
            metadata=task.metadata,
            traceparent=call.traceparent,
            webhook=examined.webhook,
            line=call.line,
        ),
        fingerprint=examined.fingerprint,
        max_retries=min(attempts - 1, settings.queue.max_retries),  # the first attempt is no retry
        timeout_s=min(task.timeout_s or settings.worker.task_timeout_s, settings.worker.task_timeout_s),
        start_within_s=task.start_within_s,
        finish_within_s=task.finish_within_s,
        result_ttl_s=task.result_ttl_s or settings.queue.result_ttl_s,
        reuse_digest=examined.reuse_digest,
        must_run=not task.reuse,
        file_seen="ask",  # only we can look into the storage, and only for the file that the store names
        permit=permit,
        forecast=await deps.estimates.forecast(call.model.id, cost=examined.cost),
    )


def _source(input_name: str, examined: Examined, caller: Caller) -> Source:
    if examined.upload is not None:
        return Source(key=examined.upload.key, upload=examined.upload.id, sha256=examined.upload.sha256)
    if examined.image is None:
        return Source(url=examined.url)
    if len(examined.image) <= KEPT_IN_RECORD_BYTES:
        return Source(data=examined.image)
    return Source(key=input_keys(caller.tenant, input_name, [SOLE_IMAGE])[SOLE_IMAGE])


async def discard(deps: Deps, *keys: str) -> None:
    """Delete what was stored for tasks that do not need it; where the storage is away, it is left behind."""
    try:
        await deps.storage.delete(*keys)
    except StorageUnavailable as error:  # the answer to the client matters more
        logger.bind(keys=keys, reason=error.detail).warning("input left behind")
