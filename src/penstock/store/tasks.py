"""TaskStore: one method for each verb, each one script and one round trip."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Sequence
from typing import Any

import msgspec

from penstock.core.lease import Lease
from penstock.core.request import Request
from penstock.core.submission import Submission
from penstock.core.task import PRIORITIES, ErrorRecord, Outcome, Priority, Progress, Stage, State, Verb
from penstock.errors import (
    ResultExpired,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
)
from penstock.store.answers import Claim, ResultFound, Submitted, WorkerInfo
from penstock.store.changes import Changes
from penstock.store.connection import listen
from penstock.store.overdue import LATE, OVERRUN, STATES, TOGETHER, Overdue, moves_from, moves_of, outcome_of
from penstock.store.records import UnreadableRecord, reading
from penstock.store.submits import answer_or_error, call_of, file_of, submitted_of

ASKED_MS = 2000
"""An idle worker that has asked for a task and died is given none later than this."""

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

        Raises RateLimited, QueueFull, IdempotencyMismatch, UploadNotFound; NotItsTurn for the line of a batch;
        ResultFound, as `Submission.file_seen` says; and StoreUnavailable when its own input is not awaited any more,
        since it took hours to be stored.
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
        calls = [
            call_of(submission, self._settings.max_depth, 0, has_input=has_input)
            for submission, has_input in submissions
        ]
        return [answer_or_error(answer) for answer in await self._run_each("submit", calls)]

    async def results_of(self, digests: Sequence[str]) -> list[ResultFound | None]:
        """The file that has the result of a task with this reuse digest; None where there is no result, or one without
        a file."""
        owners = await self._pipelined([("HGET", self._keys.reuse, digest) for digest in digests])
        known = [owner.decode() for owner in owners if owner]
        outcomes = await self._pipelined([("GET", self._keys.outcome(owner)) for owner in known]) if known else []
        found = {owner: file_of(owner, outcome) for owner, outcome in zip(known, outcomes, strict=True)}
        return [found[owner.decode()] if owner else None for owner in owners]

    async def result_lost(self, task_id: str) -> None:
        """The file of this task's result is gone: no equal task is given the result from now on."""
        await self._run("result_lost", task_id)

    async def have_results(self, digests: Sequence[str]) -> list[bool]:
        """Whether a task with this reuse digest has ended, or is on its way."""
        found = await self._pipelined([("HEXISTS", self._keys.reuse, digest) for digest in digests])
        return [bool(is_there) for is_there in found]

    async def _submit(self, s: Submission, rate_limit: int, *, has_input: bool) -> Submitted | None:
        return submitted_of(
            await self._run("submit", *call_of(s, self._settings.max_depth, rate_limit, has_input=has_input))
        )

    async def claim(
        self,
        *,
        worker: str,
        device: str,
        models: Iterable[str],
        priorities: Sequence[Priority] = PRIORITIES,
        round: int = 0,  # noqa: A002  the word of the scripts
    ) -> Claim:
        """Take the next task of these models, for a slot that is for these priorities. Whatever the slot is for, a task
        of a lower class comes when `starvation_guard` claims of workers with the same models have passed it over.

        After StoreUnavailable the worker may have been given one without knowing, or be given one later: `disown` hands
        it back, and ends the round of claims.
        """
        fence = secrets.token_hex(4)
        asked = (
            moves_of(Verb.CLAIM), worker, device, self._lease_ms, self._settings.starvation_guard,
            in_pool(models), " ".join(priorities), fence, round,
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
        lost = await self._run(
            "renew", info.id, msgspec.json.encode(info), self._lease_ms, in_pool(info.models), *pairs
        )
        return {key.decode() for key in lost}

    async def sign_off(self, worker: str) -> None:
        """Take a worker off the list."""
        await self._run("renew", worker, "", self._lease_ms, "")

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

    async def retry(self, lease: Lease, problem: ErrorRecord, *, delay_ms: int, device_ms: float | None = None) -> bool:
        """Wait `delay_ms`, then queue again; counts a failure. `device_ms` is what the attempt took of the device, None
        where nobody knows. False when the lease is lost."""
        wait_ms = max(1, delay_ms)
        return bool(
            await self._settle(Verb.RETRY, lease, problem=problem, wait_ms=wait_ms, failures=1, device_ms=device_ms)
        )

    async def release(self, lease: Lease, *, device_ms: float | None = None) -> bool:
        """Hand back untried, to its old place; counts nothing. `device_ms` as above. False when the lease is lost."""
        return bool(await self._settle(Verb.RELEASE, lease, wait_ms=0, device_ms=device_ms))

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

    async def cancel(self, task_id: str, tenant: str, *, states: Collection[State] = STATES) -> bool:
        """End in CANCELED, waiting or running, at once; False when it was canceled before.

        Raises TaskNotFound, TaskAlreadyFinal, also for one that is in none of these states, and ResultExpired for one
        that was deleted within a week.
        """
        answer = await self._run("cancel", moves_from(states, Verb.CANCEL), task_id, tenant)
        _check(task_id, answer[0])
        if answer[0] == b"refused":
            raise TaskAlreadyFinal(f"the task has ended as {answer[1].decode()}")
        return bool(answer[0] == b"ok")

    async def resubmit(self, task_id: str, tenant: str, *, states: Collection[State] = STATES) -> bool:
        """Queue an ended task again, under its id, with its attempts kept; False when it waits or runs already.

        Raises TaskNotFound, TaskAlreadyFinal for one that has succeeded, or has ended in none of these states, and
        ResultExpired for one that was deleted within a week.
        """
        answer = await self._run("resubmit", moves_from(states, Verb.RESUBMIT), task_id, tenant)
        _check(task_id, answer[0])
        if answer[0] == b"refused":
            raise TaskAlreadyFinal(f"the task has ended as {answer[1].decode()}")
        return bool(answer[0] == b"ok")

    async def delete(self, task_id: str, tenant: str) -> list[str] | None:
        """Forget an ended task before its time is over: nobody can show, retry or share it from now on. What is to be
        deleted from the storage for it, which is `Condemned` too; None when the task was deleted before.

        Raises TaskNotFound, and TaskNotFinal for one that waits or runs.
        """
        entries, answer = await self._run("delete", tenant, " ".join(STATES), task_id)
        if answer == b"gone":
            return None
        _check(task_id, answer)
        if answer != b"ok":
            raise TaskNotFinal(f"the task is {answer.decode()}; cancel it before you delete it")
        return [entry.decode() for entry in entries]

    async def delete_each(
        self, task_ids: Sequence[str], tenant: str, *, states: Collection[State] = STATES
    ) -> tuple[int, list[str]]:
        """The same for many, but one that is not there, has not ended, or is in none of these states is passed over:
        how many were deleted, and what is to be deleted for them."""
        total, condemned, left = 0, list[str](), list(task_ids)
        while left:
            entries, *answers = await self._run("delete", tenant, " ".join(states), *left[:TOGETHER])
            condemned += [entry.decode() for entry in entries]
            total += answers.count(b"ok")
            left = left[len(answers) :]
        return total, condemned

    async def await_inputs(self, keys: Sequence[str]) -> None:
        """Say which inputs are about to be stored, under keys that nobody has used before: what no task comes of is
        deleted."""
        await self._run("await", *keys)

    async def ask_for_task(self, worker: str, models: Iterable[str]) -> None:
        """Say that this worker is idle and finds nothing: one that holds a task of these models which has not begun,
        and may wait long, gives it back. What is asked is forgotten after a while."""
        said = " ".join(["idle", worker, *models])
        asks = ("SET", self._keys.asking(worker), "", "PX", ASKED_MS)
        await self._pipelined([asks, ("PUBLISH", self._keys.signals, said)])

    async def answer_ask(self, worker: str) -> bool:
        """Take it upon oneself to give that worker a task: False when another has, or it has asked long ago."""
        return await self._pipelined([("DEL", self._keys.asking(worker))]) == [1]

    async def signals(self) -> AsyncIterator[tuple[str, str]]:
        """(`queued`, model), (`cancel`, key of the lease), (`drain`, worker), (`resume`, worker), and (`idle`, a worker
        and its models) as they happen; (`look`, "") when some may have been missed."""
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
        problem: ErrorRecord | None = None,
        outcome: Outcome | None = None,
        wait_ms: int = -1,
        failures: int = 0,
        device_ms: float | None = None,
    ) -> int:
        problem = problem or (outcome.error if outcome else None)
        execution = outcome.execution if outcome else {}
        answer = await self._run(
            "settle",
            verb, moves_of(verb), lease.id, lease.token,
            msgspec.json.encode(problem) if problem else "", msgspec.json.encode(outcome) if outcome else "",
            wait_ms, failures, "result" if verb is Verb.COMPLETE else "",
            execution.get("device_ms", "" if device_ms is None else device_ms), execution.get("kilopixels", ""),
        )  # fmt: skip
        if answer[0] != b"ok":
            return 0
        return 1 + (await self.answer_waiting(answer[2]) if answer[2] else 0)


def in_pool(models: Iterable[str]) -> str:
    """In the form that scripts take: workers with the same models have the same text."""
    return " ".join(sorted(models))


def _lease_of(answer: Any, fence: str) -> Lease:
    """The answer of claim.lua. Raises UnreadableRecord."""
    with reading(answer[0].decode()):
        task_id, epoch, tenant, caller, priority, failures, crashes, max_retries, timeout_s, waited, *rest = answer
        body, promised, device_ms = rest
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
            device_ms=float(device_ms) if device_ms else None,
        )


def _check(task_id: str, kind: bytes) -> None:
    if kind == b"gone":
        raise ResultExpired("the task was deleted, by a client or after its retention")
    if kind == b"absent":
        raise TaskNotFound(f"there is no task {task_id}")
