"""The history of the last hour, for those who look at a page without Prometheus."""

from collections import Counter
from collections.abc import Sequence

from penstock.core.history import MinuteSample
from penstock.core.task import State
from penstock.store import Store

MOST_TENANTS = 2_000
"""Tenants whose sums of today are added up; where more have used something today, a sample has none."""

READY = "READY"


async def sample(store: Store, models: Sequence[str]) -> None:
    """Write the sample of this minute, unless another process does. Raises StoreUnavailable."""
    minute = await store.history.minute()
    if not await store.history.begin(minute):
        return
    queues = await store.queues.depths(models)
    waiting: Counter[str] = Counter()
    for queue in queues:
        waiting[queue.priority] += queue.depth
    counts = await store.tenants.count_tasks()
    workers = await store.workers.listed()
    success, failed, device_ms = await _used_today(store)
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


async def _used_today(store: Store) -> tuple[int, int, float]:
    today = await store.accounts.today()
    days = await store.accounts.usage_of_all(today, today, most=MOST_TENANTS) or []
    used = [one.usage for one in days]
    failed = sum(one.failed + one.expired for one in used)
    return sum(one.success for one in used), failed, round(sum(one.device_ms for one in used), 3)
