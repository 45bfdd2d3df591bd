"""The models that workers have published, as a submit finds them in the memory of this process."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from loguru import logger

from penstock.core.model import Model, split_id
from penstock.errors import ModelNotFound, NotReady, StoreUnavailable
from penstock.store import ModelStore, PublishedModel, PublishedModels

SHOWN_MODELS = 20
"""How many names of models the refusal of an unknown one lists at most."""

LOOK_S = 5.0
"""The catalogue is read this often although no change was heard of: the message of one may be lost."""

UNKNOWN_S = 0.1
"""Shortest time between two reads for names that are not known, however many clients ask for such."""


class Catalogue:
    """The published models that `models.serve` lets this process serve; all where it names none."""

    def __init__(self, serve: Collection[str] = ()) -> None:
        self._serve = frozenset(serve)
        self._is_known = False
        self._versions: dict[str, PublishedModel] = {}
        self._defaults: dict[str, Model] = {}
        self.references: dict[str, Model] = {}
        """What a submit may call a model -> the version that it means."""

    def take(self, found: PublishedModels) -> None:
        """Serve what is published now; where Redis has lost it, serve what was published before."""
        if not found.is_published:
            return
        served = {one.model.id: one for one in found.versions if self.serves(one.model.name, one.model.version)}
        if not self._is_known or served.keys() != self._versions.keys():
            logger.bind(models=sorted(served)).info("models published")
        self._is_known = True
        # What has not changed stays the same object, so that what was made of it can be found again.
        self._versions = {
            name: old if (old := self._versions.get(name)) == one else one for name, one in served.items()
        }
        models = [one.model for one in self._versions.values()]
        self._defaults = {}
        for model in models:
            if model.name not in self._defaults or found.defaults.get(model.name) == model.version:
                self._defaults[model.name] = model
        self.references = {f"{one.name}@{one.version}": one for one in models} | self._defaults

    def find(self, reference: str) -> Model:
        """Return the version that `name@version` or, for the default one, `name` refers to.

        Raises ModelNotFound; NotReady while no worker has published anything, or nothing of a model that
        `models.serve` names.
        """
        found = self.references.get(reference)
        if found is None:
            raise self._unknown(reference)
        return found

    def id_of(self, reference: str) -> str:
        """Return the id of the `name@version` that is meant; a bare name, and what is not known, stay as they are."""
        found = self.references.get(reference) if "@" in reference else None
        return found.id if found else reference

    def ensure_known(self) -> None:
        """Raises NotReady while no worker has published anything."""
        if not self._is_known:
            raise NotReady("no worker has said yet which models there are; try again", retry_after_s=1)

    def versions_of(self, reference: str) -> tuple[PublishedModel, ...]:
        """Return all versions of a name, those first that were published first; or the one of `name@version`.

        Raises as `find` does.
        """
        model, name = self.find(reference), split_id(reference)[0]
        if reference != name:
            return (self._versions[model.id],)
        return tuple(one for one in self._versions.values() if one.model.name == name)

    def serves(self, name: str, version: str | None) -> bool:
        """Return whether `models.serve` allows this version."""
        return not self._serve or not self._serve.isdisjoint((name, f"{name}@{version}"))

    def published(self, model: Model) -> PublishedModel:
        """Return who published this version, and when it was published first."""
        return self._versions[model.id]

    def all(self) -> tuple[PublishedModel, ...]:
        """Return every version, by name, and those of one name as they were published."""
        return tuple(sorted(self._versions.values(), key=lambda one: one.model.name))

    def names(self) -> tuple[str, ...]:
        """Return the names of the models, sorted."""
        return tuple(sorted(self._defaults))

    def defaults(self) -> tuple[Model, ...]:
        """Return the default version of every model, by name."""
        return tuple(self._defaults[name] for name in self.names())

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all versions, which are the names of their queues."""
        return tuple(one.model.id for one in self.all())

    def _unknown(self, reference: str) -> ModelNotFound | NotReady:
        self.ensure_known()
        name = split_id(reference)[0]
        if name in self._defaults:
            versions = ", ".join(one.model.version for one in self.versions_of(name))
            return ModelNotFound(f"{name} has no such version here; it has {versions}", param="model")
        if name in {split_id(one)[0] for one in self._serve}:
            return NotReady("no worker has said yet how to use this model; try again", retry_after_s=1)
        served = ", ".join(self.names()[:SHOWN_MODELS])
        return ModelNotFound(f"no model of this name is served here; the models are {served}", param="model")


class WatchedCatalogue(Catalogue):
    """The catalogue of a process, read again within milliseconds of a change by `run`; no submit waits for that. While
    Redis is away it stays as it was."""

    def __init__(
        self, store: ModelStore, serve: Collection[str] = (), *, may_read: Callable[[], bool] = lambda: True
    ) -> None:
        """Nothing is read while `may_read` says no, and so nothing is submitted."""
        super().__init__(serve)
        self._store = store
        self._may_read = may_read
        self._reading = asyncio.Lock()
        self._begun = 0
        self._failure: StoreUnavailable | None = None
        self._read_at = -LOOK_S

    async def run(self) -> None:
        """Keep the catalogue up to date until canceled."""
        await asyncio.gather(self._listen(), self._look_again())

    async def read(self, *, apart_s: float = 0.0) -> None:
        """Read the catalogue, so long after the last time at the earliest. Those who ask while it is being read share
        the read that begins next.

        Raises StoreUnavailable.
        """
        if not self._may_read():
            raise StoreUnavailable(
                "the task store was away when this process started, and was not looked at yet", retry_after_s=1
            )
        begun = self._begun
        async with self._reading:
            if self._begun != begun and self._failure is not None:
                raise self._failure
            if self._begun == begun:
                await asyncio.sleep(max(0.0, self._read_at + apart_s - time.monotonic()))
                self._begun, self._read_at = self._begun + 1, time.monotonic()
                self._failure = StoreUnavailable("the catalogue of models could not be read")
                self.take(await self._store.catalogue())
                self._failure = None

    async def look_for(self, reference: str) -> None:
        """Read the catalogue once more if it has no such model: it may have come just now."""
        if reference not in self.references:
            with suppress(StoreUnavailable):
                await self.read(apart_s=UNKNOWN_S)

    async def _listen(self) -> None:
        async for _ in self._store.changes():
            with suppress(StoreUnavailable):
                await self.read()

    async def _look_again(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                await self.read()
            await asyncio.sleep(LOOK_S)
