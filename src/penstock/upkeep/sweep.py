"""Sweep: take tasks back from dead workers, end late tasks, move inputs of ended tasks out of Redis, and delete uploads
that nobody uses.

Raises StoreUnavailable or StorageUnavailable; the next round goes on where this one stopped.
"""

from collections.abc import Mapping

from loguru import logger

from penstock.core.media_types import media_type
from penstock.core.task import State
from penstock.core.upload import upload_key
from penstock.errors import DeadlineExceeded, StartDeadlineExceeded
from penstock.storage import Item, Storage
from penstock.store import InlineInputs, Store, UploadStore
from penstock.telemetry import metrics
from penstock.telemetry.endings import count_end, count_reclaimed

SWEEP_PAUSE_S = 1.0
"""How long a task may stay with a worker whose lease has expired; shorter than `store.overdue.REAPER_PAUSE_S`."""


async def sweep(store: Store) -> None:
    """Take tasks back whose lease has expired, and end those past a deadline. Every end is counted in the metrics."""
    count_reclaimed(await store.overdue.reclaim())
    for _, model, state in await store.overdue.overrun():
        count_end(model, state, code=DeadlineExceeded.code)
    # A worker that died after its result came leaves behind the tasks that waited for the same result.
    if count := await store.overdue.answer_waiting():
        logger.bind(tasks=count).info("waiting tasks answered with a result that had come")
    for _, model in await store.overdue.expire():
        count_end(model, State.EXPIRED, code=StartDeadlineExceeded.code)
    await store.caps.review()


async def sweep_inline(inputs: InlineInputs, storage: Storage) -> None:
    """Move the inputs of some ended tasks from Redis to the storage, while more than half of their budget is used.

    One round moves a megabyte at most: where more comes than that, new inputs go to the storage themselves.
    """
    due = await inputs.due()
    items = [Item(key, data, media_type(data, None)) for of_task in due.values() for key, data in of_task.items()]
    if items:
        await storage.put_all(items)
    await inputs.moved(list(due))


async def sweep_uploads(uploads: UploadStore, storage: Storage) -> None:
    """Delete the uploads that no task has used for too long.

    The bytes of a deleted upload are deleted once more later, since a client may have sent them in between.
    """
    while due := await uploads.due():
        await _delete_uploads(uploads, storage, due)


async def delete_upload_of(uploads: UploadStore, storage: Storage, tenant: str, upload_id: str) -> None:
    """Delete the bytes and the record of an upload that has been retired."""
    await _delete_uploads(uploads, storage, {upload_id: upload_key(tenant, upload_id)})


async def _delete_uploads(uploads: UploadStore, storage: Storage, due: Mapping[str, str]) -> None:
    await storage.delete(*due.values())  # objects before records, so that no object is orphaned
    metrics.report("uploads", await uploads.forget(due), outcome="deleted")
