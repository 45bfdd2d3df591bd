"""InlineInputs: inputs that came inside of requests and stay in Redis, beside the records of their tasks."""

from collections.abc import Mapping, Sequence

from penstock.store.engine import Engine

TOGETHER, TOGETHER_BYTES = 32, 1024 * 1024
"""Tasks, and bytes of their inputs, that one call takes: Redis copies them within a millisecond or two."""

HELD_MS = 120_000
"""How long a task stays with the process that took its input. After that it has died, or the storage is away."""


class InlineInputs:
    """The inputs in Redis. Every method raises StoreUnavailable when Redis cannot be reached; each may be repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def read(self, task_id: str, key: str) -> bytes | None:
        """The bytes of one input of a task; None where they are in the storage, or nowhere."""
        (data,) = await self._engine.pipelined([("HGET", self._keys.input(task_id), key)])
        return None if data is None else bytes(data)

    async def keys_of(self, task_id: str) -> set[str]:
        """The keys of those inputs of a task that are in Redis."""
        (names,) = await self._engine.pipelined([("HKEYS", self._keys.input(task_id))])
        return {name.decode() for name in names}

    async def total_bytes(self) -> int:
        """The bytes of the inputs of all tasks that are in Redis."""
        (total,) = await self._engine.pipelined([("GET", self._keys.inline)])
        return int(total or 0)

    async def due(self) -> dict[str, Mapping[str, bytes]]:
        """Inputs of some ended tasks that are to be moved to the storage, by the ids of the tasks and by their keys;
        none while no more than half of the budget is used. No other process is given them for HELD_MS."""
        found = await self._engine.run_once(
            "inline_due",
            enough=self._engine.settings.inline_budget_bytes // 2,
            most=TOGETHER,
            most_bytes=TOGETHER_BYTES,
            hold_ms=HELD_MS,
        )
        return {
            task_id.decode(): dict(zip(map(bytes.decode, pairs[::2]), pairs[1::2], strict=True))
            for task_id, pairs in zip(found[::2], found[1::2], strict=True)
        }

    async def moved(self, task_ids: Sequence[str]) -> int:
        """Take the inputs of these tasks out of Redis: the storage has them. Returns of how many tasks."""
        return int(await self._engine.run("inline_moved", ids=task_ids)) if task_ids else 0
