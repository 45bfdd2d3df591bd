"""ModelStore: the models as workers have published them, which versions are the default, and the word to load one."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from penstock.core.model import Model, split_id
from penstock.store.answers import PublishedModel, PublishedModels
from penstock.store.connection import listen
from penstock.store.engine import Command, Engine
from penstock.store.records import published_of

Act = Literal["load", "unload", "look"]
"""What workers are told of a model: load it, unload it, or look again which models there are."""

ANY = ""
"""Stands among the ids for whatever was published first of all, and is never retracted."""


class ModelStore:
    """Published models. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes; each may
    be repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def publish(self, models: Sequence[Model], *, worker: str) -> None:
        """Publish descriptions under their ids, in place of those that were there. Of several new versions of a model
        the one that comes first here counts as published first."""
        (now,) = await self._engine.pipelined([("TIME",)])
        now_us = int(now[0]) * 1_000_000 + int(now[1])
        commands: list[Command] = [("HSETNX", self._keys.models_first, ANY, now_us)]
        for place, model in enumerate(models):
            row = msgspec.json.encode(PublishedModel(model=model, worker=worker, first=now_us))
            commands.append(("HSETNX", self._keys.models_first, model.id, now_us + place))
            commands.append(("HSET", self._keys.models, model.id, row))
        await self._engine.write([*commands, self._changed()])

    async def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of these ids that nobody has published, or that Redis has lost."""
        if not ids:
            return []
        (rows,) = await self._engine.pipelined([("HMGET", self._keys.models_first, *ids)])
        return [one for one, row in zip(ids, rows, strict=True) if row is None]

    async def retract(self, ids: Iterable[str]) -> None:
        """Take versions out of the catalogue; one that was made the default is the default no longer."""
        gone = [{"id": one, "name": split_id(one)[0], "version": split_id(one)[1] or ""} for one in ids]
        if gone:
            await self._engine.run_each("retract", gone)
            await self._engine.pipelined([self._changed()])

    async def catalogue(self) -> PublishedModels:
        """Everything that is published. Descriptions that cannot be read are left out."""
        rows, first, defaults = await self._engine.pipelined(
            [
                ("HGETALL", self._keys.models),
                ("HGETALL", self._keys.models_first),
                ("HGETALL", self._keys.models_default),
            ]
        )
        return PublishedModels(
            is_published=bool(first),
            versions=tuple(published_of(rows, first)),
            defaults={name.decode(): version.decode() for name, version in defaults.items()},
        )

    async def set_default(self, name: str, version: str) -> None:
        """Make this version the one that the bare name means. Tasks that were submitted keep theirs."""
        await self._engine.write([("HSET", self._keys.models_default, name, version), self._changed()])

    async def restore_defaults(self, defaults: Mapping[str, str]) -> None:
        """Make these versions the default ones of their names where Redis has lost which they were."""
        if defaults:
            await self._engine.write(
                [("HSETNX", self._keys.models_default, name, version) for name, version in defaults.items()]
                + [self._changed()]
            )

    async def tell(self, act: Act, model_id: str) -> int:
        """Tell all workers; returns how many listen."""
        signal = self._engine.publication(self._keys.signals, f"model {act} {model_id}")
        (heard,) = await self._engine.pipelined([signal])
        return int(heard)

    async def changes(self) -> AsyncIterator[None]:
        """Yields whenever the catalogue has changed, or may have changed unheard."""
        async for _ in listen(self._engine.client, self._keys.catalogue):
            yield

    def _changed(self) -> Command:
        return self._engine.publication(self._keys.catalogue, "")
