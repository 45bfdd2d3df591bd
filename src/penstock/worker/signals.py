"""The signals that a worker gets through Redis: new tasks, cancels, drains, idle workers that ask for a task, and
models to load, unload or look for."""

import time
from collections.abc import Callable

from penstock.errors import StoreUnavailable
from penstock.store import Store, WorkerInfo
from penstock.worker.claims import Claims
from penstock.worker.prefetch import Prefetch
from penstock.worker.residency.residents import Residents
from penstock.worker.running import RunningAttempts


class Signals:
    """Listens in one shard for a worker and passes each signal to whoever acts on it. `look_for_models` is called when
    there may be others than this worker knows."""

    def __init__(
        self,
        store: Store,
        info: WorkerInfo,
        *,
        models: Residents,
        look_for_models: Callable[[], None],
        claims: Claims,
        running: RunningAttempts,
        prefetch: Prefetch,
    ) -> None:
        self._store = store
        self._info = info
        self._models = models
        self._look_for_models = look_for_models
        self._claims = claims
        self._running = running
        self._prefetch = prefetch

    async def listen(self) -> None:
        """Acts on every signal of the store until it is canceled."""
        shard = self._store.shard
        async for kind, subject in self._store.workers.signals():
            if kind == "cancel":
                self._running.stop(subject, "canceled")
            elif kind in ("drain", "resume"):
                if subject == self._info.id:
                    self._claims.set_drained(self._store, is_drained=kind == "drain")
                    self._claims.look(shard)
            elif kind == "idle":
                await self._help(*subject.split())
            elif kind == "model":
                self._change_models(*subject.split())
            elif kind == "look" or (subject in self._models.models and not self._claims.is_drained):
                self._claims.look(shard)
                if kind == "look":
                    self._look_for_models()

    def _change_models(self, act: str, model: str = "") -> None:
        if act == "load":
            self._models.load(model)
        elif act == "unload":
            self._models.unload(model)
        elif act == "look":
            self._look_for_models()

    async def _help(self, asker: str, *models: str) -> None:
        """Give a task back that an idle worker can begin at once, if one waits here. Of the workers that could, only
        one does so for each time that somebody asks."""
        if asker == self._info.id:
            return
        self._claims.another_asked()
        if self._spare(models) is None:
            return
        try:
            if not await self._store.workers.answer_ask(asker):
                return
        except StoreUnavailable:
            return  # it will ask again
        key = self._spare(models)  # the device has gone on meanwhile
        if key is not None:
            self._running.give_back(key, asker)

    def _spare(self, models: tuple[str, ...]) -> str | None:
        key = self._prefetch.spare(models, time.monotonic())
        return key if key is not None and self._running.may_stop(key) else None
