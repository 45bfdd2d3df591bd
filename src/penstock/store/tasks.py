"""TaskStore: one method for each verb, each one script and one round trip."""

from collections.abc import AsyncIterator, Iterable, Sequence
from importlib import resources
from typing import Any

import msgspec
from msgspec import Struct

from penstock.errors import (
    IdempotencyMismatch,
    PoisonInput,
    QueueFull,
    RateLimited,
    StartDeadlineExceeded,
    TaskAlreadyFinal,
    TaskNotFound,
    WorkerLost,
)
from penstock.settings import QueueSettings
from penstock.store.connection import Redis, listen, translated
from penstock.store.keys import Keys, idempotency_digest
from penstock.store.records import objects_of, task_of
from penstock.task import (
    PRIORITIES,
    RECORD_VERSION,
    Lease,
    Outcome,
    Priority,
    Problem,
    Progress,
    Request,
    Stage,
    State,
    Submission,
    Task,
    Verb,
    moves,
)

REAPER_PAUSE_S = 3.0
"""The reaper runs every second; after a longer gap leases are first given one full period."""

_LOST = WorkerLost("the worker that ran this attempt died or went silent")
_POISON = PoisonInput("the worker died each time it ran this task; it is not tried again")
_LATE = StartDeadlineExceeded("no worker was free to start this task in time")


class Submitted(Struct, frozen=True):
    """Answer to a submit. `rate_left` and `rate_reset_s` describe the caller's submit limit."""

    id: str
    replayed: bool
    position: int | None
    rate_left: int
    rate_reset_s: int


class Claim(Struct, frozen=True):
    """A lease, or none and how long until a delayed task is due (None: nothing is delayed)."""

    lease: Lease | None
    next_due_s: float | None = None


class WorkerInfo(Struct, frozen=True, kw_only=True):
    """What a worker says of itself with every renewal."""

    id: str
    device: str
    host: str
    models: tuple[str, ...]
    slots: int
    running: int
    state: str
    started: int


class QueueDepth(Struct, frozen=True, kw_only=True):
    """Waiting tasks of one model and priority, and the age of the oldest near its head."""

    model: str
    priority: str
    depth: int
    oldest_s: float


class Page(Struct, frozen=True):
    """Tasks newest first; `next_before` continues the list, None at its end."""

    tasks: tuple[Task, ...]
    next_before: int | None


class TaskStore:
    """The queue. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes.

    Every script may be repeated when its answer was lost: submit by its client_request_id, settle by its receipt,
    the others by nature. A repeated claim leaves a lease behind that nobody renews; it ends by itself.
    """

    def __init__(self, client: Redis, namespace: str, settings: QueueSettings) -> None:
        self._client = client
        self._keys = Keys(namespace)
        self._settings = settings
        self._lease_ms = int(settings.lease_s * 1000)
        lua = resources.files("penstock.store") / "lua"
        prelude = (lua / "prelude.lua").read_text()
        self._scripts = {
            file.name.removesuffix(".lua"): client.register_script(prelude + file.read_text())
            for file in lua.iterdir()
            if file.name.endswith(".lua") and file.name != "prelude.lua"
        }

    async def submit(self, submission: Submission, *, rate_limit: int) -> Submitted:
        """Queue a task, or answer the one that the same caller submitted under the same client_request_id.

        Raises RateLimited, QueueFull, IdempotencyMismatch.
        """
        s = submission
        client_request_id = s.request.client_request_id
        answer = await self._run(
            "submit",
            s.id, s.tenant, s.caller, s.request.model, s.priority, s.cost, msgspec.json.encode(s.request),
            s.fingerprint, idempotency_digest(s.caller, client_request_id) if client_request_id else "",
            rate_limit, self._settings.max_depth, s.max_retries, s.timeout_s,
            "" if s.start_within_s is None else int(s.start_within_s * 1000), s.result_ttl_s, RECORD_VERSION,
            State.PENDING, _ALL_PRIORITIES,
        )  # fmt: skip
        kind = answer[0].decode()
        if kind in ("ok", "replay"):
            position = answer[2] if answer[2] >= 0 else None
            return Submitted(answer[1].decode(), kind == "replay", position, answer[3], -(-answer[4] // 1000))
        raise _refusal(kind, answer[1])

    async def claim(
        self, *, worker: str, device: str, models: Iterable[str], priorities: Sequence[Priority] = PRIORITIES
    ) -> Claim:
        """Take the next task of these models and priorities."""
        answer = await self._run(
            "claim",
            _text(moves(Verb.CLAIM)), _text(moves(Verb.EXPIRE)), worker, device, self._lease_ms,
            self._settings.starvation_guard, " ".join(models), " ".join(priorities), _outcome_of(_LATE),
        )  # fmt: skip
        if not answer[0]:
            return Claim(None, answer[1] / 1000 if answer[1] >= 0 else None)
        task_id, epoch, tenant, caller, priority, failures, max_retries, timeout_s, waited, body = answer
        return Claim(
            Lease(
                id=task_id.decode(),
                epoch=epoch,
                tenant=tenant.decode(),
                caller=caller.decode(),
                priority=Priority(priority.decode()),
                failures=int(failures),
                max_retries=int(max_retries),
                timeout_s=float(timeout_s),
                waited_ms=waited / 1000,
                request=msgspec.json.decode(body, type=Request),
            )
        )

    async def renew(self, info: WorkerInfo, leases: Iterable[Lease]) -> set[str]:
        """Extend every lease of a worker and keep it listed; the ids whose lease is lost."""
        pairs = [part for lease in leases for part in (lease.id, lease.epoch)]
        lost = await self._run("renew", info.id, msgspec.json.encode(info), self._lease_ms, *pairs)
        return {task_id.decode() for task_id in lost}

    async def sign_off(self, worker: str) -> None:
        """Take a worker off the list."""
        await self._run("renew", worker, "", self._lease_ms)

    async def progress(self, lease: Lease, stage: Stage, progress: Progress | None = None) -> bool:
        """Record where a task is; False when the lease is lost."""
        p = progress or Progress(done=0, total=0)
        return bool(await self._run("progress", lease.id, lease.epoch, stage, p.done, p.total, p.unit))

    async def complete(self, lease: Lease, outcome: Outcome) -> bool:
        """End in SUCCESS; False when the lease is lost and nothing was written."""
        return await self._settle(Verb.COMPLETE, lease, outcome=outcome)

    async def fail(self, lease: Lease, outcome: Outcome) -> bool:
        """End in FAILED; False when the lease is lost."""
        return await self._settle(Verb.FAIL, lease, outcome=outcome, failures=1)

    async def retry(self, lease: Lease, problem: Problem, *, delay_ms: int) -> bool:
        """Wait `delay_ms`, then queue again; counts a failure. False when the lease is lost."""
        return await self._settle(Verb.RETRY, lease, problem=problem, wait_ms=max(1, delay_ms), failures=1)

    async def release(self, lease: Lease) -> bool:
        """Hand back untried, at the head of its class; counts nothing. False when the lease is lost."""
        return await self._settle(Verb.RELEASE, lease, wait_ms=0)

    async def cancel(self, task_id: str, tenant: str) -> None:
        """End in CANCELED, waiting or running, at once; repeating it is fine.

        Raises TaskNotFound, TaskAlreadyFinal.
        """
        answer = await self._run("cancel", _text(moves(Verb.CANCEL)), task_id, tenant)
        if answer[0] == b"absent":
            raise TaskNotFound(f"there is no task {task_id}")
        if answer[0] == b"refused":
            raise TaskAlreadyFinal(f"the task has ended as {answer[1].decode()}")

    async def reclaim(self, dead_worker: str = "") -> list[tuple[str, State]]:
        """Take back tasks whose lease has ended, or all of one worker known to be dead."""
        answer = await self._run(
            "reclaim",
            _text(moves(Verb.RELEASE)), _text(moves(Verb.FAIL)), self._lease_ms, int(REAPER_PAUSE_S * 1000),
            self._settings.max_crashes, dead_worker, msgspec.json.encode(Problem.of(_LOST)), _outcome_of(_POISON),
        )  # fmt: skip
        return [(t.decode(), State(state.decode())) for t, state in zip(answer[::2], answer[1::2], strict=True)]

    async def expire(self) -> list[tuple[str, str]]:
        """End the tasks that were not started in time; (id, model) of each."""
        answer = await self._run("expire", _text(moves(Verb.EXPIRE)), _outcome_of(_LATE))
        return [(t.decode(), m.decode()) for t, m in zip(answer[::2], answer[1::2], strict=True)]

    async def prunable(self, limit: int = 100) -> dict[str, list[str]]:
        """Tasks past their retention -> the storage keys to delete before `prune`."""
        with translated():
            seconds, micros = await self._client.time()
            now_ms = seconds * 1000 + micros // 1000
            ids = await self._client.zrangebyscore(self._keys.finals, 0, now_ms, start=0, num=limit)
            names = [task_id.decode() for task_id in ids]
            rows = await self._client.mget(
                [key for n in names for key in (self._keys.body(n), self._keys.outcome(n))] or [self._keys.root]
            )
        return {name: objects_of(rows[2 * i], rows[2 * i + 1]) for i, name in enumerate(names)}

    async def prune(self, task_ids: Iterable[str]) -> int:
        """Delete records past their retention; how many."""
        return int(await self._run("prune", *task_ids))

    async def get(self, task_id: str, tenant: str) -> Task:
        """The whole record. Raises TaskNotFound, also for a task of another tenant."""
        found = task_of(task_id, await self._run("read", task_id, tenant, _ALL_PRIORITIES))
        if found is None:
            raise TaskNotFound(f"there is no task {task_id}")
        return found

    async def page(
        self,
        tenant: str,
        *,
        states: Sequence[State] = tuple(State),
        model: str | None = None,
        priority: Priority | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Page:
        """Tasks newest first, created before the given µs. A filter by model or priority looks at the next 1,000
        tasks at most, so a page may be short, or empty, and still have a `next_before`."""
        window = limit if model is None and priority is None else 1000
        newest = await self._newest(tenant, states, before, window)
        picked: list[Task] = []
        for created, task_id in newest:
            found = task_of(task_id, await self._run("read", task_id, tenant, _ALL_PRIORITIES))
            if found and model in (None, found.request.model) and priority in (None, found.priority):
                picked.append(found)
            if len(picked) == limit:
                return Page(tuple(picked), created)
        return Page(tuple(picked), newest[-1][0] if len(newest) == window else None)

    async def depths(self, models: Iterable[str]) -> list[QueueDepth]:
        """Depth and oldest age of every queue; the age looks at the 64 tasks nearest the head."""
        queues = [(name, priority) for name in models for priority in PRIORITIES]
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for queue in queues:
                    pipe.zcard(self._keys.queue(*queue))
                    pipe.zrange(self._keys.queue(*queue), 0, 63)
                pipe.time()
                *rows, (seconds, micros) = await pipe.execute()
            depths = []
            for (name, priority), depth, head in zip(queues, rows[::2], rows[1::2], strict=True):
                created = [await self._client.hget(self._keys.task(t.decode()), "created") for t in head]  # type: ignore[misc]
                oldest = min((int(c) for c in created if c), default=seconds * 1_000_000 + micros)
                age_s = max(0.0, seconds + micros / 1e6 - oldest / 1e6)
                depths.append(QueueDepth(model=name, priority=priority, depth=depth, oldest_s=age_s))
        return depths

    async def workers(self) -> list[WorkerInfo]:
        """The workers heard of within their lease."""
        with translated():
            rows = await self._client.hgetall(self._keys.workers)  # type: ignore[misc]
        return [msgspec.json.decode(row, type=WorkerInfo) for row in rows.values()]

    async def count(self, tenant: str) -> dict[State, int]:
        """How many tasks are in each state."""
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for state in State:
                    pipe.zcard(self._keys.state(tenant, state))
                return dict(zip(State, await pipe.execute(), strict=True))

    async def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        with translated():
            await self._client.ping()

    async def signals(self) -> AsyncIterator[tuple[str, str]]:
        """(`queued`, model) and (`cancel`, task id) as they happen; (`look`, "") when some may have been missed."""
        async for message in listen(self._client, self._keys.signals):
            kind, _, subject = message.partition(" ")
            yield kind or "look", subject

    async def _newest(
        self, tenant: str, states: Sequence[State], before: int | None, limit: int
    ) -> list[tuple[int, str]]:
        top = "+inf" if before is None else f"({before}"
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for state in states:
                    pipe.zrevrangebyscore(self._keys.state(tenant, state), top, "-inf", 0, limit, withscores=True)
                rows = await pipe.execute()
        merged = sorted(((int(score), t.decode()) for row in rows for t, score in row), reverse=True)
        return merged[:limit]

    async def _settle(
        self,
        verb: Verb,
        lease: Lease,
        *,
        problem: Problem | None = None,
        outcome: Outcome | None = None,
        wait_ms: int = -1,
        failures: int = 0,
    ) -> bool:
        problem = problem or (outcome.error if outcome else None)
        answer = await self._run(
            "settle",
            verb, _text(moves(verb)), lease.id, lease.epoch,
            msgspec.json.encode(problem) if problem else "", msgspec.json.encode(outcome) if outcome else "",
            wait_ms, failures,
        )  # fmt: skip
        return bool(answer[0] == b"ok")

    async def _run(self, script: str, *args: str | bytes | float) -> Any:
        with translated():
            return await self._scripts[script](keys=[self._keys.root], args=args)


_ALL_PRIORITIES = " ".join(PRIORITIES)


def _text(table: dict[str, str]) -> str:
    return " ".join(f"{source}>{target}" for source, target in table.items())


def _outcome_of(error: WorkerLost | PoisonInput | StartDeadlineExceeded) -> bytes:
    return msgspec.json.encode(Outcome(error=Problem.of(error)))


def _refusal(kind: str, value: Any) -> Exception:
    if kind == "rate":
        return RateLimited("too many submits with this API key", retry_after_s=-(-int(value) // 1000) or 1)
    if kind == "full":
        return QueueFull(f"{value} tasks are waiting for this model", retry_after_s=5)
    return IdempotencyMismatch(
        f"this client_request_id belongs to task {value.decode()}, submitted with another body",
        param="client_request_id",
    )
