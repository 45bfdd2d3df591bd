"""What is to be deleted from the storage: written down by the scripts that forget records, so that nothing is left
behind whoever dies, and nothing is deleted that somebody still shows."""

from collections.abc import Sequence

from penstock.store.engine import Engine

TAKEN_MS = 120_000
"""Who has taken something and has not deleted it for so long has died, or the storage is away: it is taken again."""

TOGETHER = 200
"""Keys and prefixes taken by one call."""

_AGAIN = "again "
"""Before what is deleted a second time, since it may have been stored after the first."""


class Condemned:
    """Every method raises StoreUnavailable when Redis cannot be reached; each may be repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def take(self) -> list[str]:
        """Some of what is to be deleted now: nobody else is given it for a while."""
        return [entry.decode() for entry in await self._engine.run_once("condemned", most=TOGETHER, hold_ms=TAKEN_MS)]

    async def of_task(self, tenant: str, task_id: str) -> list[str]:
        """What a deleted task has left to be deleted: without having taken it, since to delete twice does no harm."""
        entries = (f"inputs/{tenant}/{task_id}", f"results/{tenant}/{task_id}/")
        scores = await self._engine.pipelined([("ZSCORE", self._keys.condemned, entry) for entry in entries])
        return [entry for entry, score in zip(entries, scores, strict=True) if score is not None]

    async def bury(self, entries: Sequence[str]) -> None:
        """These are deleted."""
        if entries:
            await self._engine.run("buried", entries=entries)

    async def waiting(self) -> int:
        """How many keys and prefixes are to be deleted, now or later."""
        (count,) = await self._engine.pipelined([("ZCARD", self._keys.condemned)])
        return int(count)


def place_of(entry: str) -> str:
    """The key, or the prefix that ends with a slash, of an entry."""
    return entry.removeprefix(_AGAIN)
