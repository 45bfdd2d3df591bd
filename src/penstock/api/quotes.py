"""What a submit would lead to, without one: `POST /v1/tasks?dry_run=true`."""

from penstock.api.estimates import forecast
from penstock.api.guards import Caller
from penstock.api.schemas import AheadView, QuoteView, SizeView, TaskRequest
from penstock.api.services import Services
from penstock.api.submission import Examined, output_size
from penstock.errors import QueueFull


async def quote(asked: TaskRequest, examined: Examined, caller: Caller, services: Services) -> QuoteView:
    """Of a request that has passed all checks. Nothing is stored or counted, and no equal task is looked for.

    Raises QueueFull as a submit would.
    """
    queues = {queue.priority: queue for queue in await services.store.depths([asked.model])}
    if sum(queue.depth for queue in queues.values()) >= services.settings.queue.max_depth:
        raise QueueFull("as many tasks are waiting for this model as are let in", retry_after_s=5)
    ahead = await services.store.ahead(caller.tenant, caller.id, asked.model, asked.priority)
    pace, workers = await services.estimates.of(asked.model)
    expected = None if queues[asked.priority].pause else forecast(pace, cost=examined.cost, workers=workers)
    return QuoteView(
        model=asked.model,
        priority=asked.priority,
        queue_position=ahead,
        ahead=AheadView(tasks=ahead, device_s=round(ahead * pace.device_s, 3) if pace else None),
        run_device_s=round(pace.of(examined.cost), 3) if pace else None,
        eta_s=None if expected is None else expected.s(ahead),
        input=None if examined.size is None else SizeView(width=examined.size[0], height=examined.size[1]),
        output=_output(asked, examined),
    )


def _output(asked: TaskRequest, examined: Examined) -> SizeView | None:
    size = None if examined.size is None else output_size(asked, *examined.size)
    return None if size is None else SizeView(width=size[0], height=size[1])
