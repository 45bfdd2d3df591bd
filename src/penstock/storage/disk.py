"""Files that appear whole or not at all, and survive a power cut.

A file is written and synced under another name and then moved to its own. A new name is durable only after its
directory was synced as well. All functions block; inside `disk_errors` an OSError becomes StorageUnavailable, with
advice.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from penstock.errors import ResultExpired, StorageUnavailable
from penstock.storage.call_spans import traced_calls


class Draft:
    """An object that is being written, under a name that nobody reads. `size` and `sha256` are those of the bytes that
    were written so far."""

    def __init__(self, unfinished: Path, path: Path) -> None:
        self._unfinished = unfinished
        self._path = path
        self._file = _create(unfinished)
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The digest in hex."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Append the data."""
        await asyncio.to_thread(self._write, data)

    async def sync(self) -> None:
        """Return when everything that was written is on the disk."""
        await asyncio.to_thread(self._sync)

    async def publish(self) -> None:
        """Make the object visible under its key, durably. `sync` must have returned before."""
        await asyncio.to_thread(self._publish)

    def discard(self) -> None:
        """Remove what was not published. This method blocks."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        with disk_errors():
            os.utime(self._file.fileno())  # while the disk is full it is tried, and must not look as if it was left
            _write_at(self._file.fileno(), data, self.size)  # at its place, so that another try writes it once
        self._digest.update(data)
        self.size += len(data)

    def _sync(self) -> None:
        with disk_errors():
            os.fsync(self._file.fileno())

    def _publish(self) -> None:
        with disk_errors():
            if self._unfinished.exists():
                move_synced([(self._unfinished, self._path)])
            elif self._path.exists():  # it was moved before, and its directory could not be synced
                _sync(self._path.parent)
            else:
                raise ResultExpired


@traced_calls
class DraftWriter:
    """The PartWriter of an object that is a file."""

    part_bytes = 2**20

    def __init__(self, begin: Callable[[], Draft]) -> None:
        self._begin = begin
        self._draft: Draft | None = None
        self._is_whole = False

    async def write(self, part: bytes) -> None:
        await (await self._begun()).write(part)

    async def publish(self, last: bytes) -> None:
        draft = await self._begun()
        if not self._is_whole:
            await draft.write(last)
            self._is_whole = True
        await draft.sync()
        await draft.publish()
        await self.discard()

    async def discard(self) -> None:
        """Close the file, and remove it if it is not published."""
        if self._draft is not None:
            await asyncio.to_thread(self._draft.discard)

    async def _begun(self) -> Draft:
        if self._draft is None:
            self._draft = await asyncio.to_thread(self._begin)
        return self._draft


def _write_at(file: int, data: bytes, at: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, at)
        at, left = at + written, left[written:]


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file, which is on the disk when this returns."""
    with _create(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _create(path: Path) -> BinaryIO:
    # 0600: results and inputs belong to the clients, not to the other users of the machine.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def move_synced(moves: Sequence[tuple[Path, Path]]) -> None:
    """Move files to their names, durably. A directory is synced once for all files that it receives."""
    for source, target in moves:
        _move(source, target)
    for directory in {target.parent for _, target in moves}:
        with suppress(FileNotFoundError):  # another process has deleted the file, and then the empty directory
            _sync(directory)


def _move(source: Path, target: Path) -> None:
    for _ in range(100):
        try:
            make_directory(target.parent)
            source.replace(target)
        except FileNotFoundError:  # a `delete` in another process has removed the directory while it was empty
            continue
        return
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def make_directory(path: Path) -> None:
    """Make a directory and its parents, durably, where they do not exist."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield every directory at and below `top`, the deepest first, with its entries that are no directories.

    Links are not followed. What is deleted meanwhile is left out.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    with disk_errors():
        for directory, _, names in os.walk(top, topdown=False, onerror=refuse):
            yield Path(directory), [Path(directory, name) for name in names]


def status_of(path: Path) -> os.stat_result | None:
    """The status of a file, None when there is none; that of a link is its own."""
    with disk_errors(), suppress(FileNotFoundError):
        return path.lstat()
    return None


def read_some(file: BinaryIO, size: int) -> bytes:
    """At most so many bytes of the file; none at its end."""
    with disk_errors():
        return file.read(size)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turns an OSError inside into StorageUnavailable, with advice."""
    try:
        yield
    except OSError as error:
        # strerror only: the full text has the path.
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        raise StorageUnavailable(f"storage.directory: {reason}; {_advice(error.errno)}") from error


def _advice(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free space on its disk, or keep results shorter with queue.result_ttl_s"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "let the user that runs Penstock write there, or set another directory"
    return "check the directory and its disk"
