"""Versions of the repository as a worker offers them: each from a folder of this machine, or from the storage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from loguru import logger
from msgspec import Struct

from penstock.core.model import SOLE_IMAGE, Member, Model, split_id
from penstock.errors import ConfigurationError, PenstockError, StorageUnavailable
from penstock.lazy_import import lazy_import
from penstock.models.declared.definition import RunSection
from penstock.models.repository.cache import ModelCache
from penstock.models.repository.remote import VersionIndex
from penstock.models.repository.tree import (
    MARK,
    UNREADABLE,
    Scan,
    Stamp,
    VersionFolder,
    is_marked,
    mark,
    scan,
)
from penstock.settings import LimitSettings
from penstock.worker.residency.resident import Offer
from penstock.worker.spool import patiently

if TYPE_CHECKING:
    from penstock.models.declared.runner import DeclaredRunner

declared = lazy_import("penstock.models.declared.runner")

EMPTY = (
    "is empty all at once: is its volume mounted? Its models stay in the catalogue. If nothing is meant to be there, "
    f"create the file {MARK} in it"
)
"""What an operator is told of a directory that is away."""


class OfferedVersion(Struct, frozen=True, eq=False):
    """A version with what is published of it. `mark` is another one as soon as one of its files is."""

    mark: object
    model: Model
    offer: Offer


class Sighting(NamedTuple):
    """The versions in a directory by their ids; the reasons why others cannot be offered, by their ids too; and those
    of folders that are none, by their paths. `is_away` says that the directory may not be mounted: it has nothing, and
    nobody has said that it is one of models."""

    versions: dict[str, OfferedVersion]
    broken: dict[str, str]
    strange: dict[str, str]
    is_away: bool = False


class LocalVersions:
    """The versions in a directory of this machine. What has not changed is not read again."""

    def __init__(self, directory: Path, limits: LimitSettings) -> None:
        self._directory = directory
        self._limits = limits
        self._known: dict[str, tuple[Stamp, OfferedVersion | str]] = {}
        self._last = Sighting({}, {}, {})
        self._unreadable = ""
        self._has_marked = False

    def look(self) -> Sighting:
        """What is in the directory now; what cannot be read now is as it was, and so is everything while the directory
        is away. It blocks."""
        try:
            found = scan(self._directory)
        except ConfigurationError as error:
            self._say(str(error))
            return self._last
        is_away = found == ({}, {}) and not is_marked(self._directory)
        self._say(f"{self._directory} {EMPTY}" if is_away and self._known else "")
        self._last = self._last._replace(is_away=True) if is_away else self._sighted(found)
        return self._last

    def _say(self, unreadable: str) -> None:
        if unreadable not in ("", self._unreadable):
            logger.bind(reason=unreadable).error("no look for models in the directory")
        self._unreadable = unreadable

    def _sighted(self, found: Scan) -> Sighting:
        if not self._has_marked:
            mark(self._directory)
            self._has_marked = True
        kept = {name: one for name, one in self._known.items() if _is_unreadable(name, found)}
        self._known = kept | {one.id: self._read(one) for one in found.versions.values()}
        read = {name: one for name, (_, one) in self._known.items()}
        return Sighting(
            versions={name: one for name, one in read.items() if isinstance(one, OfferedVersion)},
            broken={name: one for name, one in read.items() if isinstance(one, str)},
            strange=found.refused,
        )

    def _read(self, folder: VersionFolder) -> tuple[Stamp, OfferedVersion | str]:
        known = self._known.get(folder.id)
        if known is not None and known[0] == folder.stamp:
            return known
        try:
            return folder.stamp, self._offered(folder)
        except (ConfigurationError, PenstockError, OSError) as error:
            return folder.stamp, str(error).replace(f"{folder.folder}/", "")  # clients read it, too
        except Exception as error:  # noqa: BLE001  what nobody thought of must not hide the other versions
            return folder.stamp, f"{type(error).__name__}: {error}"

    def _offered(self, folder: VersionFolder) -> OfferedVersion:
        runner: type[DeclaredRunner] = declared.declared_runner(folder.folder, name=folder.name, version=folder.version)
        model, run = runner.described(), runner.definition.run
        offer = _offer(model, run, size=runner.weight_bytes(), make=partial(_made, runner, self._limits))
        return OfferedVersion(folder.stamp, model, offer)


def _is_unreadable(model: str, found: Scan) -> bool:
    name = split_id(model)[0]
    return UNREADABLE in (found.refused.get(name), found.refused.get(model.replace("@", "/")))


def remote_version(index: VersionIndex, cache: ModelCache, limits: LimitSettings) -> OfferedVersion:
    """A version in the storage, whose files are fetched when it is wanted."""

    async def get() -> Path:
        return await cache.folder(index)

    async def make() -> DeclaredRunner:
        try:
            folder = await get()
        except StorageUnavailable as error:  # no fault of the version: its tasks wait, as they do for their inputs
            logger.bind(model=index.id, reason=error.detail).warning("a model waits for the storage")
            folder = await patiently(get)
        name, version = index.model.name, index.model.version
        runner = await asyncio.to_thread(lambda: declared.declared_runner(folder, name=name, version=version))
        return await _made(runner, limits)

    async def make_anew() -> DeclaredRunner:
        await cache.drop(index)
        return await make()

    offer = _offer(index.model, index.run, size=index.size, make=make, make_anew=make_anew)
    return OfferedVersion(index.digest, index.model, offer)


Make: TypeAlias = "Callable[[], Awaitable[DeclaredRunner]]"


def _offer(model: Model, run: RunSection, *, size: int, make: Make, make_anew: Make | None = None) -> Offer:
    return Offer(
        id=model.id,
        digest=model.digest,
        make=make,
        make_anew=make_anew,
        takes=_taken(model),
        size=size,
        memory_bytes=run.memory_bytes,
        keep_alive_s=run.keep_alive_s,
        warm=run.warm,
    )


def _taken(model: Model) -> Mapping[str, Member]:
    # A declared runner of one image takes its bytes, as runners do that declare no inputs.
    return {} if model.inputs == {SOLE_IMAGE: Member()} else model.inputs


async def _made(runner: type[DeclaredRunner], limits: LimitSettings) -> DeclaredRunner:
    return runner(limits)
