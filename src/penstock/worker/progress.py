"""Where the running tasks are, written for those who look on."""

import asyncio
from collections.abc import Callable

from penstock.core.lease import Lease
from penstock.core.task import Progress, Stage
from penstock.errors import StoreUnavailable
from penstock.store import Store

PROGRESS_EVERY_S = 0.2
"""Stage and progress of the running tasks are written this often, and only where they changed."""


class ProgressWriter:
    """Writes the last that it was told of each attempt. Best effort: what Redis does not take is not written again.
    `lease_of` gives the lease with a key, None where it is not held any more."""

    def __init__(self, store: Store, lease_of: Callable[[str], Lease | None]) -> None:
        self._store = store
        self._lease_of = lease_of
        self._news: dict[str, tuple[Stage, Progress | None]] = {}

    def note(self, key: str, stage: Stage, progress: Progress | None) -> None:
        """An attempt has got there. That its first tile has begun, and none is done, is no progress to be shown."""
        self._news[key] = (stage, progress if progress and progress.done else None)

    def forget(self, key: str) -> None:
        """The attempt has ended."""
        self._news.pop(key, None)

    async def write(self) -> None:
        """Write, for ever."""
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            news, self._news = self._news, {}
            try:
                for key, (stage, progress) in news.items():
                    if lease := self._lease_of(key):
                        await self._store.leases.progress(lease, stage, progress)
            except StoreUnavailable:
                continue
