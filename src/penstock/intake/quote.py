"""The quote: what a submit would lead to, while nothing is queued."""

from msgspec import Struct

from penstock.core.quotas import NO_QUOTAS, QuotaName
from penstock.errors import QueueFull
from penstock.intake.call import SubmitCall
from penstock.intake.deps import Deps
from penstock.intake.enqueue import stored_bytes
from penstock.intake.estimates import forecast
from penstock.intake.examine import Examined, examine, output_size
from penstock.store.verdicts import quota_exceeded

RETRY_AFTER_S = 5
"""The same wait as in the store's refusal of a submit for the same reason."""


class Quote(Struct, frozen=True, kw_only=True):
    """The place that a task would have in the queue, and how long it should take.

    `ahead_device_s` and `run_device_s` are the device times of the tasks ahead and of the task itself, None while no
    task of the model has been measured; `eta_s` is None also while its queue is paused or no worker serves it. Sizes
    are width and height in pixels, None for an image that nobody has seen.
    """

    tasks_ahead: int
    ahead_device_s: float | None
    run_device_s: float | None
    eta_s: float | None
    input_size: tuple[int, int] | None
    output_size: tuple[int, int] | None


async def quote(call: SubmitCall, deps: Deps) -> Quote:
    """Examine a call as a submit does, and say what it would lead to. Nothing is stored or counted, and no equal task
    is looked for.

    Raises ModelUnavailable, what `examine` raises, and QueueFull and QuotaExceeded as a submit would, but for the quota
    of submits a minute.
    """
    model, priority = call.model.id, call.task.priority
    if model in deps.estimates.unavailable:
        await deps.estimates.check(model)
    if call.scorer is not None:
        await deps.estimates.check_beside(model, call.scorer.id)
    examined = await examine(call, deps)
    queues = {queue.priority: queue for queue in await deps.store.queues.depths([model])}
    if sum(queue.depth for queue in queues.values()) >= deps.settings.queue.max_depth:
        raise QueueFull("as many tasks are waiting for this model as are let in", retry_after_s=RETRY_AFTER_S)
    pace, workers = await deps.estimates.of(model)
    await _check_quotas(call.caller.tenant, examined, 0.0 if pace is None else pace.of(examined.cost), deps)
    ahead = await deps.store.queues.ahead(call.caller.tenant, call.caller.id, model, priority)
    expected = None if queues[priority].pause else forecast(pace, cost=examined.cost, workers=workers)
    return Quote(
        tasks_ahead=ahead,
        ahead_device_s=round(ahead * pace.device_s, 3) if pace else None,
        run_device_s=round(pace.of(examined.cost), 3) if pace else None,
        eta_s=None if expected is None else expected.eta_seconds(ahead),
        input_size=examined.size,
        output_size=examined.size and output_size(call, *examined.size),
    )


async def _check_quotas(tenant: str, examined: Examined, device_s: float, deps: Deps) -> None:
    quotas = deps.quotas_of(tenant)
    if quotas == NO_QUOTAS:
        return
    (now,) = await deps.store.accounts.held([tenant])
    wanted: dict[QuotaName, float] = {
        "redis_bytes": now.redis_bytes + 1,
        "storage_bytes": now.storage_bytes + max(1, stored_bytes(examined)),
        "tasks_waiting": now.tasks_waiting + 1,
        "device_seconds_per_day": (now.used_ms_today + now.reserved_ms) / 1000 + device_s,
    }
    for name, amount in wanted.items():
        if 0 < (limit := getattr(quotas, name)) < amount:
            raise quota_exceeded("", name.encode(), limit, RETRY_AFTER_S * 1000)
