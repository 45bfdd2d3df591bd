"""The gauges that only the store can tell: queues, records, batches, uploads and workers."""

from collections import Counter
from collections.abc import Mapping, Sequence

from loguru import logger

from penstock.intake.residence import differing
from penstock.store import QueueDepth, Shards, Totals, WorkerInfo
from penstock.telemetry import metrics
from penstock.upkeep.backlog import backlog

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
    "backlog",
    "inline.used",
    "inline.budget",
    "webhooks.endpoints",
    "records.unreadable",
    "workers",
    "models.differing",
)
"""The gauges that `measure` sets."""

_warned: dict[str, dict[str, tuple[str, ...]]] = {}
"""The workers by digest of each model that a warning was logged about: it is logged again when they change."""


async def measure(shards: Shards, models: Sequence[str]) -> None:
    """Set every gauge of MEASURED. When this fails, if only for one shard, none of them is shown any longer, rather
    than an old value or a part of it."""
    totals = shards.totals
    with metrics.meters().measuring(*MEASURED):
        depths = await totals.depths(models)
        _show_queues(depths)
        await _measure_batches(totals, depths, models)
        await _measure_records(totals)
        await _measure_webhooks(totals)
        _measure_workers(await shards.home.workers.listed(), models)


def _show_queues(depths: Sequence[QueueDepth]) -> None:
    meters = metrics.meters()
    queues = [(queue, {"model": queue.model, "priority": queue.priority}) for queue in depths]
    meters.replace("queue.depth", [(queue.depth, labels) for queue, labels in queues])
    meters.replace("queue.oldest", [(queue.oldest_s, labels) for queue, labels in queues])
    meters.replace("queue.device", [(q.device_s, labels) for q, labels in queues if q.device_s is not None])
    meters.replace("queue.paused", [(float(queue.pause is not None), labels) for queue, labels in queues])


async def _measure_records(totals: Totals) -> None:
    meters = metrics.meters()
    stored = await totals.count_tasks()
    meters.replace("tasks.stored", [(n, {"status": state}) for state, n in stored.items()])
    meters.report("uploads.unused", await totals.unused_uploads())
    meters.report("storage.condemned", await totals.condemned())
    meters.report("records.unreadable", len(await totals.unreadable()))
    used, budget = await totals.inline_bytes()
    meters.report("inline.used", used)
    meters.report("inline.budget", budget)


async def _measure_batches(totals: Totals, depths: Sequence[QueueDepth], models: Sequence[str]) -> None:
    feeding, lines = await totals.waiting_lines()
    metrics.report("batches.feeding", feeding)
    _show_by_model("batches.backlog", dict.fromkeys(models, 0.0) | lines)
    _show_by_model("backlog", await backlog(totals, depths, lines, models))


def _show_by_model(key: str, values: Mapping[str, float]) -> None:
    metrics.meters().replace(key, [(value, {"model": model}) for model, value in values.items()])


async def _measure_webhooks(totals: Totals) -> None:
    owed, resting = await totals.count_endpoints()
    metrics.report("webhooks.endpoints", owed, state="owed")
    metrics.report("webhooks.endpoints", resting, state="resting")


def _measure_workers(workers: Sequence[WorkerInfo], models: Sequence[str]) -> None:
    states = Counter(worker.state for worker in workers)
    metrics.meters().replace("workers", [(n, {"state": state}) for state, n in states.items()])
    found = {model: differing(model, workers) for model in models}
    metrics.report("models.differing", sum(bool(digests) for digests in found.values()))
    for model, digests in found.items():
        if digests and _warned.get(model) != digests:
            logger.bind(model=model, workers=digests).warning("workers have different files of one model")
        _warned[model] = digests
