"""The input of a task, brought to the worker: from its record, from our storage, or from a URL."""

import hashlib

from penstock.core.lease import Lease
from penstock.core.request import Source
from penstock.errors import InputNotFound, Internal, ResultExpired, StorageUnavailable, UploadMismatch
from penstock.storage import Storage
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.fetch import Fetcher
from penstock.worker.spool import patiently
from penstock.worker.threads import CodecThreads


class Inputs:
    """Collects the inputs of tasks. A worker process has one."""

    def __init__(self, fetcher: Fetcher, storage: Storage, codecs: CodecThreads) -> None:
        self._fetcher = fetcher
        self._storage = storage
        self._codecs = codecs

    async def collect(self, lease: Lease, clock: AttemptClock) -> bytes:
        """Return the bytes of the input of a task.

        Raises InputNotFound, UploadMismatch, and what `Fetcher.fetch` raises.
        """
        source = next(iter(lease.request.inputs.values()), Source())
        if source.data is not None:
            return source.data
        if source.key is not None:
            data = await self._stored(source.key, clock)
            await self._check(lease, source.sha256, data, clock)
            return data
        if source.url is None:
            raise Internal("the record has no input")
        return await self._fetcher.fetch(source.url)

    async def _check(self, lease: Lease, announced: str | None, data: bytes, clock: AttemptClock) -> None:
        # A bucket may have taken other bytes than were announced. Their result would be reused for everybody who has
        # the right bytes, which have the announced digest.
        if announced is not None and await self._codecs.run(lease.priority, clock, _sha256, data) != announced:
            raise UploadMismatch("the bytes of the upload have another sha256 than was announced")

    async def _stored(self, key: str, clock: AttemptClock) -> bytes:
        """An input from our own storage. While that is away, which is no fault of the task, it waits, and its time
        starts anew."""

        async def get() -> bytes:
            return await self._storage.get(key, limit=self._fetcher.max_bytes)

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
