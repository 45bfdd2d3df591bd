"""The local cache of models from the storage: each version under the digest of its files."""

import asyncio
import errno
import hashlib
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from loguru import logger

from penstock.errors import ConfigurationError
from penstock.models.declared.plain_file import read_plain
from penstock.models.repository.remote import VersionIndex, fetch
from penstock.storage import Storage

SMALL_BYTES = 1024 * 1024
"""Files of this size, such as `model.toml` and labels, are verified at each use."""

KEPT_S = 7 * 86_400.0
"""A version that was not loaded for a week is deleted from the cache."""


FULL = {errno.ENOSPC, errno.EDQUOT}


class ModelCache:
    """Folders of versions, fetched once for all workers of a machine that share the directory."""

    def __init__(self, storage: Storage, directory: Path) -> None:
        self._storage = storage
        self._directory = directory / "models"
        self._fetching: dict[tuple[str, str], asyncio.Task[Path]] = {}

    async def folder(self, index: VersionIndex) -> Path:
        """The folder `<name>/<version>` with the verified files of a version, which are fetched where they are not
        there. Raises ConfigurationError when they are damaged, or cannot be written, and StorageUnavailable."""
        one = index.id, index.digest  # two models may have the same files, and each has a folder
        task = self._fetching.get(one)
        if task is None:
            task = self._fetching[one] = asyncio.create_task(self._folder(index))
            task.add_done_callback(lambda _: self._fetching.pop(one, None))
        return await asyncio.shield(task)

    async def _folder(self, index: VersionIndex) -> Path:
        home = self._directory / index.digest
        folder = Path(index.model.name) / index.model.version
        if await asyncio.to_thread(_is_whole, home / folder, index):
            return home / folder
        started = time.monotonic()
        try:
            await self._fetch_where_room_is(index, home, folder)
        except OSError as error:
            logger.bind(model=index.id, directory=str(self._directory), reason=str(error)).error("no room for a model")
            raise ConfigurationError(f"worker.cache_dir cannot be written: {error.strerror}") from error
        seconds = round(time.monotonic() - started, 3)
        logger.bind(model=index.id, bytes=index.size, seconds=seconds).info("model fetched from the storage")
        await asyncio.to_thread(self._sweep)
        return home / folder

    async def drop(self, index: VersionIndex) -> None:
        """Delete a version that is damaged; the next `folder` fetches it again."""
        await asyncio.to_thread(_drop, self._directory, index)

    async def _fetch_where_room_is(self, index: VersionIndex, home: Path, folder: Path) -> None:
        """Fetch a version; where the disk is full, once more when others were deleted. Raises OSError."""
        try:
            await self._fetch(index, home, folder)
        except OSError as error:
            if error.errno not in FULL or not await asyncio.to_thread(self._make_room, index.size):
                raise
            await self._fetch(index, home, folder)

    async def _fetch(self, index: VersionIndex, home: Path, folder: Path) -> None:
        draft = self._directory / f".{index.digest}-{secrets.token_hex(4)}"
        try:
            await fetch(self._storage, index, draft / folder)
            await asyncio.to_thread(_publish, draft, home, folder, index)
        finally:
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    def _make_room(self, size: int) -> int:
        """Delete so many bytes of versions, those first that were loaded the longest ago; returns how many were. One
        that is loaded needs its files no more."""
        deleted = 0
        for home in sorted(_folders(self._directory), key=_used_at):
            if deleted >= size:
                break
            deleted += sum(_size(file) for file in home.rglob("*"))
            shutil.rmtree(home, ignore_errors=True)
            logger.bind(digest=home.name).warning("a version makes room in the cache of models")
        return deleted

    def _sweep(self) -> None:
        for home in _folders(self._directory):
            with suppress(OSError):  # another worker deletes it too
                if time.time() - home.stat().st_mtime > KEPT_S:
                    shutil.rmtree(home)


def _is_whole(folder: Path, index: VersionIndex) -> bool:
    """Whether all files are there in their sizes, and the small ones are what they were: what is larger is verified
    when it is loaded. A version that is used is kept."""
    try:
        if any((folder / file.name).stat().st_size != file.size for file in index.files):
            return False
        small = [file for file in index.files if file.size <= SMALL_BYTES]
        if any(hashlib.sha256(read_plain(folder / file.name)).hexdigest() != file.sha256 for file in small):
            return False
        os.utime(folder.parents[1])
    except OSError:
        return False
    return True


def _publish(draft: Path, home: Path, folder: Path, index: VersionIndex) -> None:
    """Move the version to its place. Other versions there, and a whole one that another worker has fetched meanwhile,
    may be read by a load, and stay. Raises OSError."""
    target = home / folder
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        (draft / folder).rename(target)
    except OSError:
        if _is_whole(target, index):
            return
        target.rename(draft / "damaged")
        (draft / folder).rename(target)


def _drop(directory: Path, index: VersionIndex) -> None:
    gone = directory / f".{index.digest}-{secrets.token_hex(4)}"
    with suppress(OSError):  # another worker drops it too
        (directory / index.digest / index.model.name / index.model.version).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _used_at(home: Path) -> float:
    try:
        return home.stat().st_mtime
    except OSError:  # another worker has deleted it
        return math.inf


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0


def _folders(directory: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from list(directory.iterdir())
