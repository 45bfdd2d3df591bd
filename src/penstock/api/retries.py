"""Running again what failed, was canceled or expired: one task, or all that match."""

from typing import Annotated, Literal

from litestar import Response, post
from litestar.params import FromPath, FromQuery, QueryParameter
from loguru import logger

from penstock.api.guards import refuse_null
from penstock.api.problems import documented
from penstock.api.schemas import RetriedView, TaskView
from penstock.api.services import ApiRequest, Open
from penstock.api.views import task_view
from penstock.errors import InvalidRequest, ResultExpired, TaskAlreadyFinal, TaskNotFound
from penstock.task import Priority, State

Retryable = Literal["FAILED", "CANCELED", "EXPIRED"]
"""The states that `resubmit` leads out of; a test compares them with the table."""


@post(
    "/tasks/{task_id:str}/retry",
    operation_id="retryTask",
    tags=["tasks"],
    summary="Run a task again",
    description="Same id, attempts kept, retries counted anew. A task that waits or runs is left alone.",
    status_code=202,
    responses=documented(TaskNotFound, TaskAlreadyFinal, ResultExpired),
)
async def retry(request: ApiRequest, services: Open, task_id: FromPath[str]) -> Response[TaskView]:
    """409 for a task that has succeeded."""
    tenant = request.auth.tenant
    await services.store.resubmit(task_id, tenant)
    view = await task_view(await services.store.get(task_id, tenant), services.storage, str(request.base_url))
    return Response(view, status_code=202, headers={"Retry-After": "1"})


@post(
    "/tasks/retry",
    operation_id="retryTasks",
    tags=["tasks"],
    summary="Run all matching tasks again",
    description="The newest `limit` tasks of one status, FAILED, CANCELED or EXPIRED. Repeat while `has_more`.",
    middleware=[refuse_null],
    status_code=200,
    responses=documented(InvalidRequest),
)
async def retry_matching(
    request: ApiRequest,
    services: Open,
    status: FromQuery[Retryable],
    model: FromQuery[str | None] = None,
    priority: FromQuery[Priority | None] = None,
    batch_id: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 1000,
) -> RetriedView:
    """A task that somebody else changes meanwhile is passed over."""
    tenant = request.auth.tenant
    found = await services.store.matching(
        tenant, states=(State(status),), model=model, priority=priority, batch=batch_id, limit=limit
    )
    retried = 0
    for task_id in found.ids:
        try:
            retried += await services.store.resubmit(task_id, tenant)
        except (ResultExpired, TaskAlreadyFinal, TaskNotFound):
            continue
    logger.bind(status=status, model=model, retried=retried).info("tasks retried by filter")
    return RetriedView(retried=retried, has_more=found.next_before is not None)
