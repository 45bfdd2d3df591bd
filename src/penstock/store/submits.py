"""What `submit.lua` is called with, and what its answers mean."""

from typing import Any

import msgspec

from penstock.core.submission import EnqueuePermit, Submission
from penstock.core.task import PRIORITIES, RECORD_VERSION, Outcome, Reuse, State, Verb
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
from penstock.store.keys import idempotency_digest

MAX_FOLLOWERS = 200
"""Tasks that may wait for the result of one; the next ones run. When it ends, the script that looks for the next to
lead them reads them all, which takes about 2 µs for each."""


def call_of(s: Submission, max_depth: int, rate_limit: int, *, has_input: bool) -> tuple[str | bytes | float, ...]:
    """The arguments of the script, in its order."""
    client_request_id = s.request.client_request_id
    return (
        s.id, s.tenant, s.caller, s.request.model, s.priority, s.cost, msgspec.json.encode(s.request),
        s.fingerprint, idempotency_digest(s.caller, client_request_id) if client_request_id else "",
        rate_limit, max_depth, s.max_retries, s.timeout_s,
        "" if s.start_within_s is None else int(s.start_within_s * 1000), s.result_ttl_s, RECORD_VERSION,
        State.PENDING, " ".join(PRIORITIES), "" if s.finish_within_s is None else int(s.finish_within_s * 1000),
        s.reuse_digest or "", "run" if s.must_run else "", MAX_FOLLOWERS, moves_of(Verb.REUSE),
        "input" if has_input else "", hook_of(s.request.webhook), *_permit_of(s.permit),
        s.forecast.ahead_ms if s.forecast else "", s.forecast.own_ms if s.forecast else "",
        s.request.source.upload or "", s.own_input or "", s.file_seen,
    )  # fmt: skip


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


def _permit_of(permit: EnqueuePermit | None) -> tuple[str | int, ...]:
    return (permit.batch, permit.epoch, permit.place, permit.window, permit.lease_ms) if permit else ("",) * 5


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
