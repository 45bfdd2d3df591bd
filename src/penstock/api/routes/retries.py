"""/v1/tasks/retry: run again what failed, was canceled or expired, one task or all that match."""

from collections.abc import Sequence
from typing import Annotated, Literal

from litestar import Response, post
from litestar.params import FromPath, FromQuery, QueryParameter

from penstock.api.bulk import GO_ON, Act, Terms, act_on_matching, count_each
from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import Filter
from penstock.api.http.problems import documented
from penstock.api.schemas.render import task_view
from penstock.api.schemas.tasks import RetriedView, TaskView
from penstock.api.services import Services, ServicesDep
from penstock.core.task import State
from penstock.errors import InvalidRequest, ResultExpired, TaskAlreadyFinal, TaskNotFound

Retryable = Literal["FAILED", "CANCELED", "EXPIRED"]
"""The states that `resubmit` leads out of; a test compares them with `TRANSITIONS`."""


@post(
    "/tasks/{task_id:str}/retry",
    operation_id="retryTask",
    tags=["tasks"],
    summary="Run a task again",
    description="Queues the task again under the same id. Its attempts are kept, its retries are counted anew. A task "
    "that waits or runs is left alone.",
    status_code=202,
    responses=documented(TaskNotFound, TaskAlreadyFinal, ResultExpired),
)
async def retry(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> Response[TaskView]:
    """Answers 409 for a task that has succeeded."""
    tenant = request.auth.tenant
    await services.store.tasks.resubmit(task_id, tenant)
    view = await task_view(await services.store.tasks.get(task_id, tenant), services.storage, str(request.base_url))
    return Response(view, status_code=202, headers={"Retry-After": "1"})


@post(
    "/tasks/retry",
    operation_id="retryTasks",
    tags=["tasks"],
    summary="Run all matching tasks again",
    description="Queues again the newest `limit` tasks that are FAILED, CANCELED or EXPIRED, by `status`, and pass the "
    "filter, which is that of the list. " + GO_ON,
    status_code=200,
    responses=documented(InvalidRequest),
)
async def retry_matching(
    request: ApiRequest,
    services: ServicesDep,
    task_filter: Filter,
    terms: Terms,
    status: FromQuery[list[Retryable]],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 1000,
) -> RetriedView:
    """Passes over a task that is in none of these states any more by its turn."""
    return await act_on_matching(RETRY, status, task_filter, terms, limit=limit, request=request, services=services)


async def _retry(task_ids: Sequence[str], states: tuple[State, ...], tenant: str, services: Services) -> int:
    return await count_each(task_ids, lambda task_id: services.store.tasks.resubmit(task_id, tenant, states=states))


RETRY = Act("retried", RetriedView, _retry)
