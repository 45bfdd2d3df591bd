"""/v1/tasks: running a task, or all matching tasks, again after they failed, were canceled or expired."""

from collections.abc import Sequence
from typing import Annotated, Literal

from litestar import Response, post
from litestar.params import FromPath, FromQuery, QueryParameter

from penstock.api.auditing import write_down_elsewhere
from penstock.api.bulk import CONTINUE, BulkDep, count_each
from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OF_ANY_TENANT, SUBMIT
from penstock.api.schemas.render import task_view
from penstock.api.schemas.tasks import RetriedView, TaskView
from penstock.api.services import Services, ServicesDep
from penstock.core.task import State
from penstock.errors import InvalidRequest, ResultExpired, TaskAlreadyFinal, TaskNotFound

Retryable = Literal["FAILED", "CANCELED", "EXPIRED"]
"""The states from which a task can be resubmitted; a test compares them with the table of transitions."""


@post(
    "/tasks/{task_id:str}/retry",
    operation_id="retryTask",
    tags=["tasks"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Run a task again",
    description="The task keeps its id and its attempts; its retries are counted anew. A waiting or running task does "
    "not change.",
    status_code=202,
    responses=documented(TaskNotFound, TaskAlreadyFinal, ResultExpired),
)
async def retry(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> Response[TaskView]:
    """Answers 409 for a task that has succeeded."""
    tenant = request.auth.tenant
    await services.store.tasks.resubmit(task_id, tenant, quotas=services.quotas_of(tenant))
    await write_down_elsewhere("task.retry", task_id, request, services)
    view = await task_view(await services.store.tasks.get(task_id, tenant), services.storage, str(request.base_url))
    return Response(view, status_code=202, headers={"Retry-After": "1"})


@post(
    "/tasks/retry",
    operation_id="retryTasks",
    tags=["tasks"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Run all matching tasks again",
    description="Queues the newest `limit` tasks again that are FAILED, CANCELED or EXPIRED, as `status` says, and "
    "pass the filter, which is that of the list. " + CONTINUE,
    status_code=200,
    responses=documented(InvalidRequest),
)
async def retry_matching(
    bulk: BulkDep, status: FromQuery[list[Retryable]], limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 1000
) -> RetriedView:
    """Skips a task that has left these states before its turn."""
    return RetriedView(**await bulk.run(_retry, "retried", status, limit=limit))


async def _retry(task_ids: Sequence[str], states: tuple[State, ...], tenant: str, services: Services) -> int:
    tasks, quotas = services.store.tasks, services.quotas_of(tenant)
    return await count_each(task_ids, lambda task_id: tasks.resubmit(task_id, tenant, states=states, quotas=quotas))
