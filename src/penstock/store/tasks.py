"""TaskStore: one method for each verb, each one script and one round trip."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec

from penstock.errors import (
    IdempotencyMismatch,
    PenstockError,
    QueueFull,
    RateLimited,
    ResultExpired,
    StoreUnavailable,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
    UploadNotFound,
)
from penstock.store.answers import Claim, NotItsTurn, Submitted, WorkerInfo
from penstock.store.changes import Changes
from penstock.store.connection import listen
from penstock.store.keys import endpoint_digest, idempotency_digest
from penstock.store.overdue import LATE, OVERRUN, TOGETHER, Overdue, moves_of, outcome_of
from penstock.store.queries import ALL_PRIORITIES
from penstock.store.records import UnreadableRecord, reading
from penstock.task import (
    EVENTS,
    PRIORITIES,
    RECORD_VERSION,
    Lease,
    Outcome,
    Priority,
    Problem,
    Progress,
    Request,
    Reuse,
    Stage,
    State,
    Submission,
    Turn,
    Verb,
    Webhook,
)

MAX_FOLLOWERS = 200
"""Tasks that may wait for the result of one; the next ones run. When it ends, the script that looks for the next to
lead them reads them all, which takes about 2 µs for each."""

ROUND_KNOWN_S = 86_400
"""No claim is on its way for longer."""


class TaskStore(Overdue):
    """The queue. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes.

    Every script may be repeated when its answer was lost: submit by its client_request_id, settle by its receipt,
    the others by nature. A repeated claim leaves a lease behind that nobody renews; it ends by itself.
    """

    async def submit(self, submission: Submission, *, rate_limit: int) -> Submitted:
        """Queue a task, end it at once with the result of an equal one, let it wait for the result of an equal one
        that is on its way, or answer the one that the same caller submitted under the same client_request_id.

        Raises RateLimited, QueueFull, IdempotencyMismatch, UploadNotFound; NotItsTurn for the line of a batch; and
        StoreUnavailable when its own input is not awaited any more, since it took hours to be stored.
        """
        submitted = await self._submit(submission, rate_limit, has_input=True)
        assert submitted is not None  # noqa: S101  its input is there
        return submitted

    async def submit_without_input(self, submission: Submission, *, rate_limit: int) -> Submitted | None:
        """The answer to a submit whose input has not been stored, if it needs none: it is a replay, or has its result
        at once. None if it is to be stored first and then submitted: it is awaited from now on, and nothing else is
        done.

        Raises as `submit` does.
        """
        return await self._submit(submission, rate_limit, has_input=False)

    async def submit_each(self, submissions: Sequence[tuple[Submission, bool]]) -> list[Submitted | Exception | None]:
        """Lines of a batch, handed in one after the other in a single round trip; with each, whether its input has been
        stored. What `submit` or `submit_without_input` would answer, or raise, for each of them: once a line was not
        taken, it is the turn of none that follows."""
        calls = [self._call_of(submission, 0, has_input=has_input) for submission, has_input in submissions]
        return [_answer_or_error(answer) for answer in await self._run_each("submit", calls)]

    async def have_results(self, digests: Sequence[str]) -> list[bool]:
        """Whether a task with this reuse digest has ended, or is on its way."""
        found = await self._pipelined([("HEXISTS", self._keys.reuse, digest) for digest in digests])
        return [bool(is_there) for is_there in found]

    async def _submit(self, s: Submission, rate_limit: int, *, has_input: bool) -> Submitted | None:
        return _submitted_of(await self._run("submit", *self._call_of(s, rate_limit, has_input=has_input)))

    def _call_of(self, s: Submission, rate_limit: int, *, has_input: bool) -> tuple[str | bytes | float, ...]:
        """The arguments of the script."""
        client_request_id = s.request.client_request_id
        return (
            s.id, s.tenant, s.caller, s.request.model, s.priority, s.cost, msgspec.json.encode(s.request),
            s.fingerprint, idempotency_digest(s.caller, client_request_id) if client_request_id else "",
            rate_limit, self._settings.max_depth, s.max_retries, s.timeout_s,
            "" if s.start_within_s is None else int(s.start_within_s * 1000), s.result_ttl_s, RECORD_VERSION,
            State.PENDING, ALL_PRIORITIES, "" if s.finish_within_s is None else int(s.finish_within_s * 1000),
            s.reuse_digest or "", "run" if s.must_run else "", MAX_FOLLOWERS, moves_of(Verb.REUSE),
            "input" if has_input else "", hook_of(s.request.webhook), *_turn_of(s.turn),
            s.forecast.ahead_ms if s.forecast else "", s.forecast.own_ms if s.forecast else "",
            s.request.source.upload or "", s.own_input or "",
        )  # fmt: skip

    async def claim(
        self,
        *,
        worker: str,
        device: str,
        models: Iterable[str],
        priorities: Sequence[Priority] = PRIORITIES,
        round: int = 0,  # noqa: A002  the word of the scripts
    ) -> Claim:
        """Take the next task of these models and priorities.

        After StoreUnavailable the worker may have been given one without knowing, or be given one later: `disown` hands
        it back, and ends the round of claims.
        """
        fence = secrets.token_hex(4)
        asked = (
            moves_of(Verb.CLAIM), worker, device, self._lease_ms, self._settings.starvation_guard,
            " ".join(models), " ".join(priorities), fence, round,
        )  # fmt: skip
        answer = await self._run("claim", *asked, again=False)
        if answer[2:] == [b"late"]:
            late = (moves_of(Verb.EXPIRE), outcome_of(LATE), moves_of(Verb.OVERRUN), outcome_of(OVERRUN))
            answer = await self._run("claim_late", *asked, *late, again=False)
        if not answer[0]:
            return Claim(None, answer[1] / 1000 if answer[1] >= 0 else None, is_drained=len(answer) > 2)
        try:
            return Claim(_lease_of(answer, fence))
        except UnreadableRecord as error:
            await self._salvage.examine([error.name])
            return Claim(None, 0.0)

    async def renew(self, info: WorkerInfo, leases: Iterable[Lease]) -> set[str]:
        """Extend every lease of a worker and keep it listed; the keys of the leases that are lost."""
        pairs = [part for lease in leases for part in (lease.id, lease.token)]
        lost = await self._run("renew", info.id, msgspec.json.encode(info), self._lease_ms, *pairs)
        return {key.decode() for key in lost}

    async def sign_off(self, worker: str) -> None:
        """Take a worker off the list."""
        await self._run("renew", worker, "", self._lease_ms)

    async def progress(self, lease: Lease, stage: Stage, progress: Progress | None = None) -> bool:
        """Record where a task is; False when the lease is lost."""
        p = progress or Progress(done=0, total=0)
        return bool(await self._run("progress", lease.id, lease.token, stage, p.done, p.total, p.unit))

    async def complete(self, lease: Lease, outcome: Outcome) -> int:
        """End in SUCCESS, with all that wait for the same result; how many ended, 0 when the lease is lost and nothing
        was written."""
        return await self._settle(Verb.COMPLETE, lease, outcome=outcome)

    async def fail(self, lease: Lease, outcome: Outcome) -> bool:
        """End in FAILED; False when the lease is lost."""
        return bool(await self._settle(Verb.FAIL, lease, outcome=outcome, failures=1))

    async def retry(self, lease: Lease, problem: Problem, *, delay_ms: int) -> bool:
        """Wait `delay_ms`, then queue again; counts a failure. False when the lease is lost."""
        return bool(await self._settle(Verb.RETRY, lease, problem=problem, wait_ms=max(1, delay_ms), failures=1))

    async def release(self, lease: Lease) -> bool:
        """Hand back untried, at the head of its class; counts nothing. False when the lease is lost."""
        return bool(await self._settle(Verb.RELEASE, lease, wait_ms=0))

    async def disown(self, worker: str, known: Iterable[Lease], *, before: int) -> list[str]:
        """Hand back what this worker was given without knowing, after a claim whose answer was lost: every task that it
        holds by another lease than these. The ids of the tasks. Claims of the rounds `before` this one get nothing any
        more, however late they arrive."""
        released, place, keys = list[str](), 0, [lease.key for lease in known]
        while place >= 0:
            place, *found = await self._run(
                "disown", moves_of(Verb.RELEASE), worker, before, ROUND_KNOWN_S, place, *keys
            )
            released += [task_id.decode() for task_id in found]
        return released

    async def cancel(self, task_id: str, tenant: str) -> bool:
        """End in CANCELED, waiting or running, at once; False when it was canceled before.

        Raises TaskNotFound, TaskAlreadyFinal, and ResultExpired for one that was deleted within a week.
        """
        answer = await self._run("cancel", moves_of(Verb.CANCEL), task_id, tenant)
        _check(task_id, answer[0])
        if answer[0] == b"refused":
            raise TaskAlreadyFinal(f"the task has ended as {answer[1].decode()}")
        return bool(answer[0] == b"ok")

    async def resubmit(self, task_id: str, tenant: str) -> bool:
        """Queue an ended task again, under its id, with its attempts kept; False when it waits or runs already.

        Raises TaskNotFound, TaskAlreadyFinal for one that has succeeded, and ResultExpired for one that was deleted
        within a week.
        """
        answer = await self._run("resubmit", moves_of(Verb.RESUBMIT), task_id, tenant)
        _check(task_id, answer[0])
        if answer[0] == b"refused":
            raise TaskAlreadyFinal(f"the task has ended as {answer[1].decode()}")
        return bool(answer[0] == b"ok")

    async def delete(self, task_id: str, tenant: str) -> list[str] | None:
        """Forget an ended task before its time is over: nobody can show, retry or share it from now on. What is to be
        deleted from the storage for it, which is `Condemned` too; None when the task was deleted before.

        Raises TaskNotFound, and TaskNotFinal for one that waits or runs.
        """
        entries, answer = await self._run("delete", tenant, task_id)
        if answer == b"gone":
            return None
        _check(task_id, answer)
        if answer != b"ok":
            raise TaskNotFinal(f"the task is {answer.decode()}; cancel it before you delete it")
        return [entry.decode() for entry in entries]

    async def delete_each(self, task_ids: Sequence[str], tenant: str) -> tuple[int, list[str]]:
        """The same for many, but one that is not there or has not ended is passed over: how many were deleted, and what
        is to be deleted for them."""
        total, condemned, left = 0, list[str](), list(task_ids)
        while left:
            entries, *answers = await self._run("delete", tenant, *left[:TOGETHER])
            condemned += [entry.decode() for entry in entries]
            total += answers.count(b"ok")
            left = left[len(answers) :]
        return total, condemned

    async def await_inputs(self, keys: Sequence[str]) -> None:
        """Say which inputs are about to be stored, under keys that nobody has used before: what no task comes of is
        deleted."""
        await self._run("await", *keys)

    async def signals(self) -> AsyncIterator[tuple[str, str]]:
        """(`queued`, model), (`cancel`, key of the lease), (`drain`, worker) and (`resume`, worker) as they happen;
        (`look`, "") when some may have been missed."""
        async for message in listen(self._client, self._keys.signals):
            kind, _, subject = message.partition(" ")
            yield kind or "look", subject

    def ends(self) -> AsyncGenerator[str, None]:
        """The id of each task as it ends; "" when some may have been missed."""
        return listen(self._client, self._keys.ended)

    def changes(self) -> Changes:
        """Tells of single tasks as they change."""
        return Changes(self._client, self._keys.changed)

    async def _settle(
        self,
        verb: Verb,
        lease: Lease,
        *,
        problem: Problem | None = None,
        outcome: Outcome | None = None,
        wait_ms: int = -1,
        failures: int = 0,
    ) -> int:
        problem = problem or (outcome.error if outcome else None)
        answer = await self._run(
            "settle",
            verb, moves_of(verb), lease.id, lease.token,
            msgspec.json.encode(problem) if problem else "", msgspec.json.encode(outcome) if outcome else "",
            wait_ms, failures, "result" if verb is Verb.COMPLETE else "",
            outcome.execution.get("device_ms", "") if outcome else "",
        )  # fmt: skip
        if answer[0] != b"ok":
            return 0
        return 1 + (await self.answer_waiting(answer[2]) if answer[2] else 0)


def _lease_of(answer: Any, fence: str) -> Lease:
    """The answer of claim.lua. Raises UnreadableRecord."""
    with reading(answer[0].decode()):
        task_id, epoch, tenant, caller, priority, failures, crashes, max_retries, timeout_s, waited, *rest = answer
        body, promised = rest
        return Lease(
            id=task_id.decode(),
            epoch=epoch,
            fence=fence,
            tenant=tenant.decode(),
            caller=caller.decode(),
            priority=Priority(priority.decode()),
            failures=int(failures),
            crashes=int(crashes),
            max_retries=int(max_retries),
            timeout_s=float(timeout_s),
            waited_ms=waited / 1000,
            request=msgspec.json.decode(body, type=Request),
            promised_ms=int(promised) if promised else None,
        )


def _check(task_id: str, kind: bytes) -> None:
    if kind == b"gone":
        raise ResultExpired("the task was deleted, by a client or after its retention")
    if kind == b"absent":
        raise TaskNotFound(f"there is no task {task_id}")


def _submitted_of(answer: Any) -> Submitted | None:
    """None where only the input is missing. Raises what has kept the task out."""
    kind = answer[0].decode()
    if kind in ("turn", "window"):
        raise NotItsTurn(kind)
    if kind == "input":
        return None
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


def _answer_or_error(answer: Any) -> Submitted | Exception | None:
    try:
        return _submitted_of(answer)
    except (NotItsTurn, PenstockError) as error:
        return error


def hook_of(webhook: Webhook | None) -> str:
    """The field of the record by which scripts know whom to tell, and of what; at most 64 bytes."""
    if webhook is None:
        return ""
    return " ".join(
        [endpoint_digest(webhook.url), *(word for word, event in EVENTS.items() if event in webhook.events)]
    )


def _turn_of(turn: Turn | None) -> tuple[str | int, ...]:
    return (turn.batch, turn.epoch, turn.place, turn.window, turn.lease_ms) if turn else ("",) * 5


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
