"""TaskListing: tasks newest first, all of a state or those that pass filters, and how many there are."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypedDict, Unpack

import msgspec
from msgspec import Struct

from penstock.core.model import split_id
from penstock.core.task import Priority, State, Task
from penstock.store.answers import Matching, Page
from penstock.store.engine import Engine
from penstock.store.records import UnreadableRecord, task_of

LOOKED_AT_TOGETHER = 100
"""Records whose filtered fields are read in one round trip."""

FILTERED = 1000
"""Records that one page of a filtered list looks at: ten round trips of LOOKED_AT_TOGETHER, some milliseconds. A filter
that few tasks pass must not read the whole list for one request; its client goes on at `next_before`."""


WITH_ERROR = (State.FAILED, State.EXPIRED, State.CANCELED)
"""The states of tasks that may have an error."""

HEX = frozenset("0123456789abcdef")
ID_DIGITS = 12
"""Digits of an id that say when it was made: see `core.task.new_task_id`."""
ID_AHEAD_US, ID_BEHIND_US = 10_000_000, 120_000_000
"""How much earlier than its id a task may be created, where the clocks differ; and how much later, since its input is
received and looked at in between."""


class Filters(TypedDict, total=False):
    """The conditions that a task must meet; `TaskListing.matching` explains them."""

    model: str | None
    priority: Priority | None
    metadata: Mapping[str, str] | None
    batch: str | None
    caller: str | None
    error_code: str | None
    id_prefix: str
    after: int | None
    before: int | None


class Which(Filters, total=False):
    """Which tasks, and how many of them: see `TaskListing.matching`."""

    states: Sequence[State]
    limit: int
    rounds: int


class _Wanted(Struct, frozen=True):
    model: str | None
    priority: Priority | None
    metadata: Mapping[str, str]
    batch: str | None
    caller: str | None
    error_code: str | None
    id_prefix: str

    @property
    def is_anything(self) -> bool:
        named = (self.model, self.priority, self.batch, self.caller, self.error_code)
        return not self.metadata and not self.id_prefix and all(value is None for value in named)

    def fits(self, row: list[bytes | None]) -> bool:
        """Compare model, priority, batch and caller of a record; the batch has the place of the line in front of it.
        The bare name of a model is that of all its versions."""
        model, priority, line, caller = row
        found = (priority, line.partition(b" ")[2] if line else None, caller)
        named = (self.priority, self.batch, self.caller)
        wanted = (name.encode() if name is not None else None for name in named)
        is_of_model = self.model is None or (model is not None and self.model in (model.decode(), _name_of(model)))
        return is_of_model and all(name in (None, of_task) for name, of_task in zip(wanted, found, strict=True))


def _name_of(model: bytes) -> str:
    return split_id(model.decode())[0]


class TaskListing:
    """Lists of tasks. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

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
        caller: str | None = None,
        error_code: str | None = None,
        id_prefix: str = "",
        after: int | None = None,
        before: int | None = None,
        limit: int = 50,
        rounds: int = 1,
    ) -> Matching:
        """Ids of tasks newest first, created between the given moments (µs). Any other filter looks at the next
        FILTERED tasks, at most `rounds` times: few or none may pass, and the list may still go on at `next_before`. The
        beginning of an id says when its task was created, so that only those of that time are looked at."""
        wanted = _Wanted(model, priority, metadata or {}, batch, caller, error_code, id_prefix)
        after, before = within(id_prefix, after, before)
        if error_code is not None:
            states = [state for state in states if state in WITH_ERROR]
        ids: list[str] = []
        for _ in range(rounds):
            found = await self._match(tenant, states, wanted, after, before, limit - len(ids))
            ids += found.ids
            before = found.next_before
            if before is None or len(ids) == limit:
                break
        return Matching(ids, before)

    async def read_each(self, task_ids: Sequence[str], tenant: str) -> list[Task]:
        """The tasks of these ids that are still there."""
        found: list[Task] = []
        for some in await self._engine.pieces(task_ids, self._keys.outcome):
            read = await self._read_some(some, tenant)
            missing = [task_id for task_id in some if task_id not in read]
            if missing and await self._engine.salvage.examine(missing):
                read |= await self._read_some(missing, tenant)
            found += (read[task_id] for task_id in some if task_id in read)
        return found

    async def count(self, tenant: str) -> dict[State, int]:
        """Returns how many tasks are in each state."""
        counts = await self._engine.pipelined([("ZCARD", self._keys.state(tenant, state)) for state in State])
        return dict(zip(State, counts, strict=True))

    async def recent_errors(self, tenants: Sequence[str], *, after: int, limit: int) -> list[str]:
        """Return the codes of the newest tasks of these tenants that were created after this moment (µs) and have
        failed or expired: at most `limit`, of which each tenant gives at most as many."""
        keys = [self._keys.state(tenant, state) for tenant in tenants for state in (State.FAILED, State.EXPIRED)]
        rows = await self._engine.pipelined(
            [("ZREVRANGEBYSCORE", key, "+inf", f"({after}", "WITHSCORES", "LIMIT", 0, limit) for key in keys]
        )
        newest = sorted((pair for row in rows for pair in zip(row[1::2], row[::2], strict=True)), reverse=True)[:limit]
        outcomes = await self._engine.pipelined([("GET", self._keys.outcome(one.decode())) for _, one in newest])
        return [code for outcome in outcomes if (code := _error_code_of(outcome))]

    async def tenant_of(self, task_id: str) -> str | None:
        """Return the tenant whose task this is; None where there is no such task."""
        (tenant,) = await self._engine.pipelined([("HGET", self._keys.task(task_id), "tenant")])
        return None if tenant is None else str(tenant.decode(errors="replace"))

    async def _match(
        self,
        tenant: str,
        states: Sequence[State],
        wanted: _Wanted,
        after: int | None,
        before: int | None,
        limit: int,
    ) -> Matching:
        window = limit if wanted.is_anything else FILTERED
        newest = await self._newest(tenant, states, after, before, window + 1)
        picked: list[str] = []
        for start in range(0, min(window, len(newest)), LOOKED_AT_TOGETHER):
            ids = [task_id for _, task_id in newest[:window][start : start + LOOKED_AT_TOGETHER]]
            fits = [True] * len(ids) if wanted.is_anything else await self._fits(ids, wanted)
            for place, (task_id, fit) in enumerate(zip(ids, fits, strict=True), start + 1):
                if fit:
                    picked.append(task_id)
                if len(picked) == limit or place == window:
                    return Matching(picked, newest[place - 1][0] if place < len(newest) else None)
        return Matching(picked, None)

    async def _fits(self, task_ids: Sequence[str], wanted: _Wanted) -> list[bool]:
        """Which of these tasks pass the filters. Bodies, which may be large, are read of those only whose metadata is
        compared."""
        left = [task_id for task_id in task_ids if task_id.startswith(wanted.id_prefix)]
        rows = await self._engine.pipelined(
            [("HMGET", self._keys.task(t), "model", "priority", "batch", "caller") for t in left]
        )
        left = [task_id for task_id, row in zip(left, rows, strict=True) if wanted.fits(row)]
        if wanted.metadata:
            bodies = await self._engine.pipelined([("GET", self._keys.body(task_id)) for task_id in left])
            found = zip(left, bodies, strict=True)
            left = [task_id for task_id, body in found if wanted.metadata.items() <= _metadata_of(body).items()]
        if wanted.error_code is not None:
            outcomes = await self._engine.pipelined([("GET", self._keys.outcome(task_id)) for task_id in left])
            ended = zip(left, outcomes, strict=True)
            left = [task_id for task_id, outcome in ended if _error_code_of(outcome) == wanted.error_code]
        passed = set(left)
        return [task_id in passed for task_id in task_ids]

    async def _newest(
        self, tenant: str, states: Sequence[State], after: int | None, before: int | None, limit: int
    ) -> list[tuple[int, str]]:
        top = "+inf" if before is None else f"({before}"
        bottom = "-inf" if after is None else f"({after}"
        commands = [
            ("ZREVRANGEBYSCORE", self._keys.state(tenant, state), top, bottom, "WITHSCORES", "LIMIT", 0, limit)
            for state in states
        ]
        rows = await self._engine.pipelined(commands)
        pairs = (pair for row in rows for pair in zip(row[::2], row[1::2], strict=True))
        merged = sorted(((int(score), task_id.decode()) for task_id, score in pairs), reverse=True)
        return merged[:limit]

    async def _read_some(self, task_ids: Sequence[str], tenant: str) -> dict[str, Task]:
        answers = await self._engine.run_apart("read", [{"id": task_id, "tenant": tenant} for task_id in task_ids])
        read: dict[str, Task] = {}
        for task_id, answer in zip(task_ids, answers, strict=True):
            with suppress(UnreadableRecord):
                if task := task_of(task_id, answer):
                    read[task_id] = task
        return read


def within(id_prefix: str, after: int | None, before: int | None) -> tuple[int | None, int | None]:
    """Return the bounds (µs) of tasks whose ids may begin with `id_prefix`: an id has the ms when it was made, by the
    clock of an API process, in the digits after `tsk_`."""
    digits = id_prefix.removeprefix("tsk_")[:ID_DIGITS]
    if not digits or not id_prefix.startswith("tsk_") or not set(digits) <= HEX:
        return after, before
    first_us = int(digits.ljust(ID_DIGITS, "0"), 16) * 1000 - ID_AHEAD_US
    last_us = int(digits.ljust(ID_DIGITS, "f"), 16) * 1000 + ID_BEHIND_US
    return max(after or 0, first_us), last_us if before is None else min(before, last_us)


class _ErrorCode(Struct):
    code: str = ""


class _Ended(Struct):
    error: _ErrorCode | None = None


def _error_code_of(outcome: bytes | None) -> str | None:
    try:
        ended = msgspec.json.decode(outcome, type=_Ended) if outcome else _Ended()
    except msgspec.MsgspecError:
        return None
    return ended.error.code if ended.error else None


class _Metadata(Struct):
    metadata: dict[str, str] = {}


def _metadata_of(body: bytes | None) -> dict[str, str]:
    try:
        return msgspec.json.decode(body, type=_Metadata).metadata if body else {}
    except msgspec.MsgspecError:
        return {}
