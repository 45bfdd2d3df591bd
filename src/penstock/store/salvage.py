"""Salvage: sets records aside that cannot be read, so that they are in nobody's way. Their tasks fail, and everything
else goes on."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

from loguru import logger
from redis.exceptions import ResponseError

from penstock.core.access import NAME
from penstock.core.task import State
from penstock.store.connection import Redis, ask
from penstock.store.keys import Keys, tenants_of
from penstock.store.scripts import TAKES, Argument
from penstock.store.soundness import FAILURE, Held, flaw_of_batch, flaw_of_task, flaw_of_upload, mended

TOGETHER = 100
"""Records that are read in one transaction."""

ALL = 1000
"""Members of one set that are examined when it is not known which record is in the way."""

FEWEST = 10
"""The same of each tenant, however many there are."""

VAIN_S = 5.0
"""Shortest time between two looks at all records, when the first has found nothing."""

_IDS = re.compile(r"(?:tsk|bat|upl)_[0-9a-f]{8,64}")

Command = tuple[Argument, ...]


class Direct:
    """Asks Redis about records that may be damaged: an error is an answer here, and nothing is salvaged again."""

    def __init__(self, client: Redis, keys: Keys, patience_s: float) -> None:
        self._client = client
        self._keys = keys
        self._patience_s = patience_s

    async def at_once(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one transaction. Returns their answers, with errors in the place of some."""

        async def execute() -> list[Any]:
            async with self._client.pipeline(transaction=True) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                return list(await pipe.execute(raise_on_error=False))

        return await ask(execute, patience_s=self._patience_s)

    async def run(self, script: str, /, **values: Argument | Sequence[Argument]) -> Any:
        """Run a script with the values that its head takes, by name. Raises ResponseError when it fails."""
        args = TAKES[script].arguments(values)
        return await self._client.run(script, self._keys.root, *args, patience_s=self._patience_s)


class Salvage:
    """Examines records, and sets those aside that cannot be read."""

    def __init__(self, keys: Keys, runner: Direct) -> None:
        self._keys = keys
        self._runner = runner
        self._vain_at = float("-inf")

    async def clear_way(self, about: Iterable[Any] = ()) -> bool:
        """Set aside the record that made a command fail: one that is named in its arguments, or else any that sweeps
        and claims may come upon. Returns whether there was one."""
        if await self.examine(ids_in(about)):
            return True
        clock = asyncio.get_running_loop().time
        if clock() - self._vain_at < VAIN_S:
            return False
        found = await self.examine(await self._in_use())
        if not found:
            self._vain_at = clock()
        return bool(found)

    async def examine(self, ids: Iterable[str]) -> list[str]:
        """Examine the records of these tasks, batches and uploads. Returns the ids of those that were set aside."""
        found: list[str] = []
        by_kind: dict[str, list[str]] = {"tsk": [], "bat": [], "upl": []}
        for one in dict.fromkeys(ids):
            by_kind.get(one[:3], by_kind["tsk"]).append(one)
        for kind, look in (("tsk", self._tasks), ("bat", self._batches), ("upl", self._uploads)):
            named = by_kind[kind]
            for at in range(0, len(named), TOGETHER):
                found += await look(named[at : at + TOGETHER])
        return found

    async def _tasks(self, ids: Sequence[str]) -> list[str]:
        k = self._keys
        tenants = dict(zip(ids, await self._tenants_of(map(k.task, ids)), strict=True))
        answers = await self._asked(
            ids,
            lambda one: [
                ("HGETALL", k.task(one)),
                ("GET", k.body(one)),
                ("GET", k.outcome(one)),
                ("GET", k.attempts(one)),
                ("HGETALL", k.events(one)),
                *(("ZSCORE", k.state(*place), one) for place in product(tenants[one], State)),
            ],
        )
        found: list[str] = []
        for one, (fields, body, outcome, attempts, events, *scores) in zip(ids, answers, strict=True):
            tenant, listed = _places(tenants[one], scores)
            held = Held(one, tenant, fields, body, outcome, attempts, events, listed)
            if (why := flaw_of_task(held)) and await self._set_aside(held, why):
                found.append(one)
        return found

    async def _set_aside(self, held: Held, why: str) -> bool:
        instead = mended(held)
        fields = [part for pair in instead.fields.items() for part in pair]
        done = await self._runner.run(
            "set_aside",
            id=held.id,
            tenant=held.tenant,
            reason=why,
            parts=" ".join(instead.aside),
            states=" ".join(State),
            failed_state=State.FAILED,
            outcome=FAILURE,
            body=instead.body,
            fields=fields,
        )
        if done and instead.is_misplaced:
            await self._leave_queues(held.id)
        _say(held.id, why)
        return bool(done)

    async def _leave_queues(self, task_id: str) -> None:
        """Take a task out of every queue: the fields of its record that say where it waits are damaged."""
        cursor, queues = 0, self._keys.queue("*", "*")
        while True:
            ((cursor, keys),) = await self._runner.at_once([("SCAN", cursor, "MATCH", queues, "COUNT", ALL)])
            for key in keys:
                await self._leave_queue(key, task_id)
            if not int(cursor):
                return

    async def _leave_queue(self, key: bytes, task_id: str) -> None:
        cursor = 0
        while True:
            ((cursor, rows),) = await self._runner.at_once(
                [("ZSCAN", key, cursor, "MATCH", f"*{task_id}", "COUNT", 1000)]
            )
            if rows:
                await self._runner.at_once([("ZREM", key, *(member for member, _ in rows))])
            if not int(cursor):
                return

    async def _batches(self, ids: Sequence[str]) -> list[str]:
        k = self._keys
        tenants = await self._tenants_of(map(k.batch, ids))
        answers = await self._asked(
            ids, lambda one: [("HGETALL", k.batch(one)), ("GET", k.plan(one)), ("HGETALL", k.events(one))]
        )
        found: list[str] = []
        for one, owners, (fields, plan, events) in zip(ids, tenants, answers, strict=True):
            if why := flaw_of_batch(one, fields, plan, events):
                caller = _caller_of(fields)
                lists = [f"batches:{tenant}".encode() for tenant in owners]
                lists += [f"unfinished:{tenant}/".encode() + caller for tenant in owners]
                await self._put_away(one, why, owners, "batch plan open ends events", "feeding", "closed", *lists)
                found.append(one)
        return found

    async def _uploads(self, ids: Sequence[str]) -> list[str]:
        tenants = await self._tenants_of(map(self._keys.upload, ids))
        answers = await self._asked(ids, lambda one: [("HGETALL", self._keys.upload(one))])
        found: list[str] = []
        for one, owners, (fields,) in zip(ids, tenants, answers, strict=True):
            if why := flaw_of_upload(one, fields):
                lists = [f"files:{tenant}:".encode() + _caller_of(fields) for tenant in owners]
                await self._put_away(one, why, owners, "upload", "uploads", *lists)
                found.append(one)
        return found

    async def _put_away(self, one: str, why: str, owners: Sequence[str], parts: str, *sets: str | bytes) -> None:
        tenant = owners[0] if len(owners) == 1 else ""
        await self._runner.run("put_away", id=one, tenant=tenant, reason=why, parts=parts, sets=sets)
        _say(one, why)

    async def _tenants_of(self, keys: Iterable[str]) -> list[list[str]]:
        """For each record the tenant that it names, or all that are known where it names none that could be."""
        known, *named = await self._runner.at_once(
            [("SMEMBERS", self._keys.tenants), *(("HGET", key, "tenant") for key in keys)]
        )
        everybody = tenants_of(() if isinstance(known, ResponseError) else known)
        return [
            [name] if isinstance(one, bytes) and NAME.fullmatch(name := one.decode(errors="replace")) else everybody
            for one in named
        ]

    async def _in_use(self) -> list[str]:
        k, first = self._keys, ("0", str(ALL - 1))
        (tenants,) = await self._tenants_of([k.of_root("of-nobody")])
        some = ("0", str(max(FEWEST, ALL // len(tenants)) - 1))
        sets = (
            k.running,
            k.delayed,
            k.feeding,
            k.uploads,
            k.closed,
            k.finals,
            *map(k.of_root, ("starting", "deadlines", "inline:ended")),
        )
        rows = await self._runner.at_once(
            [
                *(("ZRANGE", key, *first) for key in sets),
                *(("ZRANGE", k.state(*place), *some) for place in product(tenants, (State.RUNNING, State.PENDING))),
                *(("ZREVRANGE", k.batches(tenant), *some) for tenant in tenants),
                ("SMEMBERS", k.of_root("answering")),
                ("HVALS", k.reuse),
            ]
        )
        return list(dict.fromkeys(one for row in rows if not isinstance(row, ResponseError) for one in ids_in(row)))

    async def _asked(self, ids: Sequence[str], commands: Callable[[str], list[Command]]) -> list[list[Any]]:
        asked = [commands(one) for one in ids]
        answers = iter(await self._runner.at_once([command for each in asked for command in each]))
        return [[next(answers) for _ in each] for each in asked]


def _places(tenants: Sequence[str], scores: Sequence[Any]) -> tuple[str, dict[State, float]]:
    """Of these tenants the one that lists a task, and under which states; the first where none does. `scores` has those
    of each state, tenant by tenant."""
    found: dict[str, dict[State, float]] = {}
    for (tenant, state), at in zip(product(tenants, State), scores, strict=True):
        if isinstance(at, float):
            found.setdefault(tenant, {})[state] = at
    return next(iter(found.items()), (tenants[0], {}))


def _caller_of(fields: Any) -> bytes:
    return bytes(fields.get(b"caller", b"")) if isinstance(fields, dict) else b""


def ids_in(arguments: Iterable[Any]) -> list[str]:
    """The ids of tasks, batches and uploads that occur in arguments or answers."""
    found: list[str] = []
    for argument in arguments:
        if isinstance(argument, tuple | list | set):
            found += ids_in(argument)
        elif isinstance(argument, str | bytes) and len(argument) < 1000:
            text = argument if isinstance(argument, str) else argument.decode(errors="replace")
            found += _IDS.findall(text)
    return found


def _say(name: str, why: str) -> None:
    logger.bind(id=name, reason=why).error("a record could not be read, and was set aside")
