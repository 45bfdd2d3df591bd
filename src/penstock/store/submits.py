"""What `submit.lua` is called with, and what its answers mean."""

from typing import Any

import msgspec

from penstock.core.submission import Submission
from penstock.core.task import RECORD_VERSION, Outcome, Reuse, State, Verb
from penstock.errors import (
    IdempotencyMismatch,
    PenstockError,
    QueueFull,
    RateLimited,
    StoreUnavailable,
    UploadNotFound,
)
from penstock.store.answers import NotItsTurn, ResultFound, Submitted
from penstock.store.encoding import hook_of, moves_of
from penstock.store.engine import Arguments
from penstock.store.keys import idempotency_digest

MAX_FOLLOWERS = 200
"""Tasks that may wait for the result of one; the next ones run. When it ends, the script that looks for the next to
lead them reads them all, which takes about 2 µs for each."""


def call_of(s: Submission, max_depth: int, rate_limit: int, *, has_input: bool) -> Arguments:
    """What `submit.lua` takes for this submission, by name."""
    client_request_id, permit, forecast = s.request.client_request_id, s.permit, s.forecast
    return {
        "id": s.id,
        "tenant": s.tenant,
        "caller": s.caller,
        "model": s.request.model,
        "priority": s.priority,
        "cost": s.cost,
        "body": msgspec.json.encode(s.request),
        "fingerprint": s.fingerprint,
        "request_digest": idempotency_digest(s.caller, client_request_id) if client_request_id else "",
        "rate_limit": rate_limit,
        "max_depth": max_depth,
        "max_retries": s.max_retries,
        "timeout_s": s.timeout_s,
        "start_within_ms": "" if s.start_within_s is None else int(s.start_within_s * 1000),
        "ttl_s": s.result_ttl_s,
        "version": RECORD_VERSION,
        "state": State.PENDING,
        "finish_within_ms": "" if s.finish_within_s is None else int(s.finish_within_s * 1000),
        "reuse_digest": s.reuse_digest or "",
        "must_run": "run" if s.must_run else "",
        "max_followers": MAX_FOLLOWERS,
        "reuse_moves": moves_of(Verb.REUSE),
        "has_input": "input" if has_input else "",
        "hook": hook_of(s.request.webhook),
        "batch": permit.batch if permit else "",
        "feeder_epoch": permit.epoch if permit else "",
        "place": permit.place if permit else "",
        "window": permit.window if permit else "",
        "lease_ms": permit.lease_ms if permit else "",
        "ahead_ms": forecast.ahead_ms if forecast else "",
        "own_ms": forecast.own_ms if forecast else "",
        "upload": s.request.source.upload or "",
        "own_input": s.own_input or "",
        "file_seen": s.file_seen,
    }


def submitted_of(answer: Any) -> Submitted | None:
    """None where only the input is missing. Raises what has kept the task out."""
    kind = answer[0].decode()
    if kind in ("turn", "window"):
        raise NotItsTurn(kind)
    if kind == "input":
        return None
    if kind == "look" and (found := file_of(answer[1].decode(), answer[2])):
        raise found
    if kind not in ("ok", "replay"):
        raise _refusal(kind, answer[-1])
    return Submitted(
        id=answer[1].decode(),
        replayed=kind == "replay",
        position=answer[2] if answer[2] >= 0 else None,
        rate_left=answer[3],
        rate_reset_s=-(-answer[4] // 1000),
        reuse=msgspec.convert(answer[5].decode() or "miss", Reuse),
        is_paused=bool(answer[6]),
    )


def answer_or_error(answer: Any) -> Submitted | Exception | None:
    """What `submitted_of` gives or raises."""
    try:
        return submitted_of(answer)
    except (NotItsTurn, ResultFound, PenstockError) as error:
        return error


def file_of(owner: str, outcome: bytes | None) -> ResultFound | None:
    """The file in the outcome of this task, if it has one."""
    result = msgspec.json.decode(outcome, type=Outcome).result if outcome else None
    return ResultFound(owner, result.artifact.s3_key) if result and result.artifact else None


def _refusal(kind: str, value: Any) -> Exception:
    if kind == "rate":
        return RateLimited("too many submits with this API key", retry_after_s=-(-int(value) // 1000) or 1)
    if kind == "full":
        return QueueFull(f"{value} tasks are waiting for this model", retry_after_s=5)
    if kind == "late":
        return StoreUnavailable("the input of this task was given up before the task came", retry_after_s=5)
    if kind == "upload":
        return UploadNotFound("this upload has just been deleted", param="input.upload_id")
    return IdempotencyMismatch(
        f"this client_request_id belongs to task {value.decode()}, submitted with another body",
        param="client_request_id",
    )
