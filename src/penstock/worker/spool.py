"""Finished results that wait on local disk while the storage is away, so that nothing is run twice for it."""

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable
from typing import IO, TypeVar

from loguru import logger
from msgspec import Struct

from penstock.errors import StorageUnavailable
from penstock.storage import Storage

T = TypeVar("T")

UPLOADS = 32
UPLOAD_BYTES = 256 * 1024 * 1024
"""As many results, together of this size, may be on their way to the storage beside the tasks that hold slots."""

LONGEST_WAIT_S = 5.0
"""Between two tries of one waiting result."""


class Parcel(Struct):
    """An object to store. The spool takes `data` out of it when it is on disk."""

    key: str
    content_type: str
    data: bytes


class Spool:
    """Puts results into a storage, however long that is away, while there is room for those that wait.

    Waiting results are files without a name: whatever happens to the process, nothing is left on the disk.
    """

    def __init__(self, storage: Storage, *, directory: str, max_bytes: int) -> None:
        self._storage = storage
        self._directory = directory or None
        self._free_bytes = max_bytes
        self._upload_bytes = 0
        self.waiting = 0

    @property
    def uploads(self) -> int:
        """How many results may be on their way without holding a slot; none when they take too much memory."""
        return UPLOADS if self._upload_bytes <= UPLOAD_BYTES else 0

    async def put(self, parcel: Parcel) -> None:
        """Store an object. Raises StorageUnavailable only when the storage is away and the spool is full."""
        try:
            await self._upload(parcel, parcel.data)
        except StorageUnavailable as error:
            size = len(parcel.data)
            if size > self._free_bytes:
                raise
            file = await self._written(parcel.data, error)
            parcel.data = b""  # only the disk holds it while it waits
            await self._wait_and_put(parcel, file, size)

    async def _upload(self, parcel: Parcel, data: bytes) -> None:
        self._upload_bytes += len(data)
        try:
            await self._storage.put(parcel.key, data, parcel.content_type)
        finally:
            self._upload_bytes -= len(data)

    async def _written(self, data: bytes, reason: StorageUnavailable) -> IO[bytes]:
        def write() -> IO[bytes]:
            file = tempfile.TemporaryFile(dir=self._directory, prefix="penstock-spool-")  # noqa: SIM115  closed later
            file.write(data)
            file.flush()
            return file

        try:
            return await asyncio.to_thread(write)
        except OSError:
            raise reason from None

    async def _wait_and_put(self, parcel: Parcel, file: IO[bytes], size: int) -> None:
        async def put_again() -> None:
            await self._upload(parcel, await asyncio.to_thread(_read, file))

        self.waiting += 1
        self._free_bytes -= size
        logger.bind(key=parcel.key, bytes=size).warning("storage away, result waits on the spool")
        try:
            await patiently(put_again)
        finally:
            self.waiting -= 1
            self._free_bytes += size
            file.close()


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """The answer of a storage that is away, when it is back; with jitter, so that not all come at once."""
    attempt = 0
    while True:
        attempt += 1
        await asyncio.sleep(random.uniform(0.1, min(LONGEST_WAIT_S, 0.2 * 2 ** min(attempt, 8))))  # noqa: S311
        try:
            return await call()
        except StorageUnavailable:
            continue


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
