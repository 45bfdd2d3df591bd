"""TaskStore: what clients do with tasks: submit, read, cancel, run again and delete them."""

from collections.abc import AsyncGenerator, Collection, Sequence

from penstock.core.quotas import NO_QUOTAS, Quotas, text_of
from penstock.core.submission import Submission
from penstock.core.task import State, Task, Verb
from penstock.store.answers import Explanation, ResultFound, Submitted
from penstock.store.changes import Changes
from penstock.store.connection import listen
from penstock.store.encoding import moves_from
from penstock.store.engine import Engine
from penstock.store.records import GONE, UnreadableRecord, explanation_of, task_of
from penstock.store.submits import answer_or_error, call_of, files_of, submitted_of
from penstock.store.verdicts import CANCEL, DELETE, RESUBMIT, no_task, task_gone, verdict

STATES = tuple(State)

DELETED_TOGETHER = 100
"""Tasks that one call of a script is asked to delete; it answers for as many as it had time for."""

WATCHED_TOGETHER = 500
"""Tasks that one script notes as watched, which is 1,000 commands."""


class TaskStore:
    """Tasks. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes.

    Each call may be repeated when its answer was lost: a submit is recognised by its client_request_id, the others
    change nothing the second time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def submit(self, submission: Submission, *, rate_limit: int) -> Submitted:
        """Queue a task; or end it at once with the result of an equal one; or let it wait for the result of an equal
        one; or answer with the task that the same caller submitted under the same client_request_id.

        Raises RateLimited, QuotaExceeded, QueueFull, IdempotencyMismatch, UploadNotFound; NotItsTurn for the line of a
        batch; ResultFound, as `Submission.file_seen` says; and StoreUnavailable when its own input is no longer
        awaited, since it took hours to be stored.
        """
        call = call_of(submission, self._engine.settings, rate_limit, is_stored=True)
        submitted = submitted_of(await self._engine.call("submit", call))
        assert submitted is not None  # noqa: S101  its input is there
        await self._engine.copied(self._keys.task(submitted.id))
        return submitted

    async def submit_unstored(self, submission: Submission, *, rate_limit: int) -> Submitted | None:
        """Submit a task whose input has not been stored, if that is not needed: because its input stays in Redis, or
        because it is a replay, or has its result at once. Returns None when the input has to be stored first: its key
        is awaited from now on, and nothing else has happened.

        Raises as `submit` does.
        """
        call = call_of(submission, self._engine.settings, rate_limit, is_stored=False)
        submitted = submitted_of(await self._engine.call("submit", call))
        if submitted is not None:
            await self._engine.copied(self._keys.task(submitted.id))
        return submitted

    async def submit_each(self, submissions: Sequence[tuple[Submission, bool]]) -> list[Submitted | Exception | None]:
        """Enqueue lines of a batch, one after the other, in a single round trip. Each comes with whether its own input
        has been stored.

        Returns what `submit` or `submit_unstored` would return or raise for each of them. Once a line was refused,
        all lines behind it are refused with NotItsTurn.
        """
        calls = [
            call_of(submission, self._engine.settings, 0, is_stored=is_stored) for submission, is_stored in submissions
        ]
        return [answer_or_error(answer) for answer in await self._engine.run_each("submit", calls)]

    async def await_inputs(self, keys: Sequence[str]) -> None:
        """Announce inputs that are about to be stored, under keys that nobody has used before. They are deleted later
        unless a task comes with them."""
        await self._engine.run("await", keys=keys)

    async def results_of(self, digests: Sequence[str]) -> list[ResultFound | None]:
        """For each reuse digest the files of its result; None where there is no result, or one without files."""
        owners = await self._engine.pipelined([("HGET", self._keys.reuse, digest) for digest in digests])
        known = [owner.decode() for owner in owners if owner]
        outcomes = await self._engine.pipelined([("GET", self._keys.outcome(owner)) for owner in known])
        found = {owner: files_of(owner, outcome) for owner, outcome in zip(known, outcomes, strict=True)}
        return [found[owner.decode()] if owner else None for owner in owners]

    async def have_results(self, digests: Sequence[str]) -> list[bool]:
        """For each reuse digest whether a task has its result, or is on its way to it."""
        found = await self._engine.pipelined([("HEXISTS", self._keys.reuse, digest) for digest in digests])
        return [bool(is_there) for is_there in found]

    async def result_lost(self, task_id: str) -> None:
        """Note that the file of this task's result is gone: no equal task gets the result from now on."""
        await self._engine.run("result_lost", id=task_id)

    async def get(self, task_id: str, tenant: str) -> Task:
        """The whole record. Raises TaskNotFound, also for a task of another tenant, and ResultExpired for one that
        was pruned within a week. A task whose record was damaged comes back as failed."""
        answer = await self._engine.run("read", id=task_id, tenant=tenant)
        if answer == GONE:
            raise task_gone(task_id)
        try:
            found = task_of(task_id, answer)
        except UnreadableRecord:
            found = None
        if found is None and await self._engine.salvage.examine([task_id]):
            found = task_of(task_id, await self._engine.run("read", id=task_id, tenant=tenant))
        if found is None:
            raise no_task(task_id)
        return found

    async def log(self, task_id: str, tenant: str) -> str:
        """What the code of the model has said during the attempts of a task, at most 64 KiB; empty for most. An attempt
        is there once it has ended. Raises TaskNotFound and ResultExpired as `get` does."""
        answer = await self._engine.run("log", id=task_id, tenant=tenant)
        if not answer:
            raise no_task(task_id)
        if len(answer) > 1:
            raise task_gone(task_id)
        return bytes(answer[0]).decode(errors="replace")

    async def explain(self, task_id: str, tenant: str) -> Explanation:
        """What is known of how long a task still takes. Raises as `get` does."""
        answer = await self._engine.run("explain", id=task_id, tenant=tenant)
        if answer == GONE:
            raise task_gone(task_id)
        try:
            found = explanation_of(answer)
        except UnreadableRecord:
            if not await self._engine.salvage.clear_way([task_id]):
                raise
            found = explanation_of(await self._engine.run("explain", id=task_id, tenant=tenant))
        if found is None:
            raise no_task(task_id)
        return found

    async def ended(self, task_ids: Sequence[str]) -> list[str]:
        """Those of these tasks that are in a final state."""
        scores = await self._engine.pipelined([("ZSCORE", self._keys.finals, task_id) for task_id in task_ids])
        return [task_id for task_id, score in zip(task_ids, scores, strict=True) if score is not None]

    def ends(self) -> AsyncGenerator[str, None]:
        """Yields the id of each task as it ends; "" when some may have been missed."""
        return listen(self._engine.client, self._keys.ended)

    def changes(self) -> Changes:
        """Tells of single tasks as they change."""
        return Changes(self._engine.client, self._keys.changed, self.watch)

    async def cancel(self, task_id: str, tenant: str, *, states: Collection[State] = STATES) -> bool:
        """End a waiting or running task in CANCELED, at once. Returns False when it was canceled before.

        Raises TaskNotFound; TaskAlreadyFinal, also for a task that is in none of these states; and ResultExpired for
        one that was deleted within a week.
        """
        answer = await self._engine.run("cancel", moves=moves_from(states, Verb.CANCEL), id=task_id, tenant=tenant)
        return bool(verdict(CANCEL, task_id, answer))

    async def resubmit(
        self, task_id: str, tenant: str, *, states: Collection[State] = STATES, quotas: Quotas = NO_QUOTAS
    ) -> bool:
        """Queue an ended task again, under its id and with its attempts kept. Returns False when it waits or runs.

        Raises QuotaExceeded; TaskNotFound; TaskAlreadyFinal for one that has succeeded, or has ended in none of these
        states; and ResultExpired for one that was deleted within a week.
        """
        moves = moves_from(states, Verb.RESUBMIT)
        answer = await self._engine.run("resubmit", moves=moves, id=task_id, tenant=tenant, quotas=text_of(quotas))
        return bool(verdict(RESUBMIT, task_id, answer))

    async def delete(self, task_id: str, tenant: str) -> list[str] | None:
        """Forget an ended task before its retention is over: nobody can show, retry or share it from now on.

        Returns the keys and prefixes that are to be deleted from the storage for it, and notes them in `Condemned`;
        None when the task was deleted before. Raises TaskNotFound, and TaskNotFinal for a task that waits or runs.
        """
        entries, answer = await self._engine.run("delete", tenant=tenant, states=" ".join(STATES), ids=[task_id])
        return [entry.decode() for entry in entries] if verdict(DELETE, task_id, answer) else None

    async def delete_each(
        self, task_ids: Sequence[str], tenant: str, *, states: Collection[State] = STATES
    ) -> tuple[int, list[str]]:
        """Forget ended tasks as `delete` does, but skip those that are not there, have not ended, or are in none of
        these states. Returns how many were deleted, and what is to be deleted from the storage for them."""
        total, condemned, left = 0, list[str](), list(task_ids)
        while left:
            some, wanted = left[:DELETED_TOGETHER], " ".join(states)
            entries, *answers = await self._engine.run("delete", tenant=tenant, states=wanted, ids=some)
            condemned += [entry.decode() for entry in entries]
            total += answers.count(b"ok")
            left = left[len(answers) :]
        return total, condemned

    async def watch(self, task_ids: Sequence[str]) -> None:
        """Let every change of these tasks be told from now on; for others no message is sent. Ids of tasks that are not
        there are passed over."""
        for at in range(0, len(task_ids), WATCHED_TOGETHER):
            await self._engine.run("watch", ids=task_ids[at : at + WATCHED_TOGETHER])
