"""Local storages that behave like a bad network: slow ones, and one that is away."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from penstock.errors import StorageUnavailable
from penstock.storage import Item, LocalStorage


class Held(LocalStorage):
    """A storage in which each put begins, and ends only when the test allows it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        self.begun.set()
        await self.may_end.wait()
        await super().put(key, data, content_type)

    async def put_all(self, items: Sequence[Item]) -> None:
        self.begun.set()
        await self.may_end.wait()
        await super().put_all(items)


class Undeletable(LocalStorage):
    """A storage in which each delete begins, and ends only when the test allows it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def delete(self, *keys: str) -> None:
        self.begun.set()
        await self.may_end.wait()
        await super().delete(*keys)


class Away(LocalStorage):
    """A storage that refuses every put until it is back."""

    is_back = False

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        if not self.is_back:
            raise StorageUnavailable("it is away")
        await super().put(key, data, content_type)
