"""Sweep: take tasks back from dead workers, end tasks that are late, and delete uploads that nobody uses.

Raises StoreUnavailable or StorageUnavailable; the next round goes on where this one stopped.
"""

from collections.abc import Mapping

from loguru import logger

from penstock.core.task import State
from penstock.core.upload import upload_key
from penstock.errors import DeadlineExceeded, StartDeadlineExceeded
from penstock.storage import Storage
from penstock.store import Store, UploadStore
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
