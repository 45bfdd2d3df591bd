"""Retention: delete records past their time, and the objects that only they needed.

Records go first and name their objects as condemned; whoever runs next deletes what this process could not.
"""

import random
import time
from collections.abc import Sequence

from penstock.errors import StorageUnavailable
from penstock.storage import Storage
from penstock.store import Condemned, Store, place_of
from penstock.telemetry import metrics

FAILURES_IN_A_ROW, SILENT_S = 3, 5.0
"""The storage counts as away after this many failed deletions in a row, or after one that takes this long."""


async def prune(store: Store, storage: Storage) -> int:
    """Delete tasks and batches past their retention, then their objects. Returns the number of records."""
    tasks = await store.overdue.prune()
    metrics.report("tasks.pruned", tasks)
    total = tasks + await store.batches.prune()
    await store.tenants.tidy()
    await store.accounts.prune()
    await delete_condemned(store.condemned, storage)
    return total


async def delete_condemned(condemned: Condemned, storage: Storage) -> None:
    """Delete the objects that are condemned and due.

    Raises StorageUnavailable when some could not be deleted. Those stay condemned, also when this process ends in
    between, and are taken again by any process.
    """
    failure = None
    while entries := await condemned.take():
        try:
            await remove(condemned, storage, entries)
        except StorageUnavailable as error:
            if failure is not None:
                raise
            failure = error  # some objects may be locked: the others that are due are deleted all the same
    if failure is not None:
        raise failure


async def remove(condemned: Condemned, storage: Storage, entries: Sequence[str]) -> None:
    """Delete these keys and prefixes; an object that the storage keeps, such as a locked one, hinders no other.

    Raises StorageUnavailable when some could not be deleted; those stay condemned.
    """
    started = time.monotonic()
    try:
        await _delete(storage, entries)
    except StorageUnavailable:
        if len(entries) == 1 or time.monotonic() - started > SILENT_S:
            raise
        # In another order each time, so that the same locked objects do not always come before the others.
        await _remove_each(condemned, storage, random.sample(entries, len(entries)))
    else:
        await condemned.bury(entries)


async def _remove_each(condemned: Condemned, storage: Storage, entries: Sequence[str]) -> None:
    deleted: list[str] = []
    failures, failure = 0, None
    for entry in entries:
        try:
            await _delete(storage, [entry])
        except StorageUnavailable as error:
            failures, failure = failures + 1, error
            if failures == FAILURES_IN_A_ROW:
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
