"""The gauges that only the store can tell: queues, records, batches, uploads and workers."""

from collections import Counter
from collections.abc import Sequence

from loguru import logger

from penstock.core.access import TENANT
from penstock.intake.residence import differing
from penstock.store import BatchStore, Store
from penstock.telemetry import metrics

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
    "models.differing",
)
"""The gauges that `measure` sets."""

_warned: dict[str, dict[str, tuple[str, ...]]] = {}
"""The workers by digest of each model that a warning was logged about: it is logged again when they change."""


async def measure(store: Store, models: Sequence[str]) -> None:
    """Set every gauge of MEASURED. When this fails none of them is shown any longer, rather than an old value."""
    with metrics.meters().measuring(*MEASURED):
        await _measure_queues(store, models)
        await _measure_records(store)
        await _measure_batches(store.batches)
        await _measure_workers(store, models)


async def _measure_queues(store: Store, models: Sequence[str]) -> None:
    meters = metrics.meters()
    queues = [
        (queue, {"model": queue.model, "priority": queue.priority}) for queue in await store.queues.depths(models)
    ]
    meters.replace("queue.depth", [(queue.depth, labels) for queue, labels in queues])
    meters.replace("queue.oldest", [(queue.oldest_s, labels) for queue, labels in queues])
    meters.replace("queue.device", [(q.device_s, labels) for q, labels in queues if q.device_s is not None])
    meters.replace("queue.paused", [(float(queue.pause is not None), labels) for queue, labels in queues])


async def _measure_records(store: Store) -> None:
    meters = metrics.meters()
    stored = await store.listing.count(TENANT)
    meters.replace("tasks.stored", [(n, {"status": state}) for state, n in stored.items()])
    meters.report("uploads.unused", await store.uploads.unused())
    meters.report("storage.condemned", await store.condemned.waiting())
    meters.report("records.unreadable", len(await store.unreadable()))


async def _measure_batches(batches: BatchStore) -> None:
    feeding, backlog = await batches.waiting_lines()
    metrics.report("batches.feeding", feeding)
    metrics.report("batches.backlog", backlog)


async def _measure_workers(store: Store, models: Sequence[str]) -> None:
    workers = await store.workers.listed()
    states = Counter(worker.state for worker in workers)
    metrics.meters().replace("workers", [(n, {"state": state}) for state, n in states.items()])
    found = {model: differing(model, workers) for model in models}
    metrics.report("models.differing", sum(bool(digests) for digests in found.values()))
    for model, digests in found.items():
        if digests and _warned.get(model) != digests:
            logger.bind(model=model, workers=digests).warning("workers have different files of one model")
        _warned[model] = digests
