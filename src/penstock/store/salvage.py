"""Salvage: sets records aside that cannot be read, so that they are in nobody's way. Their tasks fail, and everything
else goes on."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from loguru import logger
from redis.exceptions import ResponseError

from penstock.core.access import TENANT
from penstock.core.task import State
from penstock.store.connection import Redis, ask
from penstock.store.keys import Keys
from penstock.store.scripts import TAKES, Argument
from penstock.store.soundness import FAILURE, Held, flaw_of_batch, flaw_of_task, flaw_of_upload, mended

TOGETHER = 100
"""Records that are read in one transaction."""

ALL = 1000
"""Members of one set that are examined when it is not known which record is in the way."""

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

        async def run() -> Any:
            await self._client.scripts.load()
            return await self._client.scripts[script](keys=[self._keys.root], args=args)

        return await ask(run, patience_s=self._patience_s)


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
        answers = await self._asked(
            ids,
            lambda one: [
                ("HGETALL", k.task(one)),
                ("GET", k.body(one)),
                ("GET", k.outcome(one)),
                ("LRANGE", k.attempts(one), 0, -1),
                ("HGETALL", k.events(one)),
                *(("ZSCORE", k.state(TENANT, state), one) for state in State),
            ],
        )
        found: list[str] = []
        for one, (fields, body, outcome, attempts, events, *scores) in zip(ids, answers, strict=True):
            listed = {state: score for state, score in zip(State, scores, strict=True) if isinstance(score, float)}
            held = Held(one, fields, body, outcome, attempts, events, listed)
            if (why := flaw_of_task(held)) and await self._set_aside(held, why):
                found.append(one)
        return found

    async def _set_aside(self, held: Held, why: str) -> bool:
        instead = mended(held)
        fields = [part for pair in instead.fields.items() for part in pair]
        done = await self._runner.run(
            "set_aside",
            id=held.id,
            tenant=TENANT,
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
        answers = await self._asked(
            ids, lambda one: [("HGETALL", k.batch(one)), ("GET", k.plan(one)), ("HGETALL", k.events(one))]
        )
        found: list[str] = []
        for one, (fields, plan, events) in zip(ids, answers, strict=True):
            if why := flaw_of_batch(one, fields, plan, events):
                caller = fields.get(b"caller", b"") if isinstance(fields, dict) else b""
                sets = ("feeding", "closed", f"batches:{TENANT}", b"unfinished:" + caller)
                await self._put_away(one, why, "batch plan open ends events", *sets)
                found.append(one)
        return found

    async def _uploads(self, ids: Sequence[str]) -> list[str]:
        answers = await self._asked(ids, lambda one: [("HGETALL", self._keys.upload(one))])
        found: list[str] = []
        for one, (fields,) in zip(ids, answers, strict=True):
            if why := flaw_of_upload(one, fields):
                caller = fields.get(b"caller", b"") if isinstance(fields, dict) else b""
                await self._put_away(one, why, "upload", "uploads", f"files:{TENANT}:".encode() + caller)
                found.append(one)
        return found

    async def _put_away(self, one: str, why: str, parts: str, *sets: str | bytes) -> None:
        await self._runner.run("put_away", id=one, tenant=TENANT, reason=why, parts=parts, sets=sets)
        _say(one, why)

    async def _in_use(self) -> list[str]:
        k, first = self._keys, ("0", str(ALL - 1))
        sets = (
            k.running,
            k.delayed,
            k.feeding,
            k.uploads,
            k.closed,
            k.finals,
            *map(k.of_root, ("starting", "deadlines")),
        )
        rows = await self._runner.at_once(
            [
                *(("ZRANGE", key, *first) for key in sets),
                *(("ZRANGE", k.state(TENANT, state), *first) for state in (State.RUNNING, State.PENDING)),
                ("ZREVRANGE", k.batches(TENANT), *first),
                ("SMEMBERS", k.of_root("answering")),
                ("HVALS", k.reuse),
            ]
        )
        return list(dict.fromkeys(one for row in rows if not isinstance(row, ResponseError) for one in ids_in(row)))

    async def _asked(self, ids: Sequence[str], commands: Callable[[str], list[Command]]) -> list[list[Any]]:
        asked = [commands(one) for one in ids]
        answers = iter(await self._runner.at_once([command for each in asked for command in each]))
        return [[next(answers) for _ in each] for each in asked]


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
