"""The models in the storage, from which the workers of a fleet fetch them.

| key | object |
| --- | --- |
| `models/<name>/<version>/index.json` | the description of the version, and its files with their digests |
| `models/<name>/<version>/files/<sha256>` | one of these files |

The index is written last and deleted first, so that a version is there whole or not at all.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from loguru import logger
from msgspec import Meta, Struct

from penstock.core.model import Model
from penstock.errors import ConfigurationError, InputTooLarge, ResultExpired
from penstock.models.declared.definition import RunSection
from penstock.models.declared.plain_file import read_plain
from penstock.models.repository.tree import check_id
from penstock.storage import Storage, Stored

PREFIX = "models/"
INDEX = "index.json"
LARGEST_INDEX_BYTES = 1024 * 1024
READ_AT_ONCE = 8
INDEX_KEY = re.compile(r"models/(?P<name>[^/]+)/(?P<version>[^/]+)/index\.json")
BINARY = "application/octet-stream"

_DEFAULT_RUN = RunSection()
NO_DIGESTS: Mapping[str, str] = MappingProxyType({})

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
PlainName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(?!\n)$")]


class IndexedFile(Struct, frozen=True, kw_only=True):
    """A file of a version."""

    name: PlainName
    size: Annotated[int, Meta(ge=0)]
    sha256: Sha256


class VersionIndex(Struct, frozen=True, kw_only=True):
    """What a version in the storage consists of."""

    schema: Literal[1] = 1
    model: Model
    run: RunSection = RunSection()
    files: tuple[IndexedFile, ...]

    @property
    def id(self) -> str:
        """The id of the version."""
        return self.model.id

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """The sha256 of the names and contents of its files."""
        parts = sorted((file.name, file.sha256) for file in self.files)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


async def push(
    storage: Storage,
    model: Model,
    folder: Path,
    names: Iterable[str],
    run: RunSection = _DEFAULT_RUN,
    *,
    digests: Mapping[str, str] = NO_DIGESTS,
) -> VersionIndex:
    """Store a version: these files of its folder, then the index. Files that are there are not sent again. `digests`
    are what some of the files must have, by name.

    Raises ConfigurationError when a file cannot be read, has another digest, or a name that cannot be stored, and
    StorageUnavailable.
    """
    check_id(model.name, model.version)
    before = await _index(storage, _index_key(model.name, model.version))
    there = {file.sha256 for file in before.files} if before else set()
    files = [await _sent(storage, model, folder / name, there, digests.get(name, "")) for name in names]
    index = _checked(VersionIndex(model=model, run=run, files=tuple(files)))
    await storage.put(_index_key(model.name, model.version), msgspec.json.encode(index), "application/json")
    await storage.delete(*(_file_key(model, one) for one in there - {file.sha256 for file in files}))
    return index


async def remove(storage: Storage, name: str, version: str) -> bool:
    """Remove a version from the storage; returns whether it was there. Raises StorageUnavailable."""
    check_id(name, version)
    key = _index_key(name, version)
    was_there = await _index(storage, key) is not None
    await storage.delete(key)
    await storage.clear(f"{PREFIX}{name}/{version}/")
    return was_there


class RemoteTree:
    """The versions in the storage, as they were looked at last."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[Stored, VersionIndex | None] = {}

    async def look(self) -> dict[str, VersionIndex]:
        """List the versions by their ids. An index that has not changed is not read again; one that cannot be read is
        logged once and left out. Raises StorageUnavailable."""
        keys = [stored async for stored in self._storage.list(PREFIX) if INDEX_KEY.fullmatch(stored.key)]
        at_once = asyncio.Semaphore(READ_AT_ONCE)
        found = await asyncio.gather(*(self._read(stored, at_once) for stored in keys))
        self._known = dict(zip(keys, found, strict=True))
        return {index.id: index for index in self._known.values() if index is not None}

    async def _read(self, stored: Stored, at_once: asyncio.Semaphore) -> VersionIndex | None:
        if stored in self._known:
            return self._known[stored]
        try:
            async with at_once:
                return await _index(self._storage, stored.key)
        except ConfigurationError as error:
            logger.bind(key=stored.key, reason=str(error)).error("a model in the storage cannot be read")
            return None


async def fetch(storage: Storage, index: VersionIndex, into: Path) -> None:
    """Write the files of a version into a folder that is not there yet, and compare their digests.

    Raises ConfigurationError when a file is not what the index says, OSError when one cannot be written, and
    StorageUnavailable.
    """
    try:
        await asyncio.to_thread(into.mkdir, parents=True)
        for file in index.files:
            await _fetch(storage, index, file, into / file.name)
    except ResultExpired as error:
        raise ConfigurationError(f"{index.id}: a file is missing in the storage; push it again") from error


async def _fetch(storage: Storage, index: VersionIndex, file: IndexedFile, target: Path) -> None:
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as out:
        if file.size:
            async for piece in await storage.stream(_file_key(index.model, file.sha256)):
                size += len(piece)
                if size > file.size:
                    break
                out.write(piece)
                digest.update(piece)
    if (size, digest.hexdigest()) != (file.size, file.sha256):
        raise ConfigurationError(f"{index.id}: {file.name} is damaged in the storage; push it again")


async def _sent(storage: Storage, model: Model, path: Path, there: set[str], wanted: str) -> IndexedFile:
    try:
        data = await asyncio.to_thread(read_plain, path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    sha256 = (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()
    if wanted not in ("", sha256):
        raise ConfigurationError(f"{path} is another file than model.toml says: its sha256 differs")
    if sha256 not in there:
        await storage.put(_file_key(model, sha256), data, BINARY)
    return IndexedFile(name=path.name, size=len(data), sha256=sha256)


async def _index(storage: Storage, key: str) -> VersionIndex | None:
    try:
        index = msgspec.json.decode(await storage.get(key, limit=LARGEST_INDEX_BYTES), type=VersionIndex)
    except ResultExpired:
        return None
    except (ValueError, RecursionError, InputTooLarge) as error:
        raise ConfigurationError(f"{key} is no index of a model: {error}") from error
    check_id(index.model.name, index.model.version)
    if _index_key(index.model.name, index.model.version) != key:
        raise ConfigurationError(f"{key} is the index of {index.id}")
    return index


def _checked(index: VersionIndex) -> VersionIndex:
    try:
        return msgspec.convert(msgspec.to_builtins(index), VersionIndex)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{index.id}: a file cannot be stored under its name: {error}") from error


def _index_key(name: str, version: str) -> str:
    return f"{PREFIX}{name}/{version}/{INDEX}"


def _file_key(model: Model, sha256: str) -> str:
    return f"{PREFIX}{model.name}/{model.version}/files/{sha256}"
