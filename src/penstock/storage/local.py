"""The storage in a directory of this machine: each object is a file."""

import asyncio
import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from penstock.errors import ResultExpired
from penstock.storage.call_spans import traced_calls
from penstock.storage.contract import (
    CHUNK_BYTES,
    Item,
    PartWriter,
    Stored,
    UploadLink,
    checked_key,
    checked_prefix,
    is_key,
    opened,
    round_trip,
    too_large,
)
from penstock.storage.disk import (
    Draft,
    DraftWriter,
    disk_errors,
    make_directory,
    move_synced,
    read_some,
    status_of,
    walk,
    write_synced,
)
from penstock.storage.timing import timed

PAGE = 1000
"""Files that one call in a thread lists."""

STALE_AFTER_S = 3600.0
"""No write takes this long: an older unfinished file belongs to a process that has died."""


@traced_calls
class LocalStorage:
    """The Storage whose objects are files below `directory/namespace`. Several processes of one machine may share the
    directory.

    New directories have the mode 0700, files 0600. All file work happens in threads, so a cancelled `put` may still
    complete.
    """

    def __init__(self, directory: str | Path, namespace: str = "") -> None:
        self._namespace = namespace
        self._root = Path(directory).absolute() / namespace
        self._unfinished = self._root / ".unfinished"

    def full_key(self, key: str) -> str:
        return (PurePosixPath(self._namespace) / checked_key(key)).as_posix()

    @timed("put")
    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        """Store the object, in place of one that is there. The content type is not stored: the record of the task has
        it."""
        await asyncio.to_thread(self._write, [Item(key, data, content_type)])

    @timed("put")
    async def put_all(self, items: Sequence[Item]) -> None:
        """Store the objects. A directory is synced once for all files that it receives."""
        await asyncio.to_thread(self._write, items)

    def writer(self, key: str, content_type: str) -> PartWriter:
        """What writes the file under another name."""
        self._path(key)
        return DraftWriter(partial(self._begin, key))

    async def list_unfinished(self, prefix: str) -> AsyncIterator[Stored]:
        """None: the names of unfinished files have no key. `probe` removes the old ones."""
        checked_prefix(prefix)
        return
        yield

    async def give_up(self, *unfinished: Stored) -> None:
        """Nothing is listed, so that nothing can be given up."""

    @timed("get")
    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        return await asyncio.to_thread(self._read, key, limit)

    @timed("open")
    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        return await opened(self._chunks(key, start, stop))

    @timed("size")
    async def size(self, key: str) -> int:
        return await asyncio.to_thread(self._size, key)

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        found = self._walk(checked_prefix(prefix))
        while page := await asyncio.to_thread(lambda: [*islice(found, PAGE)]):
            for stored in page:
                yield stored

    @timed("delete")
    async def delete(self, *keys: str) -> None:
        await asyncio.to_thread(self._remove, keys)

    @timed("delete")
    async def clear(self, *prefixes: str) -> None:
        await asyncio.to_thread(self._clear, prefixes)

    async def probe(self) -> None:
        """Write, read and delete an object, and remove unfinished files of processes that were killed."""
        await round_trip(self)
        await asyncio.to_thread(self._sweep)

    async def check(self) -> None:
        """Like `probe`: it may write every time, since files leave no versions behind."""
        await self.probe()

    async def stores_once(self) -> bool:
        """False: a file is moved over the one that is there."""
        return False

    async def keeps_versions(self) -> bool:
        """False: a deleted file is gone."""
        return False

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """None: the API serves the bytes."""
        return None

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """None: the API receives the bytes and writes them into a `draft`."""
        return None

    @asynccontextmanager
    async def draft(self, key: str) -> AsyncGenerator[Draft, None]:
        """An object that is written in pieces; leaving the context removes it unless it was published."""
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
            while chunk := await asyncio.to_thread(read_some, file, min(left, CHUNK_BYTES)):
                left -= len(chunk)
                yield chunk

    def _write(self, items: Sequence[Item]) -> None:
        drafts = [(self._unfinished / secrets.token_hex(16), self._path(item.key)) for item in items]
        with disk_errors():
            try:
                make_directory(self._unfinished)
                for (unfinished, _), item in zip(drafts, items, strict=True):
                    write_synced(unfinished, item.data)
                move_synced(drafts)
            finally:
                with suppress(OSError):
                    for unfinished, _ in drafts:
                        unfinished.unlink(missing_ok=True)

    def _begin(self, key: str) -> Draft:
        path, unfinished = self._path(key), self._unfinished / secrets.token_hex(16)
        with disk_errors():
            make_directory(self._unfinished)
            return Draft(unfinished, path)

    def _size(self, key: str) -> int:
        with self._open(key) as file, disk_errors():
            return os.fstat(file.fileno()).st_size

    def _read(self, key: str, limit: int | None) -> bytes:
        with self._open(key) as file, disk_errors():
            if limit is not None and os.fstat(file.fileno()).st_size > limit:
                raise too_large(limit)
            return file.read()

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        with disk_errors():
            try:
                return path.open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                self._check_root()
                raise ResultExpired from error

    def _check_root(self) -> None:
        # An object may be missing only if the directory is right: a file in its place says nothing about the objects.
        with suppress(FileNotFoundError):  # nothing has been stored so far
            if not stat.S_ISDIR(self._root.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def _walk(self, prefix: str) -> Iterator[Stored]:
        """The objects below a prefix; links and files with other names are left out, and what is deleted meanwhile."""
        for _, paths in walk(self._path(prefix[:-1])):
            for path in paths:
                key = path.relative_to(self._root).as_posix()
                status = status_of(path)
                if status and is_key(key) and stat.S_ISREG(status.st_mode):
                    yield Stored(key, status.st_size, int(status.st_mtime * 1000))

    def _remove(self, keys: Iterable[str]) -> None:
        for path in [self._path(key) for key in keys]:
            with disk_errors():
                with suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
                self._remove_empty(path)

    def _clear(self, prefixes: Iterable[str]) -> None:
        for top in [self._path(checked_prefix(prefix)[:-1]) for prefix in prefixes]:
            for directory, paths in walk(top):
                with disk_errors():
                    for path in paths:
                        path.unlink(missing_ok=True)
                    self._remove_empty(directory / "any")

    def _remove_empty(self, path: Path) -> None:
        """Remove the empty directories above `path`: otherwise the directory of every task would stay for ever."""
        for parent in path.parents:
            if parent == self._root:
                return
            try:
                parent.rmdir()
            except OSError:  # not empty, or already gone
                return

    def _sweep(self) -> None:
        with disk_errors():
            for path in self._unfinished.iterdir():
                with suppress(FileNotFoundError):  # another process removes it at the same time
                    if time.time() - path.stat().st_mtime > STALE_AFTER_S:
                        path.unlink()

    def _path(self, key: str) -> Path:
        path = self._root / checked_key(key)
        if not path.resolve().is_relative_to(self._root.resolve()):  # a link leads out of the directory
            raise ValueError(f"not a storage key: {key[:200]!r}")
        return path
