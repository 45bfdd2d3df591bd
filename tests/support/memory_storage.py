"""A storage backend that keeps its objects in memory, for tests that need thousands of empty ones.

`tests/storage/test_storage.py` holds it to the contract of the others.
"""

import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from penstock.errors import ResultExpired
from penstock.storage import CHUNK_BYTES, Item, UploadLink
from penstock.storage.contract import Stored, checked_key, checked_prefix, opened, round_trip, too_large


class MemoryStorage:
    """Keeps objects as values of a dict."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects: dict[str, bytes] = {} if objects is None else objects
        self._modified: dict[str, int] = defaultdict(int)
        self.writers: list[MemoryWriter] = []

    def full_key(self, key: str) -> str:
        """See Storage. There is only this namespace."""
        return checked_key(key)

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        """See Storage."""
        self.objects[checked_key(key)] = data
        self._modified[key] = time.time_ns() // 1_000_000

    async def put_all(self, items: Sequence[Item]) -> None:
        """See Storage. Puts one object after the other."""
        for item in items:
            await self.put(*item)

    def writer(self, key: str, content_type: str) -> "MemoryWriter":
        """See Storage."""
        return MemoryWriter(self, checked_key(key), content_type)

    async def list_unfinished(self, prefix: str) -> AsyncIterator[Stored]:
        """See Storage."""
        checked_prefix(prefix)
        for writer in [*self.writers]:
            if writer.key.startswith(prefix):
                yield Stored(writer.key, 0, writer.begun, str(id(writer)))

    async def give_up(self, *unfinished: Stored) -> None:
        """See Storage."""
        given_up = {one.unfinished for one in unfinished}
        self.writers = [writer for writer in self.writers if str(id(writer)) not in given_up]

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        """See Storage."""
        data = self._found(key)
        if limit is not None and len(data) > limit:
            raise too_large(limit)
        return data

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """See Storage."""
        return await opened(self._pieces(key, start, stop))

    async def size(self, key: str) -> int:
        """See Storage."""
        return len(self._found(key))

    async def delete(self, *keys: str) -> None:
        """See Storage. Deletes one object after the other."""
        for key in keys:
            self.objects.pop(checked_key(key), None)

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        """See Storage. Yields the keys in their order."""
        checked_prefix(prefix)
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield Stored(key, len(self.objects[key]), self._modified[key])

    async def clear(self, *prefixes: str) -> None:
        """See Storage."""
        for prefix in prefixes:
            await self.delete(*[found.key async for found in self.list(prefix)])

    async def probe(self) -> None:
        """See Storage."""
        await round_trip(self)

    async def check(self) -> None:
        """See Storage."""
        await self.probe()

    async def stores_once(self) -> bool:
        """Always False."""
        return False

    async def keeps_versions(self) -> bool:
        """Always False."""
        return False

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """Always None."""
        return None

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """Always None."""
        return None

    def _found(self, key: str) -> bytes:
        try:
            return self.objects[checked_key(key)]
        except KeyError as error:
            raise ResultExpired from error

    async def _pieces(self, key: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        data = self._found(key)[start:stop]
        yield b""
        for at in range(0, len(data), CHUNK_BYTES):
            yield data[at : at + CHUNK_BYTES]


class MemoryWriter:
    """Keeps the parts of an object until it is published."""

    part_bytes = 2**16

    def __init__(self, storage: MemoryStorage, key: str, content_type: str) -> None:
        self.key = key
        self.begun = time.time_ns() // 1_000_000
        self.parts: list[bytes] = []
        self._storage = storage
        self._content_type = content_type

    async def write(self, part: bytes) -> None:
        """See PartWriter."""
        if not self.parts:
            self._storage.writers.append(self)
        elif self not in self._storage.writers:
            raise ResultExpired
        self.parts.append(part)

    async def publish(self, last: bytes) -> None:
        """See PartWriter."""
        if self.parts and self not in self._storage.writers and self.key not in self._storage.objects:
            raise ResultExpired
        await self._storage.put(self.key, b"".join([*self.parts, last]), self._content_type)
        await self.discard()

    async def discard(self) -> None:
        """See PartWriter."""
        if self in self._storage.writers:
            self._storage.writers.remove(self)
