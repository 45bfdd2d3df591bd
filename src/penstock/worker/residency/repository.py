"""RepositoryWatch: what is in the repository of models is offered to tasks and published, also what comes and goes
while the worker runs."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from loguru import logger

from penstock.core.model import Model, split_id
from penstock.errors import StorageUnavailable, StoreUnavailable
from penstock.models.repository.cache import ModelCache
from penstock.models.repository.remote import RemoteTree
from penstock.settings import LimitSettings
from penstock.store import Shards, WorkerInfo
from penstock.worker.publisher import Publisher
from penstock.worker.residency.residents import Residents
from penstock.worker.residency.versions import EMPTY, LocalVersions, OfferedVersion, remote_version

LOOK_S = 0.5
"""How often the directory is looked at: a look takes about 30 µs of a core for each version."""

LOOK_IN_STORAGE_S = 60.0
"""How often the storage is looked at although nobody said that something was pushed or removed."""

REMOVED = "its files were removed"
"""The reason of a version that was in the repository."""

TAKEN = "a model of the worker's own code has this name"

DRAINED_S = 90.0
"""A removed version is claimed, so that its tasks end with a reason, until it had none for this long: a retry may wait
for a minute."""


class RepositoryWatch:
    """Looks at the directory and the storage again and again. A version that is in both is taken from the directory.

    `serve` are the names and ids to serve, all when it is empty; those that it names are kept warm.
    """

    def __init__(
        self,
        residents: Residents,
        local: LocalVersions,
        remote: RemoteTree,
        cache: ModelCache,
        *,
        shards: Shards,
        publisher: Publisher,
        info: WorkerInfo,
        serve: Collection[str],
        limits: LimitSettings,
    ) -> None:
        self._residents = residents
        self._local = local
        self._remote = remote
        self._cache = cache
        self._shards = shards
        self._store = shards.home
        self.publisher = publisher
        self._worker, self._host = info.id, info.host
        self._serve = frozenset(serve)
        self._limits = limits
        self._offered: dict[str, OfferedVersion | None] = {}  # None for one that is here and broken
        self._pushed: dict[str, OfferedVersion] = {}
        self._refused: dict[str, str] = {}
        self._missing: set[str] = set()
        self._removed: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._storage_wake = asyncio.Event()
        self._published: dict[str, Model] = {}
        self._has_seen_storage = False
        self._has_looked_back = False
        self._has_missed = False

    def look(self) -> None:
        """Look at once, also into the storage."""
        self._storage_wake.set()
        self._wake.set()

    async def run(self) -> None:
        """Look until canceled. The directory waits for no storage."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(_again(self._storage_wake, self._look_in_storage))
            loops.create_task(_again(self._wake, self.look_once))

    async def look_once(self) -> float:
        """Look at the directory: offer, publish and withdraw what has changed since the last look, also in the storage.
        Returns the seconds until the next look."""
        seen = await asyncio.to_thread(self._local.look)
        there = self._pushed | seen.versions
        served = {name: one for name, one in there.items() if self._is_served(one.model.name, name)}
        taken = {name: TAKEN for name, one in served.items() if self._residents.has_fixed(one.model.name)}
        versions = {name: one for name, one in served.items() if name not in taken}
        self._refuse(seen.broken, seen.strange | taken)
        self._offer(versions)
        await self._publish(versions)
        self._withdraw(versions)
        with suppress(StoreUnavailable):  # the next look goes on
            await self._keep_warm(versions)
            await self._find_leftovers(there, is_away=seen.is_away)
            await self._let_go()
        return LOOK_S

    async def _look_in_storage(self) -> float:
        try:
            found = await self._remote.look()
        except StorageUnavailable as error:
            logger.bind(reason=error.detail).warning("no look for models in the storage")
            return LOOK_S * 10
        known = {name: one for name, one in self._pushed.items() if name in found and one.mark == found[name].digest}
        fresh = {name: remote_version(one, self._cache, self._limits) for name, one in found.items()}
        self._pushed = fresh | known
        self._has_seen_storage = True
        self._wake.set()
        return LOOK_IN_STORAGE_S

    # --- what comes -------------------------------------------------------------------------------------------

    def _is_served(self, name: str, version_id: str) -> bool:
        return not self._serve or not self._serve.isdisjoint((name, version_id))

    def _offer(self, versions: dict[str, OfferedVersion]) -> None:
        for name, version in versions.items():
            known = self._offered.get(name)
            if known is not None and known.mark == version.mark and name not in self._removed:
                continue
            self._removed.pop(name, None)
            self._offered[name] = version
            self._residents.offer(version.offer)
            logger.bind(model=name, digest=version.model.digest[:12]).info("model offered")

    def _refuse(self, broken: dict[str, str], strange: dict[str, str]) -> None:
        """Say once in the log why a version or a folder is not served, and show a version as failed."""
        before, self._refused = self._refused, broken | strange
        for name, reason in self._refused.items():
            if before.get(name) == reason:
                continue
            logger.bind(model=name, reason=reason).error("a model in the repository cannot be served")
            if name in broken and self._is_served(split_id(name)[0], name):
                self._offered[name] = None
                self._removed.pop(name, None)
                self._residents.refuse(name, reason)

    async def _publish(self, versions: dict[str, OfferedVersion]) -> None:
        models = {name: one.model for name, one in versions.items() if self._offered.get(name)}
        fresh = [model for name, model in models.items() if self._published.get(name) != model]
        if fresh:
            self._published |= {model.id: model for model in fresh}
            await self.publisher.publish(sorted(fresh, key=_by_version))

    async def _keep_warm(self, versions: dict[str, OfferedVersion]) -> None:
        """Keep warm what `serve` names: a version, or the default one of a name."""
        names = {one.model.name for one in versions.values()} & self._serve
        defaults = await self._defaults(names) if names else {}
        for name, version in versions.items():
            is_named = name in self._serve or defaults.get(version.model.name) == name
            self._residents.keep_warm(name, warm=version.offer.warm or is_named)

    async def _defaults(self, names: Collection[str]) -> dict[str, str]:
        found = await self._store.models.catalogue()
        first: dict[str, str] = {}
        for one in found.versions:
            first.setdefault(one.model.name, one.model.id)
        return first | {name: f"{name}@{version}" for name, version in found.defaults.items() if name in names}

    # --- what goes --------------------------------------------------------------------------------------------

    def _withdraw(self, versions: dict[str, OfferedVersion]) -> None:
        """Withdraw what was missing in two looks: a version that is replaced is away for a moment."""
        missing = self._offered.keys() - versions.keys() - self._refused.keys() - self._removed.keys()
        for name in missing & self._missing:
            logger.bind(model=name).info("model removed")
            self.publisher.forget([name])
            self._published.pop(name, None)
            self._residents.withdraw(name, REMOVED)
            self._removed[name] = time.monotonic()
        self._missing = missing

    async def _find_leftovers(self, there: Collection[str], *, is_away: bool) -> None:
        """Once, withdraw what a worker of this machine has published from files that were removed while none ran.
        Nothing is withdrawn while the directory is away."""
        if not self._has_seen_storage or self._has_looked_back or (is_away and self._has_missed):
            return
        published = (await self._store.models.catalogue()).versions
        mine = [one.model.id for one in published if one.model.versioned and one.worker.startswith(f"{self._host}-")]
        served = {name for worker in await self._others() for name in worker.models}
        gone = [name for name in mine if name not in {*there, *served, *self._refused}]
        if is_away and gone:
            self._has_missed = True
            logger.bind(models=gone).error(f"the directory of models {EMPTY}")
            return
        self._has_looked_back = True
        for name in gone:
            self._residents.withdraw(name, REMOVED)
            self._removed[name] = time.monotonic()

    async def _others(self) -> list[WorkerInfo]:
        return [worker for worker in await self._store.workers.listed() if worker.id != self._worker]

    async def _let_go(self) -> None:
        """Retract removed versions that no other worker has, and forget those that have no tasks any more."""
        if not self._removed:
            return
        elsewhere = {
            name
            for worker in await self._others()
            for name in worker.models
            if name not in worker.residence or worker.residence[name].reason != REMOVED
        }
        gone = self._removed.keys() - elsewhere
        await self._store.models.retract(gone.difference(await self._store.models.missing(sorted(gone))))
        now = time.monotonic()
        waiting = {queue.model for queue in await self._shards.totals.depths(self._removed) if queue.depth}
        self._removed |= dict.fromkeys(waiting, now)
        for name in [name for name, since in self._removed.items() if now > since + DRAINED_S]:
            del self._removed[name]
            self._offered.pop(name, None)
            self._residents.drop(name)


async def _again(wake: asyncio.Event, look: Callable[[], Awaitable[float]]) -> None:
    while True:
        wake.clear()
        pause_s = await look()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await wake.wait()


def _by_version(model: Model) -> tuple[str, list[tuple[int, str]]]:
    """Versions of a name in the order that people number them in: 9 before 10."""
    return model.name, [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", model.version)]
