"""What the parent of the workers writes into the store for one that cannot do so itself: it is dead, or cannot run.

The store is imported and connected only then: a parent needs it seldom, and it takes 8 MB.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from penstock.core.device import Device
from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.local.down_devices import TELL_DOWN_S
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.store import Shards, Store

LISTED_S = 6 * TELL_DOWN_S
"""How long a device stays listed as down when its parent falls silent."""


async def release_tasks(settings: Settings, worker_id: str, why: str) -> None:
    """Take back the tasks of a worker that is dead, whose record says `why`. Nothing happens where the store is away:
    leases expire anyway."""
    from penstock.telemetry.endings import count_reclaimed

    async def release(store: Store) -> None:
        count_reclaimed(await store.overdue.reclaim(worker_id, why))

    await _in_stores(settings, lambda shards: shards.reach(release))


async def retract_models(settings: Settings, worker_id: str) -> None:
    """Take models of a worker out of the catalogue that no other has published since: those that an edit has renamed or
    removed. Nothing happens where the store is away."""

    async def retract(store: Store) -> None:
        versions = (await store.models.catalogue()).versions
        await store.models.retract([one.model.id for one in versions if one.worker == worker_id])

    await _in_stores(settings, lambda shards: retract(shards.home))


async def list_down(settings: Settings, device: Device, reason: str, since: float) -> None:
    """List the worker of a device as DOWN, with the reason and the second since when. Nothing happens where the store
    is away."""
    from penstock.store import WorkerInfo

    info = WorkerInfo(
        id=_down_id(device),
        device=device.name,
        host=socket.gethostname(),
        models=(),
        slots=0,
        running=0,
        state="DOWN",
        started=int(since * 1000),
        reason=reason,
    )
    await _in_stores(settings, lambda shards: shards.reach(lambda store: store.workers.list_down(info, LISTED_S)))


async def unlist(settings: Settings, device: Device) -> None:
    """Take a device off the list that is no longer down. Nothing happens where the store is away."""
    await _in_stores(settings, lambda shards: shards.reach(lambda store: store.workers.sign_off(_down_id(device))))


async def _in_stores(settings: Settings, act: Callable[[Shards], Awaitable[object]]) -> None:
    from penstock.store import Shards, connect_each

    try:
        async with connect_each(settings.redis) as clients:
            await act(Shards.over(clients, settings.queue))
    except (StoreUnavailable, ConfigurationError):
        pass  # what is told here is told again or ends by itself, and the child has reported a wrong setting


def _down_id(device: Device) -> str:
    return f"{socket.gethostname()}-{device.name}-down"
