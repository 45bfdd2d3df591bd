"""/v1/tasks/quote: what a submit would lead to."""

from litestar import post

from penstock.api.http.auth import ApiRequest, require_json
from penstock.api.http.bodies import body_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.problems import documented
from penstock.api.schemas.tasks import AheadView, QuoteView, SizeView
from penstock.api.services import Services, ServicesDep
from penstock.api.submits import (
    SUBMIT_ERRORS,
    CacheControl,
    CancelAfter,
    IdempotencyKey,
    call_of,
    refusals_counted,
)
from penstock.errors import QueueFull
from penstock.intake.call import SubmitCall
from penstock.intake.estimates import forecast
from penstock.intake.examine import Examined, examine, output_size
from penstock.intake.requests import TaskRequest


@post(
    "/tasks/quote",
    operation_id="quoteTask",
    tags=["tasks"],
    summary="Check a submit without making it",
    description="Takes what a submit takes, refuses what a submit would refuse, and queues nothing. The answer says "
    "how many tasks are ahead, and how long the task should take.",
    middleware=[require_json],
    opt=describe(body={JSON: TaskRequest}),
    status_code=200,
    responses=documented(*SUBMIT_ERRORS),
)
async def quote_task(
    request: ApiRequest,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
    cache_control: CacheControl = None,
) -> QuoteView:
    """Stores nothing, and counts nothing but a refusal."""
    with refusals_counted(services):
        call = call_of(
            await body_of(request),
            request,
            services,
            idempotency_key=idempotency_key,
            cancel_after=cancel_after,
            cache_control=cache_control,
        )
        return await quote(call, await examine(call, services), services)


async def quote(call: SubmitCall, examined: Examined, services: Services) -> QuoteView:
    """Say what a call that has passed all checks would lead to. No equal task is looked for.

    Raises QueueFull as a submit would.
    """
    task = call.task
    queues = {queue.priority: queue for queue in await services.store.queues.depths([task.model])}
    if sum(queue.depth for queue in queues.values()) >= services.settings.queue.max_depth:
        raise QueueFull("as many tasks are waiting for this model as are let in", retry_after_s=5)
    ahead = await services.store.queues.ahead(call.caller.tenant, call.caller.id, task.model, task.priority)
    pace, workers = await services.estimates.of(task.model)
    expected = None if queues[task.priority].pause else forecast(pace, cost=examined.cost, workers=workers)
    return QuoteView(
        model=task.model,
        priority=task.priority,
        queue_position=ahead,
        ahead=AheadView(tasks=ahead, device_s=round(ahead * pace.device_s, 3) if pace else None),
        run_device_s=round(pace.of(examined.cost), 3) if pace else None,
        eta_s=None if expected is None else expected.eta_seconds(ahead),
        input=_size_view(examined.size),
        output=_size_view(examined.size and output_size(task, *examined.size)),
    )


def _size_view(size: tuple[int, int] | None) -> SizeView | None:
    return None if size is None else SizeView(width=size[0], height=size[1])
