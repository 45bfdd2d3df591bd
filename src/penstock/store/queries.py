"""Reading the queue: tasks, pages, depths, workers. Nothing here changes anything."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack

import msgspec
from msgspec import Struct
from redis.exceptions import NoScriptError, ResponseError

from penstock.core.task import PRIORITIES, Priority, State, Task
from penstock.errors import ResultExpired, TaskNotFound
from penstock.settings import QueueSettings
from penstock.store.answers import (
    Explanation,
    Matching,
    Pace,
    Page,
    QueueDepth,
    Running,
    SetAside,
    WorkerInfo,
)
from penstock.store.connection import Redis, ask
from penstock.store.keys import Keys
from penstock.store.records import (
    GONE,
    UnreadableRecord,
    explanation_of,
    paces_of,
    pause_of,
    running_of,
    set_aside_of,
    task_of,
    workers_of,
)
from penstock.store.salvage import Direct, Salvage
from penstock.store.scripts import Scripts

T = TypeVar("T")

PATIENCE_S = 2.0
"""Longest wait for one answer of Redis, where nobody waits for us."""

LOOKED_AT_TOGETHER = 100
"""Records of which a filter reads what it compares, in one round trip."""

READ_BYTES = 2 * 1024 * 1024
"""Of results, read in one round trip: others wait for the event loop meanwhile."""

FILTERED = 1000
"""Records that one page of a filtered list looks at."""

ALL_PRIORITIES = " ".join(PRIORITIES)


class Filters(TypedDict, total=False):
    """What a task has to have: see `Queries.matching`."""

    model: str | None
    priority: Priority | None
    metadata: Mapping[str, str] | None
    batch: str | None
    after: int | None
    before: int | None


class Which(Filters, total=False):
    """Which tasks, and how many: see `Queries.matching`."""

    states: Sequence[State]
    limit: int
    rounds: int


class Queries:
    """The reading half of TaskStore. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(
        self, client: Redis, namespace: str, settings: QueueSettings, *, patience_s: float = PATIENCE_S
    ) -> None:
        self._client = client
        self.namespace = namespace
        self._keys = Keys(namespace)
        self._settings = settings
        self._patience_s = patience_s
        self._lease_ms = int(settings.lease_s * 1000)
        self._scripts = Scripts(client)
        self._salvage = Salvage(self._keys, Direct(client, self._keys, self._scripts, patience_s))

    async def get(self, task_id: str, tenant: str) -> Task:
        """The whole record. Raises TaskNotFound, also for a task of another tenant, and ResultExpired for one that
        was pruned within a week."""
        answer = await self._run("read", task_id, tenant)
        if answer == GONE:
            raise ResultExpired("the task was deleted, by a client or after its retention")
        try:
            found = task_of(task_id, answer)
        except UnreadableRecord:
            found = None
        if found is None:
            found = await self._salvaged(task_id, tenant)
        return found

    async def _salvaged(self, task_id: str, tenant: str) -> Task:
        """A task that was not found, or whose record could not be read: in the second case it has failed by now."""
        if await self._salvage.examine([task_id]):
            found = task_of(task_id, await self._run("read", task_id, tenant))
            if found is not None:
                return found
        raise TaskNotFound(f"there is no task {task_id}")

    async def explain(self, task_id: str, tenant: str) -> Explanation:
        """What is known of how long it still takes. Raises as `get` does."""
        answer = await self._run("explain", task_id, tenant)
        if answer == GONE:
            raise ResultExpired("the task was deleted, by a client or after its retention")
        try:
            found = explanation_of(answer)
        except UnreadableRecord:
            if not await self._salvage.clear_way([task_id]):
                raise
            found = explanation_of(await self._run("explain", task_id, tenant))
        if found is None:
            raise TaskNotFound(f"there is no task {task_id}")
        return found

    async def paces(self) -> dict[str, Pace]:
        """Of every model of which a task has ended."""
        (row,) = await self._pipelined([("HGETALL", self._keys.pace)])
        return paces_of(row)

    async def page(self, tenant: str, **which: Unpack[Which]) -> Page:
        """The tasks that `matching` finds."""
        found = await self.matching(tenant, **which)
        return Page(tuple(await self.read_each(found.ids, tenant)), found.next_before)

    async def matching(
        self,
        tenant: str,
        *,
        states: Sequence[State] = tuple(State),
        model: str | None = None,
        priority: Priority | None = None,
        metadata: Mapping[str, str] | None = None,
        batch: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int = 50,
        rounds: int = 1,
    ) -> Matching:
        """Tasks newest first, created between the given µs. A filter by model, priority, metadata or batch looks at the
        next 1,000 tasks, so many `rounds` at most: there may be few, or none, and still a `next_before`."""
        ids: list[str] = []
        for _ in range(rounds):
            found = await self._match(
                tenant, states, model, priority, metadata or {}, batch, after, before, limit - len(ids)
            )
            ids += found.ids
            before = found.next_before
            if before is None or len(ids) == limit:
                break
        return Matching(ids, before)

    async def _match(
        self,
        tenant: str,
        states: Sequence[State],
        model: str | None,
        priority: Priority | None,
        metadata: Mapping[str, str],
        batch: str | None,
        after: int | None,
        before: int | None,
        limit: int,
    ) -> Matching:
        """One round of `matching`."""
        is_filtered = bool(metadata) or (model, priority, batch) != (None, None, None)
        window = FILTERED if is_filtered else limit
        newest = await self._newest(tenant, states, after, before, window + 1)
        picked: list[str] = []
        for start in range(0, min(window, len(newest)), LOOKED_AT_TOGETHER):
            ids = [task_id for _, task_id in newest[:window][start : start + LOOKED_AT_TOGETHER]]
            fits = await self._fits(ids, model, priority, metadata, batch) if is_filtered else [True] * len(ids)
            for place, (task_id, fit) in enumerate(zip(ids, fits, strict=True), start + 1):
                if fit:
                    picked.append(task_id)
                if len(picked) == limit or place == window:
                    return Matching(picked, newest[place - 1][0] if place < len(newest) else None)
        return Matching(picked, None)

    async def _fits(
        self,
        task_ids: Sequence[str],
        model: str | None,
        priority: Priority | None,
        metadata: Mapping[str, str],
        batch: str | None,
    ) -> list[bool]:
        """Which of these tasks pass the filters; of a record no more is read than is compared."""
        rows = await self._pipelined([("HMGET", self._keys.task(t), "model", "priority", "batch") for t in task_ids])
        wanted = [name.encode() if name is not None else None for name in (model, priority, batch)]
        fits = [all(name in (None, of_task) for name, of_task in zip(wanted, _named(row), strict=True)) for row in rows]
        if metadata:
            left = [task_id for task_id, fit in zip(task_ids, fits, strict=True) if fit]
            bodies = iter(await self._pipelined([("GET", self._keys.body(task_id)) for task_id in left]))
            fits = [fit and metadata.items() <= _metadata_of(next(bodies)).items() for fit in fits]
        return fits

    async def depths(self, models: Iterable[str]) -> list[QueueDepth]:
        """Of every queue; the age looks at the oldest tasks of 64 callers."""
        queues = [(name, priority) for name in models for priority in PRIORITIES]
        found = await self._run_each("depth", queues)
        pace, paused = await self._pipelined([("HGETALL", self._keys.pace), ("HGETALL", self._keys.paused)])
        paces = paces_of(pace)
        return [
            QueueDepth(
                model=name,
                priority=priority,
                depth=depth,
                oldest_s=max(0.0, age / 1e6),
                device_s=paces[name].device_s * depth if name in paces else None,
                pause=pause_of(paused.get(f"{name}:{priority}".encode())),
            )
            for (name, priority), (depth, age) in zip(queues, found, strict=True)
        ]

    async def ahead(self, tenant: str, caller: str, model: str, priority: Priority) -> int:
        """How many tasks would be served before one more of this caller."""
        return int(await self._run("ahead", tenant, caller, model, priority))

    async def workers(self) -> list[WorkerInfo]:
        """The workers heard of within their lease."""
        rows, drained = await self._pipelined([("HGETALL", self._keys.workers), ("ZRANGE", self._keys.drained, 0, -1)])
        return workers_of(rows.values(), drained)

    async def running(self, tenant: str) -> list[Running]:
        """What runs of this tenant's, the longest lease first."""
        (ids,) = await self._pipelined([("ZREVRANGE", self._keys.running, 0, -1)])
        names = [task_id.decode() for task_id in ids]
        fields = ("tenant", "worker", "state", "model", "priority", "stage", "claimed")
        rows = await self._pipelined([("HMGET", self._keys.task(name), *fields) for name in names])
        of_tenant = [(name, row[1:]) for name, row in zip(names, rows, strict=True) if row[0] == tenant.encode()]
        found: list[Running] = []
        for name, row in of_tenant:
            with suppress(UnreadableRecord):
                found += [one] if (one := running_of(name, row)) else []
        return found

    async def count(self, tenant: str) -> dict[State, int]:
        """How many tasks are in each state."""
        counts = await self._pipelined([("ZCARD", self._keys.state(tenant, state)) for state in State])
        return dict(zip(State, counts, strict=True))

    async def ended(self, task_ids: Sequence[str]) -> list[str]:
        """Those of these tasks that are in a final state."""
        scores = await self._pipelined([("ZSCORE", self._keys.finals, task_id) for task_id in task_ids])
        return [task_id for task_id, score in zip(task_ids, scores, strict=True) if score is not None]

    async def unreadable(self) -> list[SetAside]:
        """The records that were set aside within a week, the latest first."""
        (rows,) = await self._pipelined([("ZREVRANGE", self._keys.unreadable, 0, -1, "WITHSCORES")])
        return [set_aside_of(member, int(at)) for member, at in zip(rows[::2], rows[1::2], strict=True)]

    async def ping(self) -> None:
        """Raises StoreUnavailable unless Redis answers, and takes writes."""
        await self._run("ping")

    async def _newest(
        self, tenant: str, states: Sequence[State], after: int | None, before: int | None, limit: int
    ) -> list[tuple[int, str]]:
        top = "+inf" if before is None else f"({before}"
        bottom = "-inf" if after is None else f"({after}"
        commands = [
            ("ZREVRANGEBYSCORE", self._keys.state(tenant, state), top, bottom, "WITHSCORES", "LIMIT", 0, limit)
            for state in states
        ]
        rows = await self._pipelined(commands)
        pairs = (pair for row in rows for pair in zip(row[::2], row[1::2], strict=True))
        merged = sorted(((int(score), task_id.decode()) for task_id, score in pairs), reverse=True)
        return merged[:limit]

    async def read_each(self, task_ids: Sequence[str], tenant: str) -> list[Task]:
        """The tasks of these ids that are still there."""
        found: list[Task] = []
        for some in await self._pieces(task_ids, self._keys.outcome):
            read = await self._read_some(some, tenant)
            missing = [task_id for task_id in some if task_id not in read]
            if missing and await self._salvage.examine(missing):
                read |= await self._read_some(missing, tenant)
            found += (read[task_id] for task_id in some if task_id in read)
        return found

    async def _read_some(self, task_ids: Sequence[str], tenant: str) -> dict[str, Task]:
        """Those that are there and can be read."""
        answers = await self._run_apart("read", [(task_id, tenant) for task_id in task_ids])
        read: dict[str, Task] = {}
        for task_id, answer in zip(task_ids, answers, strict=True):
            with suppress(UnreadableRecord):
                if task := task_of(task_id, answer):
                    read[task_id] = task
        return read

    async def _pieces(self, ids: Sequence[str], key_of: Callable[[str], str]) -> list[list[str]]:
        """The ids in their order, cut so that what is under these keys can be read piece by piece."""
        return cut(ids, await self._pipelined([("STRLEN", key_of(one)) for one in ids]), READ_BYTES)

    async def _run_apart(self, script: str, calls: Sequence[tuple[str | bytes | float, ...]]) -> list[Any]:
        """As `_run_each`, for answers that may be large: over a connection of the pool, where they hold up nobody."""
        await self._ask(self._scripts.load)
        asked = self._scripts[script]
        commands = [("EVALSHA", asked.sha, 1, self._keys.root, *args) for args in calls]
        try:
            return await self._pipelined(commands)
        except NoScriptError:
            await self._ask(partial(self._client.script_load, asked.script))
            return await self._pipelined(commands)

    async def _run_each(self, script: str, calls: Sequence[tuple[str | bytes | float, ...]]) -> list[Any]:
        """The answers of a script to each of these calls, made in this order; all may be repeated. They go out in one
        write."""

        async def run() -> list[Any]:
            await self._scripts.load()
            asked = self._scripts[script]
            return await asyncio.gather(*(asked(keys=[self._keys.root], args=args) for args in calls))

        return await self._ask(run, about=calls) if calls else []

    async def _pipelined(self, commands: Sequence[tuple[str | bytes | float, ...]]) -> list[Any]:
        async def execute() -> list[Any]:
            async with self._client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return list(await pipe.execute())

        return await self._ask(execute, about=commands) if commands else []

    async def _run(self, script: str, *args: str | bytes | float, again: bool = True) -> Any:
        async def run() -> Any:
            await self._scripts.load()
            return await self._scripts[script](keys=[self._keys.root], args=args)

        return await self._ask(run, again=again, about=args)

    async def _run_to_end(self, script: str, *args: str | bytes | float) -> list[Any]:
        """What a script answers that does no more than one may, called as often as it says that there may be more."""
        found: list[Any] = []
        has_more = 1
        while has_more:
            has_more, *part = await self._run(script, *args)
            found += part
        return found

    async def _ask(self, call: Callable[[], Awaitable[T]], *, again: bool = True, about: Iterable[Any] = ()) -> T:
        """The answer; where a record that cannot be read was in the way, it is set aside, and Redis asked once more."""
        try:
            return await ask(call, patience_s=self._patience_s, again=again)
        except NoScriptError:
            raise
        except ResponseError:
            if not await self._salvage.clear_way(about):
                raise
            return await ask(call, patience_s=self._patience_s, again=again)


def cut(ids: Sequence[str], sizes: Sequence[int], most: int) -> list[list[str]]:
    """Pieces of at most this size all together, or of one that is larger alone."""
    pieces: list[list[str]] = []
    room = 0
    for one, size in zip(ids, sizes, strict=True):
        if not pieces or size > room:
            pieces.append([])
            room = most
        pieces[-1].append(one)
        room -= size
    return pieces


def _named(row: list[bytes | None]) -> tuple[bytes | None, ...]:
    """Model, priority and batch from these fields of a record: the last one has the place of the line, too."""
    model, priority, line = row
    return model, priority, line.partition(b" ")[2] if line else None


class _Noted(Struct):
    """Of a body, what is compared."""

    metadata: dict[str, str] = {}


def _metadata_of(body: bytes | None) -> dict[str, str]:
    try:
        return msgspec.json.decode(body, type=_Noted).metadata if body else {}
    except msgspec.MsgspecError:
        return {}
