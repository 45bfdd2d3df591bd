"""The leases that a worker holds, by their keys, and their renewal."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from penstock.core.lease import Lease
from penstock.errors import StoreUnavailable
from penstock.store import Shards, Store, WorkerInfo

SOONEST_S = 0.5
"""News of a worker are written at once, but no more often than this."""


class Leases:
    """Holds leases and renews them. `describe` returns what the worker says of itself with each renewal; `lost` is
    called with the key of each lease that is gone, and `silent` with the seconds since any shard has answered last,
    while one does not.

    An attempt is known by the key of its lease, not by the id of its task: a task that was canceled and retried, or
    whose lease was lost, can come back while its old attempt still holds the device.
    """

    def __init__(
        self,
        shards: Shards,
        lease_s: float,
        *,
        describe: Callable[[], WorkerInfo],
        lost: Callable[[str], None],
        silent: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._shards = shards
        self._lease_s = lease_s
        self._describe = describe
        self._lost = lost
        self._silent = silent
        self._answered = time.monotonic()
        self._held: dict[str, Lease] = {}
        self._has_news = {store.shard: asyncio.Event() for store in shards}

    def __getitem__(self, key: str) -> Lease:
        return self._held[key]

    def get(self, key: str) -> Lease | None:
        """The lease with this key; None if it is not held."""
        return self._held.get(key)

    def held(self) -> Collection[Lease]:
        """All leases that are held."""
        return self._held.values()

    def of_task(self, task_id: str) -> list[Lease]:
        """The leases under which this task runs here."""
        return [lease for lease in self._held.values() if lease.id == task_id]

    def hold(self, lease: Lease) -> None:
        """Renew this lease from now on."""
        self._held[lease.key] = lease

    def let_go(self, key: str) -> None:
        """Renew the lease with this key no more."""
        self._held.pop(key, None)

    def tell(self) -> None:
        """Renew soon, since the worker has something new to say of itself."""
        for has_news in self._has_news.values():
            has_news.set()

    async def renew(self, store: Store) -> None:
        """Renew the leases of the tasks in a shard until canceled."""
        # Every quarter of their time: three renewals may be lost before a lease ends.
        while True:
            try:
                await self.renew_once(store)
            except StoreUnavailable:
                self._silent(time.monotonic() - self._answered)
                await asyncio.sleep(self._lease_s / 16)
                continue
            await self._pause(self._has_news[store.shard])

    async def renew_once(self, store: Store) -> None:
        """Renew the leases of the tasks in a shard, and say there what the worker is now. Raises StoreUnavailable."""
        self._has_news[store.shard].clear()
        mine = [lease for lease in self._held.values() if self._shards.of(lease.tenant) is store]
        for key in await store.leases.renew(self._describe(), mine):
            self._lost(key)
        self._answered = time.monotonic()

    async def _pause(self, has_news: asyncio.Event) -> None:
        soonest_s = min(SOONEST_S, self._lease_s / 4)
        await asyncio.sleep(soonest_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lease_s / 4 - soonest_s):
                await has_news.wait()
