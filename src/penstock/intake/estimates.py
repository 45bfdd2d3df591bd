"""How long a task will take, from how long those before it took on the device."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable

from penstock.core.submission import Forecast
from penstock.errors import ModelUnavailable, StoreUnavailable
from penstock.store import Pace, Store, WorkerInfo

KNOWN_FOR_S = 5.0
"""How long one look at workers and paces is good for: a submit costs no further round trip."""

READY = "READY"


def able(workers: Iterable[WorkerInfo], model: str) -> list[WorkerInfo]:
    """Return the workers that would take a task of this model now, by id."""
    return sorted((w for w in workers if model in w.models and w.state == READY), key=lambda w: w.id)


def has_failed(worker: WorkerInfo, model: str) -> bool:
    """Return whether a worker could not load this model and claims none of its tasks now. It tries again later, when
    a task asks: from then on it claims them, though the model still shows as failed."""
    return worker.residence[model].state == "failed" and model not in worker.models


def forecast(pace: Pace | None, *, cost: int, workers: int, left: float = 1.0) -> Forecast | None:
    """Return the device time of a task of this `cost` (kilopixels) and of each task ahead of it, which the workers
    share. `left` is the part of its own work that is still to be done.

    None while nothing has been measured, or no worker would run it.
    """
    if pace is None or not workers:
        return None
    return Forecast(ahead_ms=1000 * pace.device_s / workers, own_ms=1000 * left * pace.of(cost))


class Estimates:
    """The paces of models and the workers that are there, as of at most `KNOWN_FOR_S` ago."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._good_until = -math.inf
        self._paces: dict[str, Pace] = {}
        self._workers: list[WorkerInfo] = []
        self._able: Counter[str] = Counter()
        self.unavailable: dict[str, str] = {}
        """Models that no worker which knows them can load now -> why."""

    async def check(self, model: str) -> None:
        """Look again at a model that was unavailable. Raises ModelUnavailable where it still is."""
        await self.of(model)
        if reason := self.unavailable.get(model):
            raise ModelUnavailable(
                f"no worker can load {model}: {reason}", param="model", retry_after_s=int(KNOWN_FOR_S)
            )

    async def check_beside(self, model: str, other: str) -> None:
        """Look whether a worker that would take a task of a model has the other, too. Raises ModelUnavailable where
        none of several has."""
        await self._renew()
        there = able(self._workers, model)
        if there and not any(other in worker.models for worker in there):
            raise ModelUnavailable(
                f"no worker that has {model} has {other} too", param="params.post.score", retry_after_s=int(KNOWN_FOR_S)
            )

    async def of(self, model: str) -> tuple[Pace | None, int]:
        """Return the pace of this model's tasks, None when none has ended yet, and how many workers would take one."""
        await self._renew()
        return self._paces.get(model), self._able.get(model, 0)

    async def forecast(self, model: str, *, cost: int) -> Forecast | None:
        """Return the forecast for a task of this model and cost, as `forecast` does."""
        await self._renew()
        return self.last_forecast(model, cost=cost)

    def last_forecast(self, model: str, *, cost: int) -> Forecast | None:
        """Return the forecast as of the last look, for whoever has just asked for it."""
        return forecast(self._paces.get(model), cost=cost, workers=self._able.get(model, 0))

    async def _renew(self) -> None:
        if time.monotonic() >= self._good_until:
            await self._look()

    async def _look(self) -> None:
        async with self._lock:  # one look is enough for all that submit at the same moment
            if time.monotonic() < self._good_until:
                return
            try:
                self._paces, workers = await self._store.queues.paces(), await self._store.workers.listed()
                self._workers = workers
                self._able = Counter(model for worker in workers if worker.state == READY for model in {*worker.models})
                self.unavailable = _unavailable(workers)
            except StoreUnavailable:
                return  # no estimate is worth a refusal
            finally:  # while Redis is away, not every submit tries it again
                self._good_until = time.monotonic() + KNOWN_FOR_S


def _unavailable(workers: Iterable[WorkerInfo]) -> dict[str, str]:
    known = [(worker, model) for worker in workers if worker.state == READY for model in worker.residence]
    failed = {model: worker.residence[model].reason for worker, model in known if has_failed(worker, model)}
    return {model: failed[model] for model in failed.keys() - {m for w, m in known if not has_failed(w, m)}}
