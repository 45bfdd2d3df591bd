"""/v1/tasks: submit, read, cancel."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter

from penstock.api.http.auth import ApiRequest, require_json
from penstock.api.http.bodies import body_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.headers import MAX_WAIT_S, is_current, rate_headers, wait_of
from penstock.api.http.problems import documented
from penstock.api.schemas.render import links, task_view, version_of
from penstock.api.schemas.tasks import SubmittedView, TaskView
from penstock.api.services import Services, ServicesDep
from penstock.api.waiting import End
from penstock.core.task import Task, new_task_id
from penstock.errors import (
    IdempotencyMismatch,
    ImageDecodeFailed,
    ImageTooLarge,
    InputTooLarge,
    InvalidRequest,
    MalformedRequest,
    ModelNotFound,
    PayloadTooLarge,
    PenstockError,
    QueueFull,
    RateLimited,
    ResultExpired,
    StorageUnavailable,
    StoreUnavailable,
    TaskAlreadyFinal,
    TaskNotFound,
    UnsupportedImageFormat,
    UnsupportedMediaType,
    UploadMismatch,
    UploadNotFound,
    UploadNotReady,
    UrlBlocked,
    WebhooksDisabled,
)
from penstock.intake.enqueue import DURATION_PATTERN, KEY_PATTERN, Examined, examine, hand_in, read_request
from penstock.intake.requests import TaskRequest
from penstock.store import Submitted
from penstock.telemetry import endings, metrics

POLL_S = 1
"""What clients are told to wait before they look again."""

SUBMIT_ERRORS = (
    MalformedRequest, ModelNotFound, InputTooLarge, PayloadTooLarge, UnsupportedMediaType, UnsupportedImageFormat,
    InvalidRequest, UrlBlocked, IdempotencyMismatch, ImageTooLarge, ImageDecodeFailed,
    UploadNotFound, UploadNotReady, UploadMismatch, WebhooksDisabled, QueueFull, RateLimited, StorageUnavailable,
)  # fmt: skip
"""How a submit can be refused."""

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="The same as client_request_id in the body",
        schema_extra={"pattern": KEY_PATTERN},
    ),
]
CancelAfter = Annotated[
    str | None,
    HeaderParameter(
        name="Cancel-After",
        description="The same as finish_within_s: 90, 90s, 5m, 1h30m",
        schema_extra={"pattern": DURATION_PATTERN},
    ),
]
CacheControl = Annotated[
    str | None, HeaderParameter(name="Cache-Control", description="`no-cache` is the same as reuse: false")
]

WHOLE = "With `Prefer: wait`, the task, which has ended; without, a task that was submitted before, as it is now"


@post(
    "/tasks",
    operation_id="submitTask", tags=["tasks"],
    summary="Submit a task",
    description="Queues a task. Repeating a submit with its `client_request_id` (or `Idempotency-Key`) is safe. A task "
    "equal to another of the same key takes its result, now or when it is there. With `Prefer: wait=n` the answer is "
    "the whole task (200) if it has ended within n seconds, and as usual (202) if not; hanging up cancels nothing. "
    "What it would lead to, `POST /v1/tasks/quote` says, and queues nothing.",
    middleware=[require_json],
    opt=describe(body={JSON: TaskRequest}),
    status_code=202,
    responses={200: ResponseSpec(TaskView, description=WHOLE, generate_examples=False)}
    | documented(*SUBMIT_ERRORS),
)  # fmt: skip
async def submit(
    request: ApiRequest,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
    cache_control: CacheControl = None,
    prefer: Annotated[
        str | None, HeaderParameter(name="Prefer", description="wait=n: seconds to wait for the end, 300 at most")
    ] = None,
) -> Response[SubmittedView]:
    """202 for a new task, 200 for one that is there already; with a wait, 200 for one that has ended and 202 else."""
    limit = services.settings.api.rate_limit_per_minute
    wait_s = None if prefer is None else wait_of(request.headers.getall("Prefer"))
    with refusals_counted(limit):
        asked = read_request(
            await body_of(request),
            idempotency_key=idempotency_key,
            cancel_after=cancel_after,
            cache_control=cache_control,
            models=services.models,
        )
        examined = await examine(asked, services, request.auth, base_url=str(request.base_url))
    submitted, task = await take(asked, examined, wait_s, request, services)
    headers = _submit_headers(submitted, wait_s, limit)
    if task is not None and (wait_s is None or task.state.is_final):
        whole = await _view(task, request, services)
        return Response[Any](whole, status_code=200, headers=headers | _cache_headers(task))
    shown = task or submitted
    expected = None if submitted.is_paused else await services.estimates.forecast(asked.model, cost=examined.cost)
    eta_s = None if expected is None or shown.position is None else expected.eta_seconds(shown.position)
    return Response(_submitted_view(submitted, task, eta_s), headers=headers | {"Retry-After": str(POLL_S)})


async def take(
    asked: TaskRequest, examined: Examined, wait_s: float | None, request: ApiRequest, services: Services
) -> tuple[Submitted, Task | None]:
    """Queue what was asked for, and wait for its end as long as the client would. The task is None for a new one for
    which nobody waits, or which cannot be read just now: it is queued all the same. Raises as a submit may."""
    task_id = new_task_id()
    with services.waiting.expect(task_id) as end:
        with refusals_counted(services.settings.api.rate_limit_per_minute):
            submitted = await hand_in(
                task_id, asked, examined,
                caller=request.auth, traceparent=request.scope["state"]["traceparent"], services=services,
            )  # fmt: skip
        report_accepted(submitted, asked)
        return submitted, await _awaited(submitted, end, wait_s, request, services)


@get(
    "/tasks/{task_id:str}",
    operation_id="getTask",
    tags=["tasks"],
    summary="Read a task",
    description="Answers 304 while nothing has changed since the `ETag` in `If-None-Match`. With `wait=n` it answers "
    "as soon as the task has ended, or after n seconds.",
    responses={304: ResponseSpec(None, description="Unchanged")}
    | documented(TaskNotFound, ResultExpired, InvalidRequest),
)
async def read(
    request: ApiRequest,
    services: ServicesDep,
    task_id: FromPath[str],
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
    wait: Annotated[int, QueryParameter(ge=0, le=MAX_WAIT_S)] = 0,
) -> Response[TaskView]:
    """`Retry-After` while it is worth looking again."""
    task = await services.waiting.end_of(task_id, seconds=wait, request=request)
    headers = _cache_headers(task)
    if is_current(headers["ETag"], if_none_match):
        return Response[Any](None, status_code=304, headers=headers)
    return Response(await _view(task, request, services), headers=headers)


@post(
    "/tasks/{task_id:str}/cancel",
    operation_id="cancelTask",
    tags=["tasks"],
    summary="Cancel a task",
    description="Ends a waiting or running task in CANCELED, at once. Repeating it is fine.",
    status_code=200,
    responses=documented(TaskNotFound, TaskAlreadyFinal, ResultExpired),
)
async def cancel(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> TaskView:
    """409 for a task that has ended otherwise."""
    return await _view(await end_early(task_id, request, services), request, services)


async def end_early(task_id: str, request: ApiRequest, services: Services) -> Task:
    """Cancel the task; as it is then. Raises TaskNotFound, TaskAlreadyFinal."""
    acted = await services.store.tasks.cancel(task_id, request.auth.tenant)
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    if acted:
        endings.count_end(task.request.model, task.state)
    return task


async def _view(task: Task, request: ApiRequest, services: Services) -> TaskView:
    return await task_view(task, services.storage, str(request.base_url))


async def _awaited(
    submitted: Submitted, end: End, wait_s: float | None, request: ApiRequest, services: Services
) -> Task | None:
    if submitted.replayed:
        return await services.waiting.end_of(submitted.id, seconds=wait_s or 0, request=request)
    if wait_s:
        if not submitted.is_hit:
            await services.waiting.wait(end, wait_s, request)
        with suppress(StoreUnavailable):
            return await services.store.tasks.get(submitted.id, request.auth.tenant)
    return None


def _submit_headers(submitted: Submitted, wait_s: int | None, limit: int) -> dict[str, str]:
    headers = {"Location": links(submitted.id).self_, "Vary": "Prefer"}
    headers |= rate_headers("submit", limit, left=submitted.rate_left, reset_s=submitted.rate_reset_s)
    headers |= {"Idempotent-Replayed": "true"} if submitted.replayed else {}
    return headers | ({} if wait_s is None else {"Preference-Applied": f"wait={wait_s}"})


def _submitted_view(submitted: Submitted, task: Task | None, eta_s: float | None) -> SubmittedView:
    return SubmittedView(
        task_id=submitted.id,
        status=(task or submitted).state,
        queue_position=(task or submitted).position,
        eta_s=eta_s,
        links=links(submitted.id),
    )


def report_accepted(submitted: Submitted, asked: TaskRequest) -> None:
    """Count a new task, and its end if it has ended already."""
    if not submitted.replayed:
        metrics.report("tasks.submitted", model=asked.model, priority=asked.priority)
    if submitted.is_hit:
        endings.count_hits(asked.model)


@contextmanager
def refusals_counted(limit: int) -> Iterator[None]:
    """Refused submits show in the metrics, and say how many the client has left."""
    try:
        yield
    except PenstockError as error:
        metrics.report("submits.refused", code=error.code)
        if isinstance(error, RateLimited):
            error.headers |= rate_headers("submit", limit, left=0, reset_s=error.retry_after_s or 1)
        raise


def _cache_headers(task: Task) -> dict[str, str]:
    """What is known of this copy, and when to look for another."""
    return {"ETag": f'"{version_of(task)}"'} | ({} if task.state.is_final else {"Retry-After": str(POLL_S)})
