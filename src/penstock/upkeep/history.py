"""The history of the last hour, for those who look at a page without Prometheus."""

from collections import Counter
from collections.abc import Sequence
from datetime import date

from penstock.core.history import MinuteSample
from penstock.core.task import State
from penstock.store import Shards, Totals

MOST_TENANTS = 2_000
"""Tenants whose sums of today are added up; where more have used something today, a sample has none."""

READY = "READY"


async def sample(shards: Shards, models: Sequence[str]) -> None:
    """Write the sample of this minute, unless another process does. Raises StoreUnavailable."""
    store, totals = shards.home, shards.totals
    minute = await store.history.minute()
    if not await store.history.begin(minute):
        return
    queues = await totals.depths(models)
    waiting: Counter[str] = Counter()
    for queue in queues:
        waiting[queue.priority] += queue.depth
    counts = await totals.count_tasks()
    workers = await store.workers.listed()
    success, failed, device_ms = await _used_today(totals, await store.accounts.today())
    await store.history.put(
        MinuteSample(
            minute=minute,
            waiting=dict(waiting),
            running=counts[State.RUNNING],
            workers=sum(worker.state == READY for worker in workers),
            oldest_s=round(max((queue.oldest_s for queue in queues if queue.depth), default=0.0), 3),
            success=success,
            failed=failed,
            device_ms=device_ms,
        )
    )


async def _used_today(totals: Totals, today: date) -> tuple[int, int, float]:
    days = await totals.usage(today, today, most=MOST_TENANTS) or []
    used = [one.usage for one in days]
    failed = sum(one.failed + one.expired for one in used)
    return sum(one.success for one in used), failed, round(sum(one.device_ms for one in used), 3)
