"""Verdicts: what the words mean that the scripts answer with, one table for each script.

A table has, for each word, a value, or a function that makes a value or an error. The function is given the id that the
call was about, and what follows the word in the answer.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from penstock.core.batch import PREFIX, BatchState, Started
from penstock.core.task import State
from penstock.errors import (
    BatchAlreadyFinal,
    BatchNotFinal,
    BatchNotFound,
    IdempotencyMismatch,
    MalformedRequest,
    PenstockError,
    QuotaExceeded,
    RateLimited,
    ResultExpired,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
    TooManyBatches,
    UploadMismatch,
    UploadNotFound,
    WebhookNotFound,
)


def verdict(table: Mapping[bytes, Any], subject: str, answer: Any) -> Any:
    """Look up the first word of an answer, which may be the only one. Raises the error that the word stands for."""
    word, *rest = answer if isinstance(answer, list) else [answer]
    meaning = table[word]
    found = meaning(subject, *rest) if callable(meaning) else meaning
    if isinstance(found, Exception):
        raise found
    return found


def seconds(ms: int) -> int:
    """Milliseconds as whole seconds, rounded up."""
    return -(-int(ms) // 1000)


def rate_limited(what: str, ms: int) -> RateLimited:
    """The error for a caller who makes too many of these calls; the next one is accepted after some ms."""
    return RateLimited(f"too many {what} with this API key", retry_after_s=seconds(ms) or 1)


QUOTAS = {
    b"submits_per_minute": "this tenant has made the {} submits that it may make in a minute",
    b"tasks_waiting": "as many tasks of this tenant wait as may: {}",
    b"redis_bytes": "with this, the records of this tenant would have more than the {} bytes that they may in Redis",
    b"storage_bytes": "with this, this tenant would have more than the {} bytes that it may in the storage",
    b"device_seconds_per_day": "with this, the tasks of this tenant would take a device for more than {} s today (UTC)",
    b"batch_lines": "with this, the batches of this tenant would have more than {} unfinished lines",
}


def quota_exceeded(_: str, name: bytes, limit: int, wait_ms: int) -> QuotaExceeded:
    """The error for a tenant that would use more of a quota than it may; it may be worth trying again after some ms."""
    detail, wait_s = QUOTAS[name].format(limit), seconds(wait_ms) or 1
    return QuotaExceeded(detail, quota=name.decode(), limit=limit, retry_after_s=wait_s)


def no_task(task_id: str) -> TaskNotFound:
    """The error for a task that never was there, or is another tenant's."""
    return TaskNotFound(f"there is no task {task_id}")


def task_gone(_: str) -> ResultExpired:
    """The error for a task that was deleted within a week."""
    return ResultExpired("the task was deleted, by a client or after its retention")


def no_batch(batch_id: str) -> BatchNotFound:
    """The error for a batch that never was there, or is another tenant's."""
    return BatchNotFound(f"there is no batch {batch_id}")


def batch_gone(_: str) -> ResultExpired:
    """The error for a batch that was deleted within a week."""
    return ResultExpired("the batch was deleted, by a client or after its retention")


def no_upload(upload_id: str) -> UploadNotFound:
    """The error for an upload that is not there; also for one that was, since nobody is told of another's."""
    return UploadNotFound(f"there is no upload {upload_id}")


def too_slow(_: str) -> MalformedRequest:
    """The error for a batch of which nothing came for too long."""
    return MalformedRequest("the batch came too slowly, and was given up")


def _task_has_ended(_: str, state: bytes) -> TaskAlreadyFinal:
    return TaskAlreadyFinal(f"the task has ended as {state.decode()}")


def _task_is_live(state: State, _: str) -> TaskNotFinal:
    return TaskNotFinal(f"the task is {state}; cancel it before you delete it")


def _batch_has_ended(_: str, state: bytes) -> BatchAlreadyFinal | None:
    if state.decode() == BatchState.CANCELED:
        return None
    return BatchAlreadyFinal(f"the batch has ended as {state.decode()}")


def _batch_is_live(_: str, state: bytes) -> BatchNotFinal:
    return BatchNotFinal(f"the batch is {state.decode()}; cancel it before you delete it")


def _has_other_lines(_: str, first: bytes) -> IdempotencyMismatch:
    return IdempotencyMismatch(
        f"this client_request_id belongs to batch {first.decode()}, which has other lines", param="client_request_id"
    )


def _no_subject(subject: str) -> PenstockError:
    return no_batch(subject) if subject.startswith(PREFIX) else no_task(subject)


_TASK = {b"gone": task_gone, b"absent": no_task}
_BATCH = {b"gone": batch_gone, b"absent": no_batch}

_DONE, _NOTHING_TO_DO = (lambda *_: True), (lambda *_: False)
"""The state that follows the word says nothing new here."""

CANCEL = {b"ok": _DONE, b"already": _NOTHING_TO_DO, b"refused": _task_has_ended, **_TASK}
RESUBMIT = {b"ok": _DONE, b"quota": quota_exceeded, b"waiting": _NOTHING_TO_DO, b"refused": _task_has_ended, **_TASK}
DELETE = {
    b"ok": True,
    b"gone": False,
    b"absent": no_task,
    **{state.encode(): partial(_task_is_live, state) for state in State},
}

BATCH_OPEN = {
    b"ok": lambda _, left, reset_ms, quota_left, quota_ms: (left, seconds(reset_ms), quota_left, seconds(quota_ms)),
    b"quota": quota_exceeded,
    b"rate": lambda _, wait_ms: rate_limited("submits", wait_ms),
    b"many": lambda _, count: TooManyBatches(f"{count} batches of this API key are unfinished", retry_after_s=30),
}
BATCH_GROW = {b"ok": None, b"absent": too_slow, b"quota": quota_exceeded}
BATCH_START = {
    b"quota": quota_exceeded,
    b"ok": lambda _, first: Started(id=first.decode(), replayed=False),
    b"replay": lambda _, first: Started(id=first.decode(), replayed=True),
    b"mismatch": _has_other_lines,
    b"absent": too_slow,
}
BATCH_CANCEL = {b"ok": lambda *_: None, b"refused": _batch_has_ended, **_BATCH}
BATCH_DELETE = {
    b"ok": lambda _, prefix: prefix.decode(),
    b"gone": None,
    b"live": _batch_is_live,
    b"absent": no_batch,
}

UPLOAD_OPEN = {
    b"quota": quota_exceeded,
    b"ok": lambda _, url_until, left, reset_ms: (url_until, left, seconds(reset_ms)),
    b"rate": lambda _, wait_ms: rate_limited("uploads", wait_ms),
}
UPLOAD_HOLD = {
    b"ok": None,
    b"other": lambda _: UploadMismatch("these are not the bytes of this sha256 that are awaited, or were sent before"),
    b"absent": no_upload,
}
UPLOAD_ARRIVE = {b"ok": True, b"known": False, b"absent": no_upload}
UPLOAD_RETIRE = {b"ok": True, b"used": False, b"absent": no_upload}

REDELIVER = {
    b"ok": None,
    b"none": lambda _: WebhookNotFound("it has no webhook, or nothing has happened yet that it is told"),
    b"absent": _no_subject,
}
