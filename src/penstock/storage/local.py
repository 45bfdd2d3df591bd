"""Objects as files of this machine."""

import asyncio
import errno
import hashlib
import os
import secrets
import stat
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from penstock.errors import ResultExpired, StorageUnavailable
from penstock.storage.contract import (
    CHUNK_BYTES,
    Item,
    Stored,
    UploadLink,
    checked_key,
    checked_prefix,
    is_key,
    opened,
    round_trip,
    too_large,
)

PAGE = 1000
"""Files listed at a time in a thread."""

STALE_AFTER_S = 3600.0
"""An unfinished file this old belongs to a process that is gone; no write takes that long."""


class LocalStorage:
    """Objects as files below a directory, which several processes of one machine may share; below the namespace in it,
    where there is one.

    New directories are 0700, files 0600. All file work happens in threads, so a cancelled `put` may still
    complete.
    """

    def __init__(self, directory: str | Path, namespace: str = "") -> None:
        self._namespace = namespace
        self._root = Path(directory).absolute() / namespace
        self._unfinished = self._root / ".unfinished"

    def full_key(self, key: str) -> str:
        """See Storage."""
        return (PurePosixPath(self._namespace) / checked_key(key)).as_posix()

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See Storage. The content type is not kept: who serves a result knows it from the task."""
        await asyncio.to_thread(self._write, [Item(key, data, content_type)])

    async def put_all(self, items: Sequence[Item]) -> None:
        """See Storage. A directory is synced once for all that it has got."""
        await asyncio.to_thread(self._write, items)

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        """See Storage."""
        return await asyncio.to_thread(self._read, key, limit)

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """See Storage."""
        return await opened(self._chunks(key, start, stop))

    async def size(self, key: str) -> int:
        """See Storage."""
        return await asyncio.to_thread(self._size, key)

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        """See Storage."""
        found = self._walk(checked_prefix(prefix))
        while page := await asyncio.to_thread(lambda: [*islice(found, PAGE)]):
            for stored in page:
                yield stored

    async def delete(self, *keys: str) -> None:
        """See Storage."""
        await asyncio.to_thread(self._remove, keys)

    async def clear(self, *prefixes: str) -> None:
        """See Storage."""
        await asyncio.to_thread(self._clear, prefixes)

    async def probe(self) -> None:
        """See Storage. Also removes what killed processes have left unfinished."""
        await round_trip(self)
        await asyncio.to_thread(self._sweep)

    async def look(self) -> None:
        """See Storage. No file system keeps versions for us: it writes each time."""
        await self.probe()

    async def keeps_versions(self) -> bool:
        """False, always."""
        return False

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """None, always."""
        return None

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """None, always: the API takes the bytes, into a `draft`."""
        return None

    @asynccontextmanager
    async def draft(self, key: str) -> AsyncGenerator["Draft", None]:
        """An object that is written piece by piece; gone on leaving, unless it was published."""
        draft = await asyncio.to_thread(self._begin, key)
        try:
            yield draft
        finally:
            await asyncio.to_thread(draft.discard)

    async def _chunks(self, key: str, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        left = sys.maxsize if stop is None else stop - start
        with await asyncio.to_thread(self._open, key) as file:
            file.seek(start)
            yield b""
            while chunk := await asyncio.to_thread(_read_some, file, min(left, CHUNK_BYTES)):
                left -= len(chunk)
                yield chunk

    def _write(self, items: Sequence[Item]) -> None:
        """Written and synced under other names first: a reader sees all of an object or nothing of it."""
        drafts = [(self._unfinished / secrets.token_hex(16), self._path(item.key)) for item in items]
        with _disk_errors():
            try:
                _make_directory(self._unfinished)
                for (unfinished, _), item in zip(drafts, items, strict=True):
                    _write_synced(unfinished, item.data)
                _move_synced(drafts)
            finally:
                with suppress(OSError):
                    for unfinished, _ in drafts:
                        unfinished.unlink(missing_ok=True)

    def _begin(self, key: str) -> "Draft":
        path, unfinished = self._path(key), self._unfinished / secrets.token_hex(16)
        with _disk_errors():
            _make_directory(self._unfinished)
            return Draft(unfinished, path)

    def _size(self, key: str) -> int:
        with self._open(key) as file, _disk_errors():
            return os.fstat(file.fileno()).st_size

    def _read(self, key: str, limit: int | None) -> bytes:
        with self._open(key) as file, _disk_errors():
            if limit is not None and os.fstat(file.fileno()).st_size > limit:
                raise too_large(limit)
            return file.read()

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        with _disk_errors():
            try:
                return path.open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                self._check_root()
                raise ResultExpired from error

    def _check_root(self) -> None:
        """Nothing can be said of an object while something else is where the directory should be."""
        with suppress(FileNotFoundError):  # nothing has been stored yet
            if not stat.S_ISDIR(self._root.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def _walk(self, prefix: str) -> Iterator[Stored]:
        """The files below, but for links and for what is no object. One that goes meanwhile is not among them."""
        for _, paths in _walk(self._path(prefix[:-1])):
            for path in paths:
                key = path.relative_to(self._root).as_posix()
                status = _status(path)
                if status and is_key(key) and stat.S_ISREG(status.st_mode):
                    yield Stored(key, status.st_size, int(status.st_mtime * 1000))

    def _remove(self, keys: Iterable[str]) -> None:
        for path in [self._path(key) for key in keys]:
            with _disk_errors():
                with suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
                self._remove_empty(path)

    def _clear(self, prefixes: Iterable[str]) -> None:
        for top in [self._path(checked_prefix(prefix)[:-1]) for prefix in prefixes]:
            for directory, paths in _walk(top):
                with _disk_errors():
                    for path in paths:
                        path.unlink(missing_ok=True)
                    self._remove_empty(directory / "any")

    def _remove_empty(self, path: Path) -> None:
        """A directory per task would otherwise stay for ever."""
        for parent in path.parents:
            if parent == self._root:
                return
            try:
                parent.rmdir()
            except OSError:  # not empty, or already gone: either way not ours to remove
                return

    def _sweep(self) -> None:
        with _disk_errors():
            for path in self._unfinished.iterdir():
                with suppress(FileNotFoundError):  # another process sweeps too
                    if time.time() - path.stat().st_mtime > STALE_AFTER_S:
                        path.unlink()

    def _path(self, key: str) -> Path:
        path = self._root / checked_key(key)
        if not path.resolve().is_relative_to(self._root.resolve()):  # a link that somebody has put there
            raise ValueError(f"not a storage key: {key[:200]!r}")
        return path


class Draft:
    """An object on its way, under another name: nobody sees any of it before it is whole. `size` and `sha256` are of
    what was written so far."""

    def __init__(self, unfinished: Path, path: Path) -> None:
        self._unfinished = unfinished
        self._path = path
        self._file = _create(unfinished)
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._digest.hexdigest()

    async def write(self, data: bytes) -> None:
        """Add to its end."""
        await asyncio.to_thread(self._write, data)

    async def sync(self) -> None:
        """All that was written is on the disk."""
        await asyncio.to_thread(self._sync)

    async def publish(self) -> None:
        """Show it under its key, durably; after `sync`."""
        await asyncio.to_thread(self._publish)

    def discard(self) -> None:
        """Blocking: what was not published is gone."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        with _disk_errors():
            self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def _sync(self) -> None:
        with _disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())

    def _publish(self) -> None:
        with _disk_errors():
            _move_synced([(self._unfinished, self._path)])


def _create(path: Path) -> BinaryIO:
    """For its owner only."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _write_synced(path: Path, data: bytes) -> None:
    with _create(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _move_synced(moves: Sequence[tuple[Path, Path]]) -> None:
    for source, target in moves:
        _move(source, target)
    for directory in {target.parent for _, target in moves}:
        with suppress(FileNotFoundError):  # what we have put there was deleted, and so is the directory, empty again
            _sync(directory)


def _move(source: Path, target: Path) -> None:
    for _ in range(100):
        try:
            _make_directory(target.parent)
            source.replace(target)
        except FileNotFoundError:  # a `delete` beside us has removed the directory, empty until now
            continue
        return
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _make_directory(path: Path) -> None:
    """The directory and its parents, so that they survive a power cut; fine where they exist."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """A new name is durable only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every directory at and below this one with what is in it but directories, the deepest first; links are not
    followed. What goes meanwhile is left out."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    with _disk_errors():
        for directory, _, names in os.walk(top, topdown=False, onerror=refuse):
            yield Path(directory), [Path(directory, name) for name in names]


def _status(path: Path) -> os.stat_result | None:
    with _disk_errors(), suppress(FileNotFoundError):
        return path.lstat()
    return None


def _read_some(file: BinaryIO, size: int) -> bytes:
    with _disk_errors():
        return file.read(size)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # strerror only: the full text has the path.
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        raise StorageUnavailable(f"storage.directory: {reason}; {_disk_advice(error.errno)}") from error


def _disk_advice(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free space on its disk, or keep results shorter with queue.result_ttl_s"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "let the user that runs Penstock write there, or set another directory"
    return "check the directory and its disk"
