"""Condemned: keys and prefixes that are to be deleted from the storage. The scripts that forget records write them
down, so that no object is left behind when a process dies, and none is deleted that a record still shows."""

from collections.abc import Sequence

from penstock.store.engine import Engine

HELD_MS = 120_000
"""How long an entry stays with the process that took it. After that the process has died or the storage is away, and
the entry is taken again."""

TOGETHER = 200
"""Most entries that one call takes."""

_AGAIN = "again "
"""Stands before an entry that is deleted a second time, since an object may have been stored after the first."""


class Condemned:
    """What is condemned. Every method raises StoreUnavailable when Redis cannot be reached; each may be repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def take(self) -> list[str]:
        """Take some of the entries that are due. No other process is given them for HELD_MS."""
        return [entry.decode() for entry in await self._engine.run_once("condemned", most=TOGETHER, hold_ms=HELD_MS)]

    async def of_task(self, tenant: str, task_id: str) -> list[str]:
        """The entries of a deleted task. They are not taken: deleting them twice does no harm."""
        own = f"inputs/{tenant}/{task_id}"
        entries = (own, f"{own}/", f"results/{tenant}/{task_id}/")
        scores = await self._engine.pipelined([("ZSCORE", self._keys.condemned, entry) for entry in entries])
        return [entry for entry, score in zip(entries, scores, strict=True) if score is not None]

    async def bury(self, entries: Sequence[str]) -> None:
        """Note that these entries are deleted."""
        if entries:
            await self._engine.run("buried", entries=entries)

    async def waiting(self) -> int:
        """How many entries are to be deleted, now or later."""
        (count,) = await self._engine.pipelined([("ZCARD", self._keys.condemned)])
        return int(count)


def place_of(entry: str) -> str:
    """The storage key of an entry, or its prefix, which ends with a slash."""
    return entry.removeprefix(_AGAIN)
