"""Publisher: what this worker knows of its models is in the catalogue, also after Redis has lost it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from loguru import logger

from penstock.core.model import Model
from penstock.errors import StoreUnavailable
from penstock.store import ModelStore, PublishedModel, PublishedModels, WorkerStore
from penstock.telemetry import metrics

LOOK_S = 10.0
"""How often the worker looks whether the catalogue still has what it has published: one round trip, whatever tasks it
runs."""

RETRY_S = 0.5


class Publisher:
    """Publishes descriptions of models for one worker, and shows them in its metrics. Of two workers that describe a
    model differently the last one that published it counts, as long as it runs."""

    def __init__(self, store: ModelStore, workers: WorkerStore, worker: str, device: str = "") -> None:
        self._store = store
        self._workers = workers
        self._worker = worker
        self._device = device
        self._models: dict[str, Model] = {}
        self._changed: set[str] = set()
        self._defaults: dict[str, str] = {}
        self._is_behind = asyncio.Event()

    async def publish(self, models: Sequence[Model]) -> None:
        """Publish these models besides those before, and keep them published. While Redis is away, `run` does it."""
        self._models |= {model.id: model for model in models}
        self._report()
        try:
            await self._store.publish(models, worker=self._worker)
            self._changed -= {model.id for model in models}
        except StoreUnavailable as error:
            self._changed |= {model.id for model in models}  # Redis may have them as they were
            self._is_behind.set()
            logger.bind(reason=error.detail).warning("the models are published later")

    async def retract_former(self) -> None:
        """Take out of the catalogue the models in code that an earlier worker of this device has published, which this
        one has no more, and no other worker either: nobody would run their tasks."""
        try:
            served = {model for worker in await self._workers.listed() for model in worker.models} | self._models.keys()
            published = (await self._store.catalogue()).versions
            former = [one.model.id for one in published if not one.model.versioned and self._is_mine(one.worker)]
            await self._store.retract([one for one in former if one not in served])
        except StoreUnavailable as error:
            logger.bind(reason=error.detail).warning("models of an earlier worker stay in the catalogue")

    def forget(self, ids: Sequence[str]) -> None:
        """Keep these models published no longer."""
        for one in ids:
            self._models.pop(one, None)
        self._report()

    async def run(self) -> None:
        """Publish again what Redis has lost, the default versions too, and what a worker has described differently that
        has left, until canceled."""
        while True:
            self._is_behind.clear()
            if not await self._mend_catalogue():
                await asyncio.sleep(RETRY_S)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._is_behind.wait()

    def _is_mine(self, worker: str) -> bool:
        """Whether that is a worker of this device: their ids differ in what stands behind the last dash."""
        return worker.rpartition("-")[0] == self._worker.rpartition("-")[0]

    def _report(self) -> None:
        labels = [
            {"model": model.name, "version": model.version, "digest": model.digest, "device": self._device}
            for model in self._models.values()
        ]
        metrics.meters().replace("model.info", [(1, one) for one in labels])

    async def _mend_catalogue(self) -> bool:
        """Returns False when Redis is away."""
        try:
            found = await self._store.catalogue()
            wrong = await self._wrong(found)
            if models := [model for name, model in self._models.items() if name in wrong]:
                await self._store.publish(models, worker=self._worker)
                self._changed.clear()
            if not found.is_published:
                await self._store.restore_defaults(self._defaults)
            else:
                self._defaults = found.defaults
        except StoreUnavailable:
            return False
        return True

    async def _wrong(self, found: PublishedModels) -> set[str]:
        """The models of this worker of which the catalogue has nothing, or what nobody serves any more."""
        there = {one.model.id: one for one in found.versions}
        wrong = {name for name in self._models if name not in there} | self._changed
        others = {name: there[name].worker for name in self._models.keys() & there.keys() if self._differs(there[name])}
        if not others:
            return wrong
        running = {worker.id for worker in await self._workers.listed()}
        return wrong | {name for name, worker in others.items() if worker not in running}

    def _differs(self, published: PublishedModel) -> bool:
        return published.worker != self._worker and published.model != self._models[published.model.id]
