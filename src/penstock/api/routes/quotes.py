"""/v1/tasks/quote: what a submit would lead to."""

from litestar import post

from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import json_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.problems import documented
from penstock.api.http.scopes import SUBMIT
from penstock.api.schemas.tasks import AheadView, QuoteView, SizeView
from penstock.api.services import ServicesDep
from penstock.api.submits import (
    SUBMIT_ERRORS,
    CacheControl,
    CancelAfter,
    CountingRefusals,
    IdempotencyKey,
    call_of,
)
from penstock.intake.call import SubmitCall
from penstock.intake.quote import Quote, quote
from penstock.intake.requests import TaskRequest


@post(
    "/tasks/quote",
    operation_id="quoteTask",
    tags=["tasks"],
    summary="Check a submit without making it",
    description="Takes what a submit takes, refuses what a submit would refuse, and queues nothing. The answer says "
    "how many tasks are ahead, and how long the task should take.",
    opt=SUBMIT | describe(body={JSON: TaskRequest}),
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
    with CountingRefusals(services):
        call = await call_of(
            await json_of(request, TaskRequest),
            request,
            services,
            idempotency_key=idempotency_key,
            cancel_after=cancel_after,
            cache_control=cache_control,
        )
        return _view(call, await quote(call, services))


def _view(call: SubmitCall, quote: Quote) -> QuoteView:
    return QuoteView(
        model=call.model.name,
        priority=call.task.priority,
        queue_position=quote.tasks_ahead,
        ahead=AheadView(tasks=quote.tasks_ahead, device_s=quote.ahead_device_s),
        run_device_s=quote.run_device_s,
        eta_s=quote.eta_s,
        input=quote.input_size and SizeView(width=quote.input_size[0], height=quote.input_size[1]),
        output=quote.output_size and SizeView(width=quote.output_size[0], height=quote.output_size[1]),
    )
