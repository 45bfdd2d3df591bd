"""Enqueue: makes a submit call a task in the queue, or answers it with a task or a result that is there already."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from loguru import logger
from msgspec import Struct

from penstock.core.access import Caller
from penstock.core.request import Request, Source
from penstock.core.submission import EnqueuePermit, Submission, input_keys
from penstock.errors import PenstockError, StorageUnavailable, StoreUnavailable
from penstock.intake.call import SubmitCall
from penstock.intake.deps import Deps
from penstock.intake.examine import Examined, examine
from penstock.intake.found import Found
from penstock.intake.reuse_digest import checking_file
from penstock.intake.submit_spans import traced_line, traced_submit
from penstock.storage import Item, Storage
from penstock.store import Submitted, UploadGone
from penstock.telemetry import endings, metrics

KEPT_IN_RECORD_BYTES = 4 * 1024
"""An inline image of at most this size is kept in the record of its task: storing it as a file would take two syncs of
a disk, which is longer."""


class Receipt(Struct, frozen=True):
    """The answer to a submit that was accepted: what the store says, and what the device will compute (kilopixels)."""

    submitted: Submitted
    cost: int


@traced_submit
async def submit(task_id: str, call: SubmitCall, deps: Deps) -> Receipt:
    """Check a call and queue its task under this new id, or answer it with a task that is there already.

    Raises ModelUnavailable, and what `examine` and `enqueue` raise.
    """
    if call.model.id in deps.estimates.unavailable:
        await deps.estimates.check(call.model.id)
    if call.scorer is not None:
        await deps.estimates.check_beside(call.model.id, call.scorer.id)
    examined = await examine(call, deps)
    try:
        submitted = await enqueue(task_id, call, examined, deps)
    except UploadGone as gone:
        gone.param = _param_of(gone.upload, examined)
        raise
    if not submitted.replayed:
        metrics.report("tasks.submitted", model=call.model.id, priority=call.task.priority)
    if submitted.is_hit:
        endings.count_hits(call.model.id)
    return Receipt(submitted, examined.cost)


def _param_of(upload_id: str, examined: Examined) -> str | None:
    return next((one.given.param for one in examined.found if one.given.upload_id == upload_id), None)


async def enqueue(task_id: str, call: SubmitCall, examined: Examined, deps: Deps) -> Submitted:
    """Queue the task of a call that was examined, or answer it at once.

    What came inside of the request stays in Redis, beside the record, where there is room. Otherwise it is stored once
    it is known that the task may have to run, and deleted again when nothing came of it. Raises RateLimited,
    QuotaExceeded, QueueFull, IdempotencyMismatch, UploadNotFound, StoreUnavailable, StorageUnavailable.
    """
    tasks, storage = deps.store.tasks, deps.storage
    rate_limit = deps.settings.api.rate_limit_per_minute
    submit_task = partial(tasks.submit, rate_limit=rate_limit)
    submission = await submission_of(task_id, call, examined, deps)
    items = items_of(submission, examined)
    if not items:
        return await checking_file(submission, storage, submit_task)
    if submission.inline or (submission.reuse_digest is not None and not submission.must_run):
        done = await checking_file(submission, storage, partial(tasks.submit_unstored, rate_limit=rate_limit))
        if done is not None:
            return done
    else:
        await tasks.await_inputs(
            [str(submission.own_input)]
        )  # known before it is stored, so that it is deleted if this process dies
    await put(storage, items)
    try:
        submitted = await checking_file(submission, storage, submit_task)
    except StoreUnavailable:
        raise  # perhaps only the answer is lost and the task is there: its input stays
    except PenstockError:
        await discard(deps, items)
        raise
    if submitted.id != submission.id or submitted.is_hit:
        await discard(deps, items)
    return submitted


@traced_line
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

    What is stored of it is stored as `input_name`, or under the id of its task.
    """
    task, settings = call.task, deps.settings
    attempts = task.retry.max_attempts if task.retry else settings.queue.max_retries + 1
    inputs = _sources(input_name or task_id, examined.found, call.caller)
    input_bytes = stored_bytes(examined)
    may_stay = 0 < input_bytes <= settings.queue.inline_input_bytes
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
            inputs=inputs,
            params=task.params,
            output=task.output.options,
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
        quotas=deps.quotas_of(call.caller.tenant),
        input_bytes=input_bytes,
        inline={key: data for key, data, _ in _own(inputs, examined)} if may_stay else {},
        file_seen="ask",  # only we can look into the storage, and only for the file that the store names
        permit=permit,
        forecast=await deps.estimates.forecast(call.model.id, cost=examined.cost),
    )


def stored_bytes(examined: Examined) -> int:
    """Return the size of what is stored of a task's own input, in Redis or not; 0 where all of it is in the record."""
    return sum(map(_stored_bytes, examined.found))


def _sources(input_name: str, found: Sequence[Found], caller: Caller) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    stored: list[str] = []
    for one in found:
        if not _stored_bytes(one):
            sources[one.given.name] = _source(one)
        else:
            stored.append(one.given.name)
    if not stored:
        return sources
    keys = input_keys(caller.tenant, input_name, stored)
    return {one.given.name: sources.get(one.given.name) or _source(one, keys[one.given.name]) for one in found}


def _stored_bytes(found: Found) -> int:
    size = 0 if found.data is None else len(found.data)
    return size if size > KEPT_IN_RECORD_BYTES else 0


def _source(found: Found, key: str | None = None) -> Source:
    """The source of a member, whose bytes are under this key where they are too many for the record."""
    upload, declared, name = found.upload, found.declared, found.name
    if upload is not None:
        return Source(key=upload.key, upload=upload.id, sha256=upload.sha256, content_type=declared, name=name)
    if found.url is not None:
        return Source(url=found.url)
    if key is None and found.given.member.kind == "json":
        return Source(value=found.given.value)
    return Source(key=key, data=found.data if key is None else None, content_type=declared, name=name)


def items_of(submission: Submission, examined: Examined) -> list[Item]:
    """Return what has to be stored before the task may run, unless it stays in Redis."""
    if submission.own_input is None:
        return []
    return [Item(key, data, one.stored_type) for key, data, one in _own(submission.request.inputs, examined)]


def _own(inputs: Mapping[str, Source], examined: Examined) -> Iterator[tuple[str, bytes, Found]]:
    """Yields what came inside of the request and is too large for the record, each with its key."""
    for one in examined.found:
        if one.data is not None and (key := inputs[one.given.name].key) is not None:
            yield key, one.data, one


async def put(storage: Storage, items: Sequence[Item]) -> None:
    """Store the objects. Raises StorageUnavailable."""
    if len(items) == 1:
        await storage.put(items[0].key, items[0].data, items[0].content_type)
    else:
        await storage.put_all(items)


async def discard(deps: Deps, items: Sequence[Item]) -> None:
    """Delete what was stored for tasks that do not need it; where the storage is away, it is left behind."""
    keys = [item.key for item in items]
    try:
        await deps.storage.delete(*keys)
    except StorageUnavailable as error:  # the answer to the client matters more
        logger.bind(keys=keys, reason=error.detail).warning("input left behind")
