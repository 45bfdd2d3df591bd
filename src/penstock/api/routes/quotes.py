"""What a submit would lead to, without one: `POST /v1/tasks/quote`."""

from litestar import post

from penstock.api.http.auth import ApiRequest, Caller, require_json
from penstock.api.http.bodies import body_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.problems import documented
from penstock.api.routes.tasks import SUBMIT_ERRORS, CacheControl, CancelAfter, IdempotencyKey, refusals_counted
from penstock.api.schemas.tasks import AheadView, QuoteView, SizeView
from penstock.api.services import Services, ServicesDep
from penstock.errors import QueueFull
from penstock.intake.enqueue import Examined, examine, output_size, read_request
from penstock.intake.estimates import forecast
from penstock.intake.requests import TaskRequest


@post(
    "/tasks/quote",
    operation_id="quoteTask",
    tags=["tasks"],
    summary="Check a submit, and say what it would lead to",
    description="Takes what a submit takes, refuses what a submit would refuse, and queues nothing: the answer says "
    "how much is ahead, and how long the task should take.",
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
    """Nothing is stored or counted but a refusal."""
    with refusals_counted(services.settings.api.rate_limit_per_minute):
        asked = read_request(
            await body_of(request),
            idempotency_key=idempotency_key,
            cancel_after=cancel_after,
            cache_control=cache_control,
            models=services.models,
        )
        examined = await examine(asked, services, request.auth, base_url=str(request.base_url))
        return await quote(asked, examined, request.auth, services)


async def quote(asked: TaskRequest, examined: Examined, caller: Caller, services: Services) -> QuoteView:
    """Of a request that has passed all checks. Nothing is stored or counted, and no equal task is looked for.

    Raises QueueFull as a submit would.
    """
    queues = {queue.priority: queue for queue in await services.store.queues.depths([asked.model])}
    if sum(queue.depth for queue in queues.values()) >= services.settings.queue.max_depth:
        raise QueueFull("as many tasks are waiting for this model as are let in", retry_after_s=5)
    ahead = await services.store.queues.ahead(caller.tenant, caller.id, asked.model, asked.priority)
    pace, workers = await services.estimates.of(asked.model)
    expected = None if queues[asked.priority].pause else forecast(pace, cost=examined.cost, workers=workers)
    return QuoteView(
        model=asked.model,
        priority=asked.priority,
        queue_position=ahead,
        ahead=AheadView(tasks=ahead, device_s=round(ahead * pace.device_s, 3) if pace else None),
        run_device_s=round(pace.of(examined.cost), 3) if pace else None,
        eta_s=None if expected is None else expected.eta_seconds(ahead),
        input=None if examined.size is None else SizeView(width=examined.size[0], height=examined.size[1]),
        output=_output(asked, examined),
    )


def _output(asked: TaskRequest, examined: Examined) -> SizeView | None:
    size = None if examined.size is None else output_size(asked, *examined.size)
    return None if size is None else SizeView(width=size[0], height=size[1])
