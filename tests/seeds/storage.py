"""The storage of the simulation: objects in memory behind a network, which is away at times."""

import asyncio

from penstock.errors import StorageUnavailable
from tests.seeds.loop import SimulatedLoop
from tests.support.memory_storage import MemoryStorage


class SimulatedStorage(MemoryStorage):
    """Keeps objects in memory. Each call takes its time; while the storage `is_away`, one may still be done, and its
    answer is lost."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self.is_away = False
        self._chance = loop.chance

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        """See Storage."""
        await self._before()
        await super().put(key, data, content_type)
        await self._after()

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        """See Storage."""
        await self._before()
        return await super().get(key, limit=limit)

    async def delete(self, *keys: str) -> None:
        """See Storage."""
        await self._before()
        await super().delete(*keys)
        await self._after()

    async def _before(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0005, 0.01))
        if self.is_away and self._chance.random() < 0.5:
            raise StorageUnavailable("the storage is away")

    async def _after(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0005, 0.01))
        if self.is_away:
            raise StorageUnavailable("the answer of the storage is lost")
