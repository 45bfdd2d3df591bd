"""The file of one result on its way to the storage, part by part, while the rest of it is still written."""

import asyncio
import hashlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from loguru import logger

from penstock.errors import PenstockError, ResultExpired, StorageUnavailable
from penstock.worker.spool import Spool, SpooledParts, patiently


class StreamedUpload:
    """Sends a file in parts, one behind the other. Where the storage does not take one, it waits on the spool, and so
    do all that follow until the file is whole: nobody who writes the file waits for a storage that is away.

    `size` and `sha256` are those of what was added so far.
    """

    def __init__(self, spool: Spool, key: str, content_type: str) -> None:
        self.key = key
        self.size = 0
        self._digest = hashlib.sha256()
        self._spool = spool
        self._writer = spool.storage.writer(key, content_type)
        self._unsent = bytearray()
        self._call: asyncio.Task[None] | None = None
        self._part = b""
        self._waiting: SpooledParts | None = None
        self._is_published = False

    @property
    def sha256(self) -> str:
        """The digest in hex."""
        return self._digest.hexdigest()

    def add(self, data: bytes) -> None:
        """Take the next bytes of the file. Any thread may call this, while nothing else is called."""
        self._digest.update(data)
        self.size += len(data)
        self._unsent += data

    async def send(self) -> None:
        """Send what is a whole part, and return while the last one is under way. Raises StorageUnavailable when parts
        that were stored are gone: only another attempt can help."""
        with _lost():
            while len(self._unsent) >= self._writer.part_bytes:
                await self._settle_part()
                part = bytes(self._unsent[: self._writer.part_bytes])
                del self._unsent[: len(part)]
                if self._waiting is None:
                    self._part = part
                    self._call = asyncio.create_task(self._writer.write(part), name="send a part")
                else:
                    await self._waiting.add(part)

    async def publish(self) -> None:
        """Send the rest. The object is visible when this returns, however long the storage is away. Raises what `send`
        does. When canceled, nothing of it stays, as after `discard`."""
        try:
            with _lost():
                await self._publish()
        except BaseException:
            self.discard()
            raise
        finally:
            self._close()

    def discard(self) -> None:
        """Delete what was sent, in the background; `Spool.aclose` waits for that."""
        self._spool.take_back(self._take_back())

    async def _publish(self) -> None:
        await self._settle_part()
        if self._waiting is None:
            with suppress(StorageUnavailable):
                return await self._run(self._published())
            self._wait_on_spool()
        self._spool.on_disk += 1
        try:
            await patiently(self._publish_waiting)
        finally:
            self._spool.on_disk -= 1

    async def _publish_waiting(self) -> None:
        async with self._spool.retrying:
            while self._waiting:
                await self._run(self._writer.write(await self._waiting.first()))
                self._waiting.drop_first()
            await self._run(self._published())

    async def _published(self) -> None:
        self._is_published = True  # or it may be: the answer can be lost
        await self._writer.publish(bytes(self._unsent))

    async def _settle_part(self) -> None:
        """Wait for the part that is under way; it waits on the spool where the storage did not take it."""
        if self._call is None:
            return
        try:
            await asyncio.shield(self._call)
        except StorageUnavailable:
            await self._wait_on_spool().add(self._part)
        self._call = None

    def _wait_on_spool(self) -> SpooledParts:
        logger.bind(key=self.key).warning("storage away, the rest of a result waits on the spool")
        self._waiting = SpooledParts(self._spool)
        return self._waiting

    async def _run(self, call: Coroutine[Any, Any, None]) -> None:
        # A call that has begun cannot be stopped, only waited for: it goes on when this is canceled.
        self._call = asyncio.create_task(call, name="send a part")
        try:
            await asyncio.shield(self._call)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._call = None
            raise
        self._call = None

    async def _take_back(self) -> None:
        if self._call is not None:
            await asyncio.gather(self._call, return_exceptions=True)
        self._close()
        with suppress(PenstockError):
            await self._writer.discard()
            if self._is_published:
                await self._spool.storage.delete(self.key)

    def _close(self) -> None:
        if self._waiting is not None:
            self._waiting.close()


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except ResultExpired as error:
        raise StorageUnavailable("the parts of the result that were stored are gone") from error
