"""The bytes of one member of an input, wherever they are: in the record, in our storage, or behind a URL."""

import hashlib
from collections.abc import Sequence

from penstock.core.request import Source
from penstock.core.task import Priority
from penstock.errors import InputNotFound, Internal, ResultExpired, StorageUnavailable, UploadMismatch
from penstock.storage import Storage
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.codecs import CodecThreads
from penstock.worker.fetch import IMAGES, Download, Fetcher
from penstock.worker.spool import patiently


class Sources:
    """Reads sources. A worker process has one."""

    def __init__(self, fetcher: Fetcher, storage: Storage, codecs: CodecThreads) -> None:
        self._fetcher = fetcher
        self._storage = storage
        self._codecs = codecs

    async def read(
        self,
        source: Source,
        priority: Priority,
        clock: AttemptClock,
        *,
        accept: Sequence[str] = IMAGES,
        limit: int | None = None,
    ) -> Download:
        """Return the bytes of a source, at most `limit` of them (or else `limits.max_input_bytes`).

        Raises InputNotFound, InputTooLarge, UploadMismatch, and what `Fetcher.download` raises.
        """
        if source.data is not None:
            return Download(source.data)
        if source.key is not None:
            data = await self._stored(source.key, limit or self._fetcher.max_bytes, clock)
            await self._check(source, data, priority, clock)
            return Download(data)
        if source.url is None:
            raise Internal("the record has no input")
        return await self._fetcher.download(source.url, accept=accept, limit=limit)

    async def _check(self, source: Source, data: bytes, priority: Priority, clock: AttemptClock) -> None:
        # A bucket may have taken other bytes than were announced. Their result would be reused for everybody who has
        # the right bytes, which have the announced digest.
        announced = source.sha256
        if announced is not None and await self._codecs.run(priority, clock, _sha256, data) != announced:
            raise UploadMismatch("the bytes of the upload have another sha256 than was announced")

    async def _stored(self, key: str, limit: int, clock: AttemptClock) -> bytes:
        """An input from our own storage. While that is away, which is no fault of the task, it waits, and its time
        starts anew."""

        async def get() -> bytes:
            return await self._storage.get(key, limit=limit)

        try:
            try:
                return await get()
            except StorageUnavailable:
                clock.start_anew()
                with clock.standing():
                    return await patiently(get)
        except ResultExpired as error:
            raise InputNotFound("the input that was sent is gone") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
