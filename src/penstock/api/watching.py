"""Requests that look on while a task changes: one connection to Redis hears for them all."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.store import Store


class Watching:
    """Who looks on at which task."""

    def __init__(self, store: Store) -> None:
        self._changes = store.tasks.changes()
        self._watchers: dict[str, set[asyncio.Event]] = {}

    async def run(self) -> None:
        """Hear of changes, for ever."""
        await self._changes.run(self._stir)

    def end_all(self) -> None:
        """Make all who look on look up."""
        for task_id in tuple(self._watchers):
            self._stir(task_id)

    @contextmanager
    def watch(self, task_id: str) -> Iterator[asyncio.Event]:
        """Set when the task may have changed; several changes at once set it once."""
        changed = asyncio.Event()
        self._watchers.setdefault(task_id, set()).add(changed)
        self._changes.follow(self._watchers)
        try:
            yield changed
        finally:
            self._watchers[task_id].discard(changed)
            if not self._watchers[task_id]:
                del self._watchers[task_id]
                self._changes.follow(self._watchers)

    def _stir(self, task_id: str) -> None:
        for changed in self._watchers.get(task_id, ()):
            changed.set()
