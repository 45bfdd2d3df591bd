"""QueueStore: the queues of each model and priority: how long they are, and what an operator does to them."""

from collections.abc import Iterable, Sequence

from penstock.core.task import PRIORITIES, TRANSITIONS, Priority, State, Verb
from penstock.store.answers import Pace, Purged, QueueDepth, UnderWay
from penstock.store.engine import Engine
from penstock.store.records import UNDER_WAY_FIELDS, paces_of, pause_of, under_way_of

PURGED_TOGETHER = 100
"""Tasks that one script looks at, which holds Redis meanwhile: about 30 µs for each that it cancels."""

MOST_UNDER_WAY = 1_000
"""Running tasks, and retries, of which the work that is left is read; where there are more, these stand for all."""

_WAITING_ONLY = f"{State.PENDING}>{TRANSITIONS[State.PENDING, Verb.CANCEL]}"


class QueueStore:
    """Queues. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes; each may be
    repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def depths(self, models: Iterable[str]) -> list[QueueDepth]:
        """The depth of every queue of these models. The age is that of the oldest task of the first 64 callers."""
        queues = [(name, priority) for name in models for priority in PRIORITIES]
        found = await self._engine.run_each("depth", [{"model": name, "priority": one} for name, one in queues])
        board, paused = await self._engine.pipelined([("HGETALL", self._keys.board), ("HGETALL", self._keys.paused)])
        paces = paces_of(board)
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

    async def shares(self, queues: Sequence[tuple[str, Priority]], tenant: str | None) -> list[dict[str, int]]:
        """How many tasks wait in each of these queues by `tenant/caller`, of one tenant or of all: of many callers the
        first 64 by name."""
        calls = [{"model": model, "priority": priority, "tenant": tenant or ""} for model, priority in queues]
        found = await self._engine.run_each("shares", calls)
        return [
            {flow.decode(): int(count) for flow, count in zip(answer[::2], answer[1::2], strict=True)}
            for answer in found
        ]

    async def ahead(self, tenant: str, caller: str, model: str, priority: Priority) -> int:
        """How many tasks would be served before one more task of this caller."""
        return int(await self._engine.run("ahead", tenant=tenant, caller=caller, model=model, priority=priority))

    async def paces(self) -> dict[str, Pace]:
        """The pace of every model of which a task has ended."""
        (row,) = await self._engine.pipelined([("HGETALL", self._keys.board)])
        return paces_of(row)

    async def under_way(self) -> list[UnderWay]:
        """The tasks that run, and those that wait for the moment of their retry, which are in no queue. One that cannot
        be read, or has just ended, is left out."""
        keys = (self._keys.running, self._keys.delayed)
        asked = [(("ZCARD", key), ("ZRANGE", key, 0, MOST_UNDER_WAY - 1)) for key in keys]
        answers = await self._engine.pipelined([command for pair in asked for command in pair])
        found: list[UnderWay] = []
        for total, ids in zip(answers[::2], answers[1::2], strict=True):
            records = [self._keys.task(task_id.decode()) for task_id in ids]
            rows = await self._engine.pipelined([("HMGET", key, *UNDER_WAY_FIELDS) for key in records])
            found += [one for row in rows if (one := under_way_of(row, total / len(ids)))]
        return found

    async def pause(self, model: str, priorities: Iterable[Priority], *, by: str) -> int:
        """Let no task of these queues start any more. Returns how many queues were not paused before."""
        return await self._pause(model, priorities, by)

    async def resume(self, model: str, priorities: Iterable[Priority]) -> int:
        """Let tasks of these queues start again. Returns how many queues were paused."""
        return await self._pause(model, priorities, "")

    async def purge(self, tenant: str, model: str, priorities: Iterable[Priority], *, limit: int) -> Purged:
        """Cancel the tasks of these queues that were waiting when the call began, newest first, until none is left or
        at least `limit` are canceled. Running tasks are not touched."""
        canceled, before, wanted = 0, "+inf", " ".join(priorities)
        while before and canceled < limit:
            count, rest = await self._engine.run(
                "purge",
                move_to_canceled=_WAITING_ONLY,
                tenant=tenant,
                model=model,
                priorities=wanted,
                before=before,
                most=PURGED_TOGETHER,
            )
            canceled, before = canceled + count, rest.decode()
        return Purged(canceled, bool(before))

    async def _pause(self, model: str, priorities: Iterable[Priority], by: str) -> int:
        changed = int(await self._engine.run("pause", model=model, priorities=" ".join(priorities), by=by))
        place = 0
        while place >= 0:
            place = await self._engine.run("regroup", model=model, place=place)
        return changed
