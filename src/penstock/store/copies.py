"""Copies: what is promised only when replicas have it too (`redis.wait_replicas`).

Redis answers before any replica has a write. WAIT waits for them, for the writes of its own connection, and holds up
all that comes behind it there: so it has a connection of its own, makes a write of its own, and all who come while one
WAIT is under way share the next one. A round also looks whether the records are there: after a failover between the
write and the WAIT, the server that is asked is another one, which may not have them.
"""

import asyncio
from collections.abc import Sequence

from penstock.errors import StoreUnavailable
from penstock.store.multiplexed import Multiplexer

WAIT_MS = 500
"""Longest wait for the replicas in one round."""


class Copies:
    """The rounds of one process, one after the other."""

    def __init__(self, connection: Multiplexer, replicas: int) -> None:
        """`connection` is used by nobody else."""
        self._connection = connection
        self.replicas = replicas
        self._running: asyncio.Task[bool] | None = None
        self._next: asyncio.Task[bool] | None = None
        self._keys: dict[str, None] = {}

    async def made(self, mark: str, key: str) -> None:
        """Return when the replicas have what is under this key by now. `mark` is a key that may be written for it.

        Raises StoreUnavailable when too few of them have it in time, and what redis-py raises; it may be there all the
        same.
        """
        self._keys[key] = None
        if self._next is None:
            self._next = asyncio.create_task(self._round(mark, self._running), name="copies")
        if not await asyncio.shield(self._next):
            raise StoreUnavailable(
                f"what was accepted has not been copied to {self.replicas} replicas of the task store in time; send "
                "it again with the same client_request_id, since it may be kept all the same",
                retry_after_s=1,
            )

    def leave(self) -> None:
        """Make the next round over a new connection."""
        self._connection.leave()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()

    async def _round(self, mark: str, before: "asyncio.Task[bool] | None") -> bool:
        if before is not None:
            await asyncio.wait([before])
        keys, self._keys, self._running, self._next = [*self._keys], {}, self._next, None
        _, there, copies = await asyncio.gather(*self._asked(mark, keys))
        return bool(there == len(keys) and copies >= self.replicas)

    def _asked(self, mark: str, keys: Sequence[str]) -> list["asyncio.Future[int]"]:
        # In one write, in this order: WAIT goes by the last write of its connection.
        commands = (("SET", mark, ""), ("EXISTS", *keys), ("WAIT", self.replicas, WAIT_MS))
        within_s = WAIT_MS / 1000 + 1
        return [asyncio.ensure_future(self._connection.ask(*command, within_s=within_s)) for command in commands]
