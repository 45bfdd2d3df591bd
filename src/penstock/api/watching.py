"""Task changes fan out to open event streams: one subscription of this process hears for them all."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.store import Store


class Watching:
    """The event streams that are open, by task."""

    def __init__(self, store: Store) -> None:
        self._changes = store.tasks.changes()
        self._watchers: dict[str, set[asyncio.Event]] = {}

    async def run(self) -> None:
        """Listen for changes until it is canceled."""
        await self._changes.run(self._wake)

    def end_all(self) -> None:
        """Wake all streams, so that each looks whether it is to end: the server stops, or a key has ended."""
        for task_id in tuple(self._watchers):
            self._wake(task_id)

    @contextmanager
    def watch(self, task_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the task may have changed; several changes at once set it once."""
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

    def _wake(self, task_id: str) -> None:
        for changed in self._watchers.get(task_id, ()):
            changed.set()
