"""LeaseStore: what a worker does with tasks: claim them, keep their leases, and settle how their attempts ended."""

import secrets
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from penstock.core.lease import Lease
from penstock.core.request import Request
from penstock.core.task import PRIORITIES, ErrorRecord, Outcome, Priority, Progress, Stage, Verb
from penstock.store.answers import Claim, WorkerInfo
from penstock.store.encoding import in_pool, moves_of, outcome_of
from penstock.store.engine import Arguments, Engine
from penstock.store.overdue import LATE, OVERRUN, Overdue
from penstock.store.records import FAULTS, UnreadableRecord, unreadable


def _fences() -> Iterator[str]:
    # One read for many: it lets go of the interpreter, and another thread may keep that for long.
    while True:
        some = secrets.token_bytes(FENCE_BYTES * 256)
        for at in range(0, len(some), FENCE_BYTES):
            yield some[at : at + FENCE_BYTES].hex()


FENCE_BYTES = 4

_FENCES = _fences()

ROUND_KNOWN_S = 86_400
"""No claim is on its way for longer than a day."""


class LeaseStore:
    """Leases of tasks. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes.

    Each call may be repeated when its answer was lost: a settle is recognised by its receipt, and a repeated claim
    leaves a lease behind that nobody renews and that ends by itself.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._overdue = Overdue(engine)

    async def claim(self, **asked: Any) -> Claim:
        """Take the next task: `claim_several` for one."""
        return (await self.claim_several(1, **asked))[0]

    async def claim_several(
        self,
        most: int,
        *,
        worker: str,
        device: str,
        models: Iterable[str],
        priorities: Sequence[Priority] = PRIORITIES,
        round: int = 0,  # noqa: A002  the word of the scripts
    ) -> list[Claim]:
        """Take the next `most` tasks of these models in one round trip, each for a slot that serves these priorities. A
        task of a lower priority is given all the same once `starvation_guard` claims of workers with the same models
        have passed it over. The last of the answers has no lease if there were fewer tasks.

        After StoreUnavailable the worker may hold tasks without knowing, or be given some later: `release_unknown`
        hands them back and ends the round of claims.
        """
        fence = next(_FENCES)
        asked: Arguments = {
            "moves": moves_of(Verb.CLAIM),
            "worker": worker,
            "device": device,
            "lease_ms": self._engine.lease_ms,
            "guard": self._engine.settings.starvation_guard,
            "models": in_pool(models),
            "priorities": " ".join(priorities),
            "fence": fence,
            "round": round,
        }
        answers = await self._engine.run_once("claim", **asked, most=most)
        if answers[0][2:] == [b"late"]:  # behind a task, the next claim ends it
            late: Arguments = {
                "expire_moves": moves_of(Verb.EXPIRE),
                "expire_outcome": outcome_of(LATE),
                "overrun_moves": moves_of(Verb.OVERRUN),
                "overrun_outcome": outcome_of(OVERRUN),
            }
            answers = [await self._engine.run_once("claim_late", **asked, **late)]
        return [await self._claim_of(answer, fence) for answer in answers]

    async def _claim_of(self, answer: Any, fence: str) -> Claim:
        if not answer[0]:
            if answer[2:] == [b"damaged"]:
                await self._engine.salvage.clear_way()
            next_due_s = answer[1] / 1000 if answer[1] >= 0 else None
            return Claim(None, next_due_s, is_drained=answer[2:] == [b"drained"])
        try:
            return Claim(_lease_of(answer, fence))
        except UnreadableRecord as error:
            await self._engine.salvage.examine([error.name])
            return Claim(None, 0.0)

    async def renew(self, info: WorkerInfo, leases: Iterable[Lease]) -> set[str]:
        """Extend all leases of a worker and keep the worker listed. Returns the keys of the leases that are lost."""
        pairs = [part for lease in leases for part in (lease.id, lease.token)]
        lost = await self._engine.run(
            "renew",
            worker=info.id,
            description=msgspec.json.encode(info),
            lease_ms=self._engine.lease_ms,
            models=in_pool(info.models),
            leases=pairs,
        )
        return {key.decode() for key in lost}

    async def progress(
        self, lease: Lease, stage: Stage, progress: Progress | None = None, *, took_ms: float | None = None
    ) -> bool:
        """Record the stage and the progress of a task, and the ms of a device that its attempt has taken so far, None
        before the device began with it: this is what it costs when it is ended without its worker. Returns False when
        the lease is lost."""
        p = progress or Progress(done=0, total=0)
        return bool(
            await self._engine.run(
                "progress",
                id=lease.id,
                token=lease.token,
                stage=stage,
                done=p.done,
                total=p.total,
                unit=p.unit,
                took_ms="" if took_ms is None else took_ms,
            )
        )

    # `log` is what the code of the model has said during the attempt, and is added to the log of the task.

    def complete(self, lease: Lease, outcome: Outcome, *, log: bytes = b"") -> Coroutine[Any, Any, int | None]:
        """End a task in SUCCESS, and with it all tasks that wait for the same result. Returns how many have ended; 0
        when the lease is lost and nothing was written. Returns None when there is no such task any more: a call before
        this one, whose answer was lost, may have given its result to equal tasks, which are still there."""
        return self._settle(Verb.COMPLETE, lease, outcome=outcome, log=log)

    async def fail(self, lease: Lease, outcome: Outcome, *, log: bytes = b"") -> bool:
        """End a task in FAILED. Returns False when the lease is lost."""
        return bool(await self._settle(Verb.FAIL, lease, outcome=outcome, failures=1, log=log))

    async def retry(
        self, lease: Lease, problem: ErrorRecord, *, delay_ms: int, device_ms: float | None = None, log: bytes = b""
    ) -> bool:
        """Let a task wait `delay_ms` and then queue it again; this counts as a failure. `device_ms` is the device time
        of the attempt, None when it is not known. Returns False when the lease is lost."""
        wait_ms = max(1, delay_ms)
        how: dict[str, Any] = {"wait_ms": wait_ms, "failures": 1, "device_ms": device_ms, "log": log}
        return bool(await self._settle(Verb.RETRY, lease, problem=problem, **how))

    async def release(self, lease: Lease, *, device_ms: float | None = None, log: bytes = b"") -> bool:
        """Put a task back to its old place in the queue; this counts nothing. `device_ms` is the device time of the
        attempt, None when it is not known. Returns False when the lease is lost."""
        return bool(await self._settle(Verb.RELEASE, lease, wait_ms=0, device_ms=device_ms, log=log))

    async def release_unknown(self, worker: str, known: Iterable[Lease], *, before: int) -> list[str]:
        """Put back every task that this worker holds by a lease which is not among the `known` ones: the answer to its
        claim was lost. Returns the ids of the tasks.

        Claims of the rounds `before` this one are given nothing from now on, however late they arrive.
        """
        released, place, keys = list[str](), 0, [lease.key for lease in known]
        while place >= 0:
            place, *found = await self._engine.run(
                "release_unknown",
                moves=moves_of(Verb.RELEASE),
                worker=worker,
                next_round=before,
                known_s=ROUND_KNOWN_S,
                place=place,
                leases=keys,
            )
            released += [task_id.decode() for task_id in found]
        return released

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
        log: bytes = b"",
    ) -> int | None:
        problem = problem or (outcome.error if outcome else None)
        execution = outcome.execution if outcome else {}
        answer = await self._engine.run(
            "settle",
            verb=verb,
            moves=moves_of(verb),
            id=lease.id,
            token=lease.token,
            problem=msgspec.json.encode(problem) if problem else "",
            outcome=msgspec.json.encode(outcome) if outcome else "",
            wait_ms=wait_ms,
            failures=failures,
            result="result" if verb is Verb.COMPLETE else "",
            file_bytes=_file_bytes_of(outcome),
            device_ms=execution.get("device_ms", "" if device_ms is None else device_ms),
            size=execution.get("kilopixels", ""),
            log=log,
        )
        if answer[0] != b"ok":
            return 0 if answer[1] else None
        return 1 + (await self._overdue.answer_waiting(answer[2]) if answer[2] else 0)


def _file_bytes_of(outcome: Outcome | None) -> int:
    result = outcome.result if outcome else None
    return sum(file.size for file in result.artifacts) if result else 0


def _with_inline(request: Request, pairs: Sequence[bytes]) -> Request:
    """The request with the inputs that are in Redis, given as key, bytes ..., in the place of their keys."""
    if not pairs:
        return request
    found = dict(zip(map(bytes.decode, pairs[::2]), pairs[1::2], strict=True))
    inputs = {
        name: replace(source, key=None, data=found[source.key]) if source.key in found else source
        for name, source in request.inputs.items()
    }
    return replace(request, inputs=inputs)


def _lease_of(answer: Any, fence: str) -> Lease:
    """Decode the answer of claim.lua. Raises UnreadableRecord."""
    try:
        task_id, epoch, tenant, caller, priority, failures, crashes, max_retries, timeout_s, waited, *rest = answer
        body, promised, device_ms, inline = rest
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
            request=_with_inline(msgspec.json.decode(body, type=Request), inline),
            promised_ms=int(promised) if promised else None,
            device_ms=float(device_ms) if device_ms else None,
        )
    except FAULTS as error:
        raise unreadable(answer[0].decode(), error) from error
