"""The quote: what a submit would lead to, while nothing is queued."""

from msgspec import Struct

from penstock.errors import QueueFull
from penstock.intake.call import SubmitCall
from penstock.intake.deps import Deps
from penstock.intake.estimates import forecast
from penstock.intake.examine import examine, output_size

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

    Raises ModelUnavailable, what `examine` raises, and QueueFull as a submit would.
    """
    model, priority = call.model.id, call.task.priority
    if model in deps.estimates.unavailable:
        await deps.estimates.check(model)
    examined = await examine(call, deps)
    queues = {queue.priority: queue for queue in await deps.store.queues.depths([model])}
    if sum(queue.depth for queue in queues.values()) >= deps.settings.queue.max_depth:
        raise QueueFull("as many tasks are waiting for this model as are let in", retry_after_s=RETRY_AFTER_S)
    ahead = await deps.store.queues.ahead(call.caller.tenant, call.caller.id, model, priority)
    pace, workers = await deps.estimates.of(model)
    expected = None if queues[priority].pause else forecast(pace, cost=examined.cost, workers=workers)
    return Quote(
        tasks_ahead=ahead,
        ahead_device_s=round(ahead * pace.device_s, 3) if pace else None,
        run_device_s=round(pace.of(examined.cost), 3) if pace else None,
        eta_s=None if expected is None else expected.eta_seconds(ahead),
        input_size=examined.size,
        output_size=examined.size and output_size(call, *examined.size),
    )
