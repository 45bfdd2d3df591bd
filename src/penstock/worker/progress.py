"""Writes the stage and the progress of the running tasks for the clients that watch them."""

import asyncio
from collections.abc import Callable

from penstock.core.lease import Lease
from penstock.core.task import Progress, Stage
from penstock.errors import StoreUnavailable
from penstock.store import Shards, Store

PROGRESS_EVERY_S = 0.2
"""How often the stage and the progress of running tasks are written, if they changed: a write for each tile would be a
round trip for each."""


class ProgressWriter:
    """Writes the newest stage and progress of each attempt. What Redis does not take is not written again. `lease_of`
    returns the lease with a key, None where it is no longer held; `took_ms` the device time of its attempt so
    far, None before that has begun."""

    def __init__(
        self, shards: Shards, lease_of: Callable[[str], Lease | None], took_ms: Callable[[Lease], float | None]
    ) -> None:
        self._shards = shards
        self._lease_of = lease_of
        self._took_ms = took_ms
        self._news: dict[str, tuple[Stage, Progress | None]] = {}

    def note(self, key: str, stage: Stage, progress: Progress | None) -> None:
        """Record where an attempt is. A progress of 0 tiles says that the first has begun, and is not shown."""
        self._news[key] = (stage, progress if progress and progress.done else None)

    def forget(self, key: str) -> None:
        """Drop what was recorded of an attempt that has ended."""
        self._news.pop(key, None)

    async def write(self, store: Store) -> None:
        """Writes the newest progress of every task of a shard each PROGRESS_EVERY_S, until it is canceled."""
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            news = {key: self._news.pop(key) for key in tuple(self._news) if self._is_of(key, store)}
            try:
                for key, (stage, progress) in news.items():
                    if lease := self._lease_of(key):
                        await store.leases.progress(lease, stage, progress, took_ms=self._took_ms(lease))
            except StoreUnavailable:
                continue

    def _is_of(self, key: str, store: Store) -> bool:
        lease = self._lease_of(key)
        return lease is None or self._shards.of(lease.tenant) is store
