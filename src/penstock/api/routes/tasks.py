"""/v1/tasks: submit, read, cancel, redeliver an event to the webhook."""

from typing import Annotated, Any

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter
from msgspec.structs import replace

from penstock.api.auditing import write_down_elsewhere
from penstock.api.http.answers import NOT_MODIFIED, JsonAnswer
from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import json_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.headers import MAX_WAIT_S, is_current, submit_policies, wait_of
from penstock.api.http.problems import documented
from penstock.api.http.scopes import BY_TOKEN, OF_ANY_TENANT, READ, SUBMIT
from penstock.api.schemas.render import links, submitted_view, task_view, version_of
from penstock.api.schemas.tasks import SubmittedView, TaskView
from penstock.api.services import Services, ServicesDep, services_of
from penstock.api.submits import (
    POLL_S,
    SUBMIT_ERRORS,
    CacheControl,
    CancelAfter,
    CountingRefusals,
    IdempotencyKey,
    call_of,
    cancel_task,
    submit_and_wait,
)
from penstock.core.task import Task
from penstock.errors import InvalidRequest, ResultExpired, TaskAlreadyFinal, TaskNotFound, WebhookNotFound
from penstock.intake.call import SubmitCall
from penstock.intake.enqueue import Receipt
from penstock.intake.requests import TaskRequest
from penstock.store import Submitted

WHOLE = "With `Prefer: wait`, a task that has ended; without, a task that was submitted before, as it is now"


@post(
    "/tasks",
    operation_id="submitTask", tags=["tasks"],
    summary="Submit a task",
    description="Queues a task. Repeating a submit with its `client_request_id` (or `Idempotency-Key`) is safe. A task "
    "equal to another of the same key takes its result, now or when it is there. With `Prefer: wait=n` the answer is "
    "the whole task (200) if it has ended within n seconds, and as usual (202) if not; hanging up cancels nothing. "
    "`POST /v1/tasks/quote` says what a submit would lead to, and queues nothing.",
    opt=SUBMIT | describe(body={JSON: TaskRequest}),
    status_code=202,
    responses={200: ResponseSpec(TaskView, description=WHOLE, generate_examples=False)}
    | documented(*SUBMIT_ERRORS),
)  # fmt: skip
async def submit(
    request: ApiRequest,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
    cache_control: CacheControl = None,
    prefer: Annotated[
        str | None, HeaderParameter(name="Prefer", description="wait=n: seconds to wait for the end, 300 at most")
    ] = None,
) -> JsonAnswer[SubmittedView]:
    """Answers 202 for a new task, 200 for one that is there already; with a wait, 200 for a task that has ended."""
    services = services_of(request)
    wait_s = None if prefer is None else wait_of(request.headers.getall("Prefer"))
    with CountingRefusals(services):
        call = await call_of(
            await json_of(request, TaskRequest),
            request,
            services,
            idempotency_key=idempotency_key,
            cancel_after=cancel_after,
            cache_control=cache_control,
            wait_s=wait_s,
        )
    wants_token = call.task.links.token
    if wants_token:
        request.app.state.key_table.ensure_read()
    receipt, task = await submit_and_wait(call, request, services)
    token = _token(receipt.submitted.id, call, request) if wants_token else None
    headers = _submit_headers(receipt.submitted, wait_s, call.caller.tenant, services)
    if task is not None and (wait_s is None or task.state.is_final):
        whole = await _view(task, request, services)
        if token is not None:
            whole = replace(whole, links=links(task.id, token))
        return JsonAnswer[Any](whole, headers=headers | _cache_headers(task))
    view = submitted_view(receipt.submitted, task, _eta_s(call, receipt, task, services), token)
    return JsonAnswer(view, status_code=202, headers=headers | {"Retry-After": str(POLL_S)})


def _token(task_id: str, call: SubmitCall, request: ApiRequest) -> str:
    token: str = request.app.state.key_table.token(task_id, call.caller.tenant, ttl_s=call.task.links.ttl_s)
    return token


def _eta_s(call: SubmitCall, receipt: Receipt, task: Task | None, services: Services) -> float | None:
    position = (task or receipt.submitted).position
    if receipt.submitted.is_paused or position is None:
        return None
    forecast = services.estimates.last_forecast(call.model.id, cost=receipt.cost)
    return None if forecast is None else forecast.eta_seconds(position)


@get(
    "/tasks/{task_id:str}",
    operation_id="getTask",
    tags=["tasks"],
    opt=READ | BY_TOKEN | OF_ANY_TENANT,
    summary="Read a task",
    description="Answers 304 while nothing has changed since the `ETag` in `If-None-Match`. With `wait=n` it answers "
    "as soon as the task has ended, or after n seconds.",
    responses={304: ResponseSpec(None, description="Unchanged")}
    | documented(TaskNotFound, ResultExpired, InvalidRequest),
)
async def read(
    request: ApiRequest,
    task_id: FromPath[str],
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
    wait: Annotated[int, QueryParameter(ge=0, le=MAX_WAIT_S)] = 0,
) -> JsonAnswer[TaskView]:
    """Answers with `Retry-After` while the task may still change."""
    services = services_of(request)
    task = await services.waiting.task(task_id, wait_s=wait, request=request)
    headers = _cache_headers(task)
    if is_current(headers["ETag"], if_none_match):
        return JsonAnswer[Any](None, status_code=NOT_MODIFIED, headers=headers)
    return JsonAnswer(await _view(task, request, services), headers=headers)


@post(
    "/tasks/{task_id:str}/cancel",
    operation_id="cancelTask",
    tags=["tasks"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Cancel a task",
    description="Ends a waiting or running task in CANCELED, at once. It can be repeated safely.",
    status_code=200,
    responses=documented(TaskNotFound, TaskAlreadyFinal, ResultExpired),
)
async def cancel(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> TaskView:
    """Answers 409 for a task that has ended otherwise."""
    task = await cancel_task(task_id, request, services)
    await write_down_elsewhere("task.cancel", task_id, request, services)
    return await _view(task, request, services)


@post(
    "/tasks/{task_id:str}/webhook/redeliver",
    operation_id="redeliverWebhook",
    tags=["tasks"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Redeliver the last event of a task",
    description="Delivers the last event again, under its `webhook-id`, with as many tries as a new event has.",
    status_code=202,
    responses=documented(TaskNotFound, WebhookNotFound),
)
async def redeliver(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> Response[TaskView]:
    """Answers 404 also if the task has no event for its webhook yet."""
    await services.patient_store.outbox.redeliver(task_id, request.auth.tenant)
    await write_down_elsewhere("task.redeliver", task_id, request, services)
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    return Response(await _view(task, request, services), status_code=202)


async def _view(task: Task, request: ApiRequest, services: Services) -> TaskView:
    state = request.scope["state"]
    return await task_view(task, services.storage, f"{state['base_url']}/", state["task_token"])


def _submit_headers(submitted: Submitted, wait_s: int | None, tenant: str, services: Services) -> dict[str, str]:
    limit, quota = services.settings.api.rate_limit_per_minute, services.quotas_of(tenant).submits_per_minute
    headers = {"Location": links(submitted.id).self_, "Vary": "Prefer"}
    headers |= submit_policies(limit, quota, submitted)
    headers |= {"Idempotent-Replayed": "true"} if submitted.replayed else {}
    return headers | ({} if wait_s is None else {"Preference-Applied": f"wait={wait_s}"})


def _cache_headers(task: Task) -> dict[str, str]:
    """Returns the version of this copy, and when to poll for another."""
    return {"ETag": f'"{version_of(task)}"'} | ({} if task.state.is_final else {"Retry-After": str(POLL_S)})
