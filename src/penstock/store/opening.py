"""Opening: a process looks at the server of each shard before it relies on it, whenever that server comes."""

import asyncio

from loguru import logger

from penstock.errors import StoreUnavailable
from penstock.store.shards import Clients, open_shard

RETRY_S = 0.5
"""Pause between two tries of a server that cannot be used yet."""


class Opening:
    """Opens the servers of all shards, each as soon as it can be used, and logs the warnings about them.

    The methods raise ConfigurationError as `open_shard` does: this process must not use these servers.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._said: set[str] = set()
        self._tried = {tag: asyncio.Event() for tag in clients}
        self._tasks = [asyncio.create_task(self._open(tag), name=f"open {tag}") for tag in clients]

    @property
    def is_home_open(self) -> bool:
        """Whether the server of the home is open; with it the number of shards is settled."""
        return _is_open(self._tasks[0])

    async def tried(self) -> None:
        """Return when each server is open, or has been tried once."""
        await asyncio.gather(*(tried.wait() for tried in self._tried.values()))
        self._raise_failures()

    async def some(self, patience_s: float) -> None:
        """Return when a server is open, and the others are or have been waited for so long: their tenants wait, and
        those of this one need not."""
        _, rest = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        if rest:
            await asyncio.wait(rest, timeout=patience_s)
        self._raise_failures()

    async def home(self) -> None:
        """Return when the server of the home is open."""
        await asyncio.shield(self._tasks[0])

    async def all(self) -> None:
        """Return when every server is open."""
        await asyncio.gather(*map(asyncio.shield, self._tasks))

    async def aclose(self) -> None:
        """Try those that are not open no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def _open(self, tag: str) -> None:
        try:
            while not await self._try(tag):
                self._tried[tag].set()
                await asyncio.sleep(RETRY_S)
        finally:
            self._tried[tag].set()

    async def _try(self, tag: str) -> bool:
        try:
            warnings = await open_shard(self._clients, tag)
        except StoreUnavailable as error:  # it may come later; until then /readyz says so
            self._warn(f"Redis cannot be used yet: {error.detail}")
            return False
        for warning in warnings:
            self._warn(warning)
        return True

    def _warn(self, warning: str) -> None:
        if warning not in self._said:  # shards share servers, and their faults
            logger.warning("{}", warning)
        self._said.add(warning)


def _is_open(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
