"""The rounds of upkeep: each act is repeated for as long as a process runs.

Any number of processes may run them at the same time: each act is one script of the store, or may be repeated.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from loguru import logger

from penstock.errors import StorageUnavailable, StoreUnavailable
from penstock.storage import Storage
from penstock.store import Installation, Shards, Store
from penstock.telemetry.outages import Outage
from penstock.upkeep.gauges import measure
from penstock.upkeep.history import sample
from penstock.upkeep.orphans import sweep_orphans
from penstock.upkeep.retention import prune
from penstock.upkeep.sweep import SWEEP_PAUSE_S, sweep, sweep_inline, sweep_uploads

MEASURE_PAUSE_S = 5.0
PRUNE_PAUSE_S = 60.0
SAMPLE_PAUSE_S = 15.0
"""A sample is of one minute; the first process that comes in a minute takes it."""


async def run_maintenance(
    shards: Shards,
    storage: Storage,
    models: Callable[[], Sequence[str]],
    caps: Callable[[], Mapping[str, int]],
    *,
    patient: Shards,
    delete_orphans: bool,
) -> None:
    """Run all rounds until cancelled, as an API process does. A failure is logged, and the next round tries again.

    `models` returns the ids of the models whose queues are measured, `caps` how many tasks each tenant may run. The
    `patient` shards are the same ones for work that may take longer.
    """
    of_each = zip(shards, patient, strict=True)
    await asyncio.gather(
        _repeat(lambda: measure(shards, models()), MEASURE_PAUSE_S, "measure"),
        _repeat(lambda: sample(shards, models()), SAMPLE_PAUSE_S, "sample"),
        *(
            _maintain(store, storage, caps, other.installation, delete_orphans=delete_orphans)
            for store, other in of_each
        ),
    )


async def _maintain(
    store: Store,
    storage: Storage,
    caps: Callable[[], Mapping[str, int]],
    installation: Installation,
    *,
    delete_orphans: bool,
) -> None:
    """Run the rounds of one shard."""
    repeat = partial(_repeat, label=store.label)
    await asyncio.gather(
        repeat(lambda: sweep(store), SWEEP_PAUSE_S, "sweep"),
        repeat(lambda: sweep_inline(store.inline, storage), SWEEP_PAUSE_S, "move inline inputs"),
        repeat(lambda: store.caps.set(caps()), SWEEP_PAUSE_S, "set caps"),
        repeat(lambda: prune(store, storage), PRUNE_PAUSE_S, "prune"),
        repeat(lambda: sweep_uploads(store.uploads, storage), PRUNE_PAUSE_S, "sweep uploads"),
        repeat(lambda: sweep_orphans(installation, storage, delete=delete_orphans), PRUNE_PAUSE_S, "sweep orphans"),
    )


async def run_upkeep(store: Store, storage: Storage) -> None:
    """Run the rounds of a worker until cancelled: tasks of dead workers are taken back also where no API runs.

    The first prune comes after a random part of its pause, so that workers which start together do not prune together.
    """
    repeat = partial(_repeat, label=store.label)
    await asyncio.gather(
        repeat(lambda: sweep(store), SWEEP_PAUSE_S, "sweep"),
        repeat(
            lambda: prune(store, storage),
            PRUNE_PAUSE_S,
            "prune",
            first_s=random.uniform(0, PRUNE_PAUSE_S),  # noqa: S311  jitter is no secret
        ),
    )


async def _repeat(
    act: Callable[[], Awaitable[object]],
    pause_s: float,
    name: str,
    *,
    first_s: float = 0.0,
    label: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Act after `first_s`, and then after each pause.

    A pause is up to a fifth longer or shorter, so that processes do not stay in step. The clock of the event loop
    counts, since the time of day may be set.
    """
    outage = Outage("maintenance postponed", job=name, **label)
    await asyncio.sleep(first_s)
    while True:
        try:
            await act()
            outage.over()
        except (StoreUnavailable, StorageUnavailable) as error:
            outage.note(error.detail)
        except Exception:  # noqa: BLE001  one bad round must not end all later ones
            logger.bind(job=name).exception("maintenance failed")
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  jitter is no secret
