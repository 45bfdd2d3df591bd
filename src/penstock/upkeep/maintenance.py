"""What has to be done again and again, by whoever runs: take back, expire, count, delete.

Any number of processes may do it at the same time; each act is one script of the store, or may be repeated.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from loguru import logger

from penstock.core.task import TENANT, State
from penstock.core.upload import upload_key
from penstock.errors import DeadlineExceeded, StartDeadlineExceeded, StorageUnavailable, StoreUnavailable
from penstock.storage import Storage
from penstock.store import Condemned, Installation, Store, UploadStore, place_of
from penstock.telemetry import metrics
from penstock.telemetry.endings import count_end, count_reclaimed
from penstock.upkeep.orphans import sweep_orphans

SWEEP_PAUSE_S = 1.0
"""How long a task may stay with a worker whose lease has ended; below `store.overdue.REAPER_PAUSE_S`."""
MEASURE_PAUSE_S = 5.0
PRUNE_PAUSE_S = 60.0

AWAY_AFTER, SILENT_S = 3, 5.0
"""So many deletions that fail one after the other say that the storage is away, and so does one that takes so long."""


async def sweep(store: Store) -> None:
    """Take tasks back from dead workers, and end those that are late."""
    count_reclaimed(await store.overdue.reclaim())
    for _, model, state in await store.overdue.overrun():
        count_end(model, state, code=DeadlineExceeded.code)
    if count := await store.overdue.answer_waiting():
        logger.bind(tasks=count).info("tasks answered that were left when a result came")
    for _, model in await store.overdue.expire():
        count_end(model, State.EXPIRED, code=StartDeadlineExceeded.code)


async def prune(store: Store, storage: Storage) -> int:
    """Forget everything past its retention, then delete what only it needed in the storage; how many records."""
    tasks = await store.overdue.prune()
    metrics.report("tasks.pruned", tasks)
    total = tasks + await store.batches.prune()
    await delete_condemned(store.condemned, storage)
    return total


async def delete_condemned(condemned: Condemned, storage: Storage) -> None:
    """Delete all that is to be deleted now. What is not deleted, since the storage is away or this process ends, is
    taken again by somebody."""
    failure = None
    while taken := await condemned.take():
        try:
            await remove(condemned, storage, taken)
        except StorageUnavailable as error:
            if failure is not None:
                raise
            failure = error  # of some: the others that are due may be deleted all the same
    if failure is not None:
        raise failure


async def remove(condemned: Condemned, storage: Storage, entries: Sequence[str]) -> None:
    """Delete these keys and prefixes. One that the storage keeps, such as a locked object, keeps no other.

    Raises StorageUnavailable when some could not be deleted; those are still to be.
    """
    started = time.monotonic()
    try:
        await _delete(storage, entries)
    except StorageUnavailable:
        if len(entries) == 1 or time.monotonic() - started > SILENT_S:
            raise
        await _remove_each(condemned, storage, random.sample(entries, len(entries)))
    else:
        await condemned.bury(entries)


async def _remove_each(condemned: Condemned, storage: Storage, entries: Sequence[str]) -> None:
    """One by one, until so many in a row have failed that the storage must be away."""
    deleted: list[str] = []
    failures, failure = 0, None
    for entry in entries:
        try:
            await _delete(storage, [entry])
        except StorageUnavailable as error:
            failures, failure = failures + 1, error
            if failures == AWAY_AFTER:
                break
        else:
            deleted.append(entry)
            failures = 0
    await condemned.bury(deleted)
    if failure is not None:
        raise failure


async def _delete(storage: Storage, entries: Sequence[str]) -> None:
    places = {place_of(entry) for entry in entries}
    await storage.delete(*sorted(place for place in places if not place.endswith("/")))
    await storage.clear(*sorted(place for place in places if place.endswith("/")))


async def sweep_uploads(uploads: UploadStore, storage: Storage) -> None:
    """Delete the uploads that no task has used for too long, and once more what may have arrived after that."""
    while due := await uploads.due():
        await _delete_uploads(uploads, storage, due)


async def delete_upload_of(uploads: UploadStore, storage: Storage, tenant: str, upload_id: str) -> None:
    """Delete an upload that has been retired."""
    await _delete_uploads(uploads, storage, {upload_id: upload_key(tenant, upload_id)})


async def _delete_uploads(uploads: UploadStore, storage: Storage, due: Mapping[str, str]) -> None:
    """Objects before records, so that none is orphaned."""
    await storage.delete(*due.values())
    metrics.report("uploads", await uploads.forget(due), outcome="deleted")


MEASURED = (
    "queue.depth",
    "queue.oldest",
    "queue.device",
    "queue.paused",
    "tasks.stored",
    "uploads.unused",
    "storage.condemned",
    "batches.feeding",
    "batches.backlog",
    "records.unreadable",
    "workers",
)
"""The gauges that `measure` sets."""


async def measure(store: Store, models: Sequence[str]) -> None:
    """Set the gauges of the queues, the records, the batches, the uploads, the storage and the workers; while they
    cannot be measured, none of them is shown."""
    with metrics.meters().measuring(*MEASURED):
        await _measure(store, models)


async def _measure(store: Store, models: Sequence[str]) -> None:
    meters = metrics.meters()
    queues = [
        (queue, {"model": queue.model, "priority": queue.priority}) for queue in await store.queues.depths(models)
    ]
    meters.replace("queue.depth", [(queue.depth, labels) for queue, labels in queues])
    meters.replace("queue.oldest", [(queue.oldest_s, labels) for queue, labels in queues])
    meters.replace("queue.device", [(q.device_s, labels) for q, labels in queues if q.device_s is not None])
    meters.replace("queue.paused", [(float(queue.pause is not None), labels) for queue, labels in queues])
    stored = await store.listing.count(TENANT)
    meters.replace("tasks.stored", [(n, {"status": state}) for state, n in stored.items()])
    meters.report("uploads.unused", await store.uploads.unused())
    meters.report("storage.condemned", await store.condemned.waiting())
    meters.report("records.unreadable", len(await store.unreadable()))
    feeding, backlog = await store.batches.waiting_lines()
    meters.report("batches.feeding", feeding)
    meters.report("batches.backlog", backlog)
    states = Counter(worker.state for worker in await store.workers.listed())
    meters.replace("workers", [(n, {"state": state}) for state, n in states.items()])


async def run_maintenance(
    store: Store,
    storage: Storage,
    models: Sequence[str],
    *,
    installation: Installation,
    delete_orphans: bool,
) -> None:
    """All of it, for ever; a failure is logged, and the next round tries again."""
    await asyncio.gather(
        _repeat(lambda: sweep(store), SWEEP_PAUSE_S, "sweep"),
        _repeat(lambda: measure(store, models), MEASURE_PAUSE_S, "measure"),
        _repeat(lambda: prune(store, storage), PRUNE_PAUSE_S, "prune"),
        _repeat(lambda: sweep_uploads(store.uploads, storage), PRUNE_PAUSE_S, "sweep uploads"),
        _repeat(lambda: sweep_orphans(installation, storage, delete=delete_orphans), PRUNE_PAUSE_S, "sweep orphans"),
    )


async def run_upkeep(store: Store, storage: Storage) -> None:
    """What a worker does of it, for ever: tasks of dead workers are taken back where no API runs, too. Workers that
    start at once begin to delete one after the other."""
    await asyncio.gather(
        _repeat(lambda: sweep(store), SWEEP_PAUSE_S, "sweep"),
        _repeat(
            lambda: prune(store, storage),
            PRUNE_PAUSE_S,
            "prune",
            first_s=random.uniform(0, PRUNE_PAUSE_S),  # noqa: S311  jitter is no secret
        ),
    )


async def _repeat(act: Callable[[], Awaitable[object]], pause_s: float, name: str, *, first_s: float = 0.0) -> None:
    """Act after `first_s` and then after each pause, which is a fifth longer or shorter, so that processes do not stay
    in step. The clock of the loop counts: the time of day may be set."""
    await asyncio.sleep(first_s)
    while True:
        try:
            await act()
        except (StoreUnavailable, StorageUnavailable) as error:
            logger.bind(job=name, reason=error.detail).warning("maintenance postponed")
        except Exception:  # noqa: BLE001  one bad round must not end all later ones
            logger.bind(job=name).exception("maintenance failed")
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  jitter is no secret
