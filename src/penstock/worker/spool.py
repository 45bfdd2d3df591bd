"""The spool keeps finished results while the storage is away, so that no task has to run twice for that."""

import asyncio
import random
import shutil
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from loguru import logger
from msgspec import Struct

from penstock.errors import ConfigurationError, PenstockError, StorageUnavailable
from penstock.storage import Item, Storage

T = TypeVar("T")

UPLOADS = 32
UPLOAD_BYTES = 256 * 1024 * 1024
"""How many results, and of how many bytes together, may be on their way to the storage without holding a slot."""

RETRIES = 4
"""How many results are tried again at a time: over a slow link none of a hundred at once would end in time."""

LONGEST_WAIT_S = 5.0
"""The longest pause between two tries to store one result."""

TAKE_BACK_S = 5.0
"""How long a stopping worker waits until the files of canceled attempts are deleted."""


class StoredFiles(Struct):
    """The files of a result for the storage: all of them, or none. While they wait on the disk, the spool empties
    `items`; `begun` is the last put that has begun."""

    items: Sequence[Item]
    begun: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(len(item.data) for item in self.items)

    @property
    def keys(self) -> list[str]:
        """Their keys in the storage."""
        return [item.key for item in self.items]


class SpooledParts:
    """Parts of one file that wait for the storage, first in, first out: on the disk while there is room, then in
    memory. The room is free again after `close`."""

    def __init__(self, spool: "Spool") -> None:
        self._spool = spool
        self._copy: IO[bytes] | None = None
        self._on_disk = 0
        self._in_memory = 0
        self._places: deque[tuple[int, int] | bytes] = deque()

    def __len__(self) -> int:
        return len(self._places)

    async def add(self, part: bytes) -> None:
        """Keep one more part."""
        if self._spool.take_room(len(part)):
            try:
                await asyncio.to_thread(self._append, part)
            except OSError as error:
                logger.bind(reason=str(error)).warning("the spool cannot be written")
                self._spool.give_room(len(part))
            else:
                self._places.append((self._on_disk, len(part)))
                self._on_disk += len(part)
                return
        self._spool.hold_part(len(part), is_first=not self._in_memory)
        self._in_memory += len(part)
        self._places.append(part)

    async def first(self) -> bytes:
        """The part that has waited longest."""
        place = self._places[0]
        return place if isinstance(place, bytes) else await asyncio.to_thread(self._part_at, *place)

    def drop_first(self) -> None:
        """Keep that part no longer."""
        self._places.popleft()

    def close(self) -> None:
        """Keep none."""
        self._places.clear()
        self._spool.give_room(self._on_disk)
        self._spool.let_go(self._in_memory)
        if self._copy is not None:
            self._copy.close()
        self._on_disk = self._in_memory = 0

    def _append(self, part: bytes) -> None:
        if self._copy is None:
            self._copy = self._spool.new_file()
        self._copy.seek(self._on_disk)
        self._copy.write(part)
        self._copy.flush()

    def _part_at(self, at: int, size: int) -> bytes:
        assert self._copy is not None  # noqa: S101  the part is on the disk
        self._copy.seek(at)
        return self._copy.read(size)


class Spool:
    """Puts the files of results into a storage, however long that is away.

    They wait in temporary files without a name: whatever happens to the process, nothing is left on the disk. A result
    that does not fit there waits in memory, and the spool is full until it is stored: the worker must claim nothing
    meanwhile.
    """

    def __init__(self, storage: Storage, *, directory: str, max_bytes: int) -> None:
        self.storage = storage
        self._directory = directory or None
        self._free_bytes = max_bytes
        self._memory_bytes = 0
        self.retrying = asyncio.Semaphore(RETRIES)
        self._taking_back: set[asyncio.Task[None]] = set()
        self.on_disk = 0
        """Results that wait in files."""
        self.in_memory = 0
        """Results that wait in memory, since they do not fit on the disk."""

    @property
    def is_full(self) -> bool:
        """Whether a result waits that does not fit on the disk."""
        return self.in_memory > 0

    @property
    def disk_bytes(self) -> int:
        """Bytes that are free on the disk of the spool."""
        return shutil.disk_usage(self._directory or tempfile.gettempdir()).free

    @property
    def uploads(self) -> int:
        """How many results may be on their way without holding a slot; 0 when they take too much memory."""
        return UPLOADS if self._memory_bytes <= UPLOAD_BYTES else 0

    async def put(self, files: StoredFiles) -> None:
        """Store the files of a result, however long the storage is away. All of them are stored when this returns.

        When canceled, none of them stays: they are deleted when a put that has begun has ended. That goes on in the
        background; `aclose` waits for it.
        """
        try:
            await self._put(files)
        except asyncio.CancelledError:
            self.take_back(self._take_back(files))
            raise

    def take_back(self, deletion: Coroutine[Any, Any, None]) -> None:
        """Run this in the background: it deletes what was stored of a result that nobody wants."""
        taking_back = asyncio.create_task(deletion, name="take back")
        self._taking_back.add(taking_back)
        taking_back.add_done_callback(self._taking_back.discard)

    # --- the room of parts --------------------------------------------------------------------------------------

    def take_room(self, size: int) -> bool:
        """Take so many bytes of the disk. Returns False where they are not there."""
        if size > self._free_bytes:
            return False
        self._free_bytes -= size
        return True

    def give_room(self, size: int) -> None:
        """Give bytes of the disk back."""
        self._free_bytes += size

    def hold_part(self, size: int, *, is_first: bool) -> None:
        """Count a part that waits in memory, the first of its result or another."""
        self._memory_bytes += size
        if is_first:
            self.in_memory += 1
            logger.bind(bytes=size).warning("storage away and spool full, nothing is claimed")

    def let_go(self, size: int) -> None:
        """Count the parts of a result in memory no longer, which have so many bytes."""
        self._memory_bytes -= size
        self.in_memory -= size > 0

    def new_file(self) -> IO[bytes]:
        """A file without a name, on the disk of the spool."""
        return _new_file(self._directory)

    async def aclose(self) -> None:
        """Wait up to TAKE_BACK_S until the files of canceled puts are deleted."""
        if self._taking_back:
            await asyncio.wait(self._taking_back, timeout=TAKE_BACK_S)

    async def _put(self, files: StoredFiles) -> None:
        size = files.size
        with self._holding(size):
            try:
                return await self._store(files, files.items)
            except StorageUnavailable as error:
                reason = error.detail  # it may be of this write alone, and the watch of the storage finds nothing
                if size > self._free_bytes:
                    return await self._wait_in_memory(files, reason)
        self._free_bytes -= size
        try:
            await self._wait_on_disk(files, reason)
        finally:
            self._free_bytes += size

    async def _store(self, files: StoredFiles, items: Sequence[Item]) -> None:
        """Try once. A put that has begun cannot be stopped, only waited for: it goes on when this is canceled."""
        put = self.storage.put(*items[0]) if len(items) == 1 else self.storage.put_all(items)
        files.begun = asyncio.create_task(put, name="put")
        await asyncio.shield(files.begun)

    async def _wait_in_memory(self, files: StoredFiles, reason: str) -> None:
        async def put_again() -> None:
            async with self.retrying:
                await self._store(files, files.items)

        self.in_memory += 1
        about = logger.bind(keys=files.keys, bytes=files.size, reason=reason)
        about.warning("storage away and spool full, nothing is claimed")
        try:
            await patiently(put_again)
        finally:
            self.in_memory -= 1

    async def _wait_on_disk(self, files: StoredFiles, reason: str) -> None:
        try:
            copy = await asyncio.to_thread(_written, files.items, self._directory)
        except OSError as error:
            logger.bind(reason=str(error)).warning("the spool cannot be written")
            with self._holding(files.size):
                return await self._wait_in_memory(files, reason)

        async def put_again() -> None:
            async with self.retrying:
                items = await asyncio.to_thread(_read, copy, sizes, files.items)
                with self._holding(sum(sizes)):
                    await self._store(files, items)

        about = logger.bind(keys=files.keys, bytes=files.size, reason=reason)
        about.warning("storage away, result waits on the spool")
        sizes = [len(item.data) for item in files.items]
        files.items = [item._replace(data=b"") for item in files.items]  # only the disk holds them while they wait
        self.on_disk += 1
        try:
            await patiently(put_again)
        finally:
            self.on_disk -= 1
            copy.close()

    async def _take_back(self, files: StoredFiles) -> None:
        """Delete files that may have been stored. If the storage is away, the upkeep finds them later as orphans."""
        if files.begun is not None:
            with self._holding(files.size):
                await asyncio.gather(files.begun, return_exceptions=True)
        with suppress(PenstockError):
            await self.storage.delete(*files.keys)

    @contextmanager
    def _holding(self, size: int) -> Iterator[None]:
        self._memory_bytes += size
        try:
            yield
        finally:
            self._memory_bytes -= size


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the storage is back, and return its answer. The pauses are random, so that not all callers come at
    once."""
    attempt = 0
    while True:
        attempt += 1
        await asyncio.sleep(random.uniform(0.1, min(LONGEST_WAIT_S, 0.2 * 2 ** min(attempt, 8))))  # noqa: S311
        try:
            return await call()
        except StorageUnavailable:
            continue


def _written(items: Sequence[Item], directory: str | None) -> IO[bytes]:
    copy = _new_file(directory)
    for item in items:
        copy.write(item.data)
    copy.flush()
    return copy


def _new_file(directory: str | None) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=directory, prefix="penstock-spool-")  # closed when it is stored


def _read(copy: IO[bytes], sizes: Sequence[int], items: Sequence[Item]) -> list[Item]:
    copy.seek(0)
    return [item._replace(data=copy.read(size)) for item, size in zip(items, sizes, strict=True)]


def made(directory: str) -> str:
    """Make the directory of a spool where it is missing, and return it. Raises ConfigurationError when that fails."""
    try:
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"worker.spool_directory: {directory} cannot be made: {error.strerror}; name one that a worker may make"
        ) from error
    return directory
