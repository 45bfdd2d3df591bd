"""Submits: what `submit.lua` is called with, and what its answers mean."""

from typing import Any

import msgspec

from penstock.core.quotas import text_of
from penstock.core.submission import Submission
from penstock.core.task import RECORD_VERSION, Outcome, Reuse, State, Verb
from penstock.errors import IdempotencyMismatch, PenstockError, QueueFull, StoreUnavailable
from penstock.settings import QueueSettings
from penstock.store.answers import NotItsTurn, ResultFound, Submitted, UploadGone
from penstock.store.encoding import hook_of, moves_of
from penstock.store.engine import Arguments
from penstock.store.keys import idempotency_digest
from penstock.store.verdicts import quota_exceeded, rate_limited, seconds, verdict

MAX_FOLLOWERS = 200
"""Most tasks that wait for the result of one; further equal ones run. When the leader ends without a result, the script
that picks the next leader reads them all, which takes about 2 µs for each."""


def call_of(s: Submission, settings: QueueSettings, rate_limit: int, *, is_stored: bool) -> Arguments:
    """Returns the arguments of `submit.lua` for this submission, by name; `is_stored` says whether the storage has its
    own input."""
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
        "request_digest": idempotency_digest(s.tenant, s.caller, client_request_id) if client_request_id else "",
        "rate_limit": rate_limit,
        "quotas": text_of(s.quotas),
        "max_depth": settings.max_depth,
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
        "is_stored": "stored" if is_stored else "",
        "hook": hook_of(s.request.webhook, s.tenant),
        "batch": permit.batch if permit else "",
        "feeder_epoch": permit.epoch if permit else "",
        "place": permit.place if permit else "",
        "window": permit.window if permit else "",
        "lease_ms": permit.lease_ms if permit else "",
        "ahead_ms": forecast.ahead_ms if forecast else "",
        "own_ms": forecast.own_ms if forecast else "",
        "uploads": " ".join(s.uploads),
        "own_input": s.own_input or "",
        "input_bytes": s.input_bytes,
        "file_seen": s.file_seen,
        "inline_budget": settings.inline_budget_bytes,
        "inline": () if is_stored else [part for pair in s.inline.items() for part in pair],
    }


def submitted_of(answer: Any) -> Submitted | None:
    """Decode the answer of submit.lua; None when only the input has to be stored. Raises what has kept the task out."""
    submitted: Submitted | None = verdict(SUBMIT, "", answer)
    return submitted


def answer_or_error(answer: Any) -> Submitted | Exception | None:
    """Returns what `submitted_of` returns, or the error that it raises."""
    try:
        return submitted_of(answer)
    except (NotItsTurn, ResultFound, PenstockError) as error:
        return error


def files_of(owner: str, outcome: bytes | None) -> ResultFound | None:
    """The files in the outcome of a task; None when it has none."""
    result = msgspec.json.decode(outcome, type=Outcome).result if outcome else None
    if result is None or not result.artifacts:
        return None
    return ResultFound(owner, tuple(file.s3_key for file in result.artifacts))


REUSES: dict[bytes, Reuse] = {b"": "miss", b"miss": "miss", b"coalesced": "coalesced", b"hit": "hit"}


def _submitted(
    is_replay: bool,
    task_id: bytes,
    position: int,
    left: int,
    reset_ms: int,
    reuse: bytes,
    is_paused: int,
    quota_left: int,
    quota_reset_ms: int,
) -> Submitted:
    return Submitted(
        id=task_id.decode(),
        replayed=is_replay,
        position=position if position >= 0 else None,
        rate_left=left,
        rate_reset_s=seconds(reset_ms),
        reuse=REUSES[reuse],
        is_paused=bool(is_paused),
        quota_left=quota_left,
        quota_reset_s=seconds(quota_reset_ms),
    )


def _has_another_body(_: str, first: bytes) -> IdempotencyMismatch:
    return IdempotencyMismatch(
        f"this client_request_id belongs to task {first.decode()}, submitted with another body",
        param="client_request_id",
    )


SUBMIT = {
    b"ok": lambda _, *answer: _submitted(False, *answer),
    b"replay": lambda _, *answer: _submitted(True, *answer),
    b"input": None,
    b"turn": lambda _: NotItsTurn("turn"),
    b"window": lambda _: NotItsTurn("window"),
    b"look": lambda _, owner, outcome: files_of(owner.decode(), outcome),
    b"rate": lambda _, wait_ms: rate_limited("submits", wait_ms),
    b"quota": quota_exceeded,
    b"full": lambda _, depth: QueueFull(f"{depth} tasks are waiting for this model", retry_after_s=5),
    b"late": lambda _: StoreUnavailable("the input of this task was given up before the task came", retry_after_s=5),
    b"upload": lambda _, upload: UploadGone(upload.decode()),
    b"mismatch": _has_another_body,
}
