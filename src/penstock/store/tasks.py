"""TaskStore: one method for each verb, each one script and one round trip."""

from collections.abc import AsyncIterator, Iterable, Sequence
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
from penstock.store.connection import Redis, ask, listen
from penstock.store.keys import Keys, idempotency_digest
from penstock.store.records import objects_of, task_of
from penstock.store.scripts import Scripts
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

PATIENCE_S = 2.0
"""Longest wait for one answer of Redis, where nobody waits for us."""

READ_TOGETHER = 100
"""Records read in one round trip."""

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


class Reclaimed(Struct, frozen=True, order=True):
    """A task taken back from a dead worker: waiting again, or failed as poison."""

    id: str
    state: State
    model: str


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

    def __init__(
        self, client: Redis, namespace: str, settings: QueueSettings, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._client = client
        self._keys = Keys(namespace)
        self._settings = settings
        self._patience_s = patience_s
        self._lease_ms = int(settings.lease_s * 1000)
        self._scripts = Scripts(client)

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
        """Take the next task of these models and priorities.

        After StoreUnavailable the worker may have been given one without knowing: `disown` hands it back.
        """
        answer = await self._run(
            "claim",
            _text(moves(Verb.CLAIM)), _text(moves(Verb.EXPIRE)), worker, device, self._lease_ms,
            self._settings.starvation_guard, " ".join(models), " ".join(priorities), _outcome_of(_LATE), again=False,
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

    async def disown(self, worker: str, known: Iterable[str]) -> list[str]:
        """Hand back what this worker was given without knowing, after a claim whose answer was lost."""
        return [t.decode() for t in await self._run("disown", _text(moves(Verb.RELEASE)), worker, *known)]

    async def cancel(self, task_id: str, tenant: str) -> bool:
        """End in CANCELED, waiting or running, at once; False when it was canceled before.

        Raises TaskNotFound, TaskAlreadyFinal.
        """
        answer = await self._run("cancel", _text(moves(Verb.CANCEL)), task_id, tenant)
        if answer[0] == b"absent":
            raise TaskNotFound(f"there is no task {task_id}")
        if answer[0] == b"refused":
            raise TaskAlreadyFinal(f"the task has ended as {answer[1].decode()}")
        return bool(answer[0] == b"ok")

    async def reclaim(self, dead_worker: str = "") -> list[Reclaimed]:
        """Take back tasks whose lease has ended, or all of one worker known to be dead."""
        answer = await self._run(
            "reclaim",
            _text(moves(Verb.RELEASE)), _text(moves(Verb.FAIL)), self._lease_ms, int(REAPER_PAUSE_S * 1000),
            self._settings.max_crashes, dead_worker, msgspec.json.encode(Problem.of(_LOST)), _outcome_of(_POISON),
        )  # fmt: skip
        rows = zip(answer[::3], answer[1::3], answer[2::3], strict=True)
        return [Reclaimed(t.decode(), State(state.decode()), m.decode()) for t, state, m in rows]

    async def expire(self) -> list[tuple[str, str]]:
        """End the tasks that were not started in time; (id, model) of each."""
        answer = await self._run("expire", _text(moves(Verb.EXPIRE)), _outcome_of(_LATE))
        return [(t.decode(), m.decode()) for t, m in zip(answer[::2], answer[1::2], strict=True)]

    async def prunable(self, limit: int = 100) -> dict[str, list[str]]:
        """Tasks past their retention -> the storage keys to delete before `prune`."""
        ((seconds, micros),) = await self._pipelined([("TIME",)])
        now_ms = seconds * 1000 + micros // 1000
        (ids,) = await self._pipelined([("ZRANGEBYSCORE", self._keys.finals, 0, now_ms, "LIMIT", 0, limit)])
        names = [task_id.decode() for task_id in ids]
        keys = [key for name in names for key in (self._keys.body(name), self._keys.outcome(name))]
        rows = await self._pipelined([("GET", key) for key in keys])
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
        newest = await self._newest(tenant, states, before, window + 1)
        picked: list[Task] = []
        for start in range(0, min(window, len(newest)), READ_TOGETHER):
            part = newest[:window][start : start + READ_TOGETHER]
            for place, task in enumerate(await self._read([task_id for _, task_id in part], tenant), start + 1):
                if task and model in (None, task.request.model) and priority in (None, task.priority):
                    picked.append(task)
                if len(picked) == limit or place == window:
                    return Page(tuple(picked), newest[place - 1][0] if place < len(newest) else None)
        return Page(tuple(picked), None)

    async def depths(self, models: Iterable[str]) -> list[QueueDepth]:
        """Depth and oldest age of every queue; the age looks at the 64 tasks nearest the head."""
        queues = [(name, priority) for name in models for priority in PRIORITIES]
        commands = [
            command
            for queue in queues
            for command in (("ZCARD", self._keys.queue(*queue)), ("ZRANGE", self._keys.queue(*queue), 0, 63))
        ]
        *rows, (seconds, micros) = await self._pipelined([*commands, ("TIME",)])
        heads = [[task_id.decode() for task_id in head] for head in rows[1::2]]
        created = iter(await self._pipelined([("HGET", self._keys.task(t), "created") for head in heads for t in head]))
        now = seconds * 1_000_000 + micros
        ages = [max((now - int(c) for _ in head if (c := next(created))), default=0) / 1e6 for head in heads]
        return [
            QueueDepth(model=name, priority=priority, depth=depth, oldest_s=max(0.0, age))
            for (name, priority), depth, age in zip(queues, rows[::2], ages, strict=True)
        ]

    async def workers(self) -> list[WorkerInfo]:
        """The workers heard of within their lease."""
        (rows,) = await self._pipelined([("HGETALL", self._keys.workers)])
        return [msgspec.json.decode(row, type=WorkerInfo) for row in rows.values()]

    async def count(self, tenant: str) -> dict[State, int]:
        """How many tasks are in each state."""
        counts = await self._pipelined([("ZCARD", self._keys.state(tenant, state)) for state in State])
        return dict(zip(State, counts, strict=True))

    async def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers."""
        await self._pipelined([("PING",)])

    async def signals(self) -> AsyncIterator[tuple[str, str]]:
        """(`queued`, model) and (`cancel`, task id) as they happen; (`look`, "") when some may have been missed."""
        async for message in listen(self._client, self._keys.signals):
            kind, _, subject = message.partition(" ")
            yield kind or "look", subject

    async def _newest(
        self, tenant: str, states: Sequence[State], before: int | None, limit: int
    ) -> list[tuple[int, str]]:
        top = "+inf" if before is None else f"({before}"
        commands = [
            ("ZREVRANGEBYSCORE", self._keys.state(tenant, state), top, "-inf", "WITHSCORES", "LIMIT", 0, limit)
            for state in states
        ]
        rows = await self._pipelined(commands)
        pairs = (pair for row in rows for pair in zip(row[::2], row[1::2], strict=True))
        merged = sorted(((int(score), task_id.decode()) for task_id, score in pairs), reverse=True)
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

    async def _read(self, task_ids: Sequence[str], tenant: str) -> list[Task | None]:
        async def read() -> list[Any]:
            await self._scripts.load()
            read_one = self._scripts["read"]
            async with self._client.pipeline(transaction=False) as pipe:
                for task_id in task_ids:
                    await read_one(keys=[self._keys.root], args=[task_id, tenant, _ALL_PRIORITIES], client=pipe)
                return list(await pipe.execute())

        answers = await ask(read, patience_s=self._patience_s)
        return [task_of(task_id, answer) for task_id, answer in zip(task_ids, answers, strict=True)]

    async def _pipelined(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        async def execute() -> list[Any]:
            async with self._client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return list(await pipe.execute())

        return await ask(execute, patience_s=self._patience_s) if commands else []

    async def _run(self, script: str, *args: str | bytes | float, again: bool = True) -> Any:
        async def run() -> Any:
            await self._scripts.load()
            return await self._scripts[script](keys=[self._keys.root], args=args)

        return await ask(run, patience_s=self._patience_s, again=again)


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
