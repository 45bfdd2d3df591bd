"""/v1/tasks: canceling and deleting all matching tasks, and deleting one."""

from collections.abc import Sequence
from typing import Annotated, Literal

from litestar import delete, post
from litestar.params import FromPath, FromQuery, QueryParameter

from penstock.api.auditing import write_down_elsewhere
from penstock.api.bulk import CONTINUE, BulkDep, count_each
from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OF_ANY_TENANT, SUBMIT
from penstock.api.schemas.tasks import CanceledView, DeletedView
from penstock.api.services import Services, ServicesDep
from penstock.core.task import State, Task
from penstock.errors import (
    InvalidRequest,
    StorageUnavailable,
    TaskNotFinal,
    TaskNotFound,
)
from penstock.telemetry import endings
from penstock.upkeep.retention import remove

Live = Literal["PENDING", "RUNNING"]
Ended = Literal["SUCCESS", "FAILED", "CANCELED", "EXPIRED"]
"""A test compares both with `State`."""


@delete(
    "/tasks/{task_id:str}",
    operation_id="deleteTask",
    tags=["tasks"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Delete a task",
    description="Deletes the record, the input and the result. A result file that other tasks share is kept for them. "
    "A waiting or running task must be canceled first. It can be repeated safely.",
    status_code=204,
    responses=documented(TaskNotFound, TaskNotFinal, StorageUnavailable),
)
async def delete_task(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> None:
    """Lets a read of the task answer 410 for a week. If the storage cannot be reached, this answers 503: the task is
    deleted even so, and its files later."""
    tenant = request.auth.tenant
    entries = await services.store.tasks.delete(task_id, tenant)
    await write_down_elsewhere("task.delete", task_id, request, services)
    if entries is None:  # deleted before: perhaps by this client, while the storage was away
        entries = await services.store.condemned.of_task(tenant, task_id)
    await remove(services.store.condemned, services.storage, entries)


@post(
    "/tasks/delete",
    operation_id="deleteTasks",
    tags=["tasks"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Delete all matching tasks",
    description="Deletes the newest `limit` tasks that have ended as `status` says and pass the filter, which is that "
    "of the list. " + CONTINUE,
    status_code=200,
    responses=documented(InvalidRequest, StorageUnavailable),
)
async def delete_matching(
    bulk: BulkDep, status: FromQuery[list[Ended]], limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100
) -> DeletedView:
    """Skips a task that has left these states before its turn."""
    return DeletedView(**await bulk.run(_delete, "deleted", status, limit=limit))


@post(
    "/tasks/cancel",
    operation_id="cancelTasks",
    tags=["tasks"],
    opt=SUBMIT | OF_ANY_TENANT,
    summary="Cancel all matching tasks",
    description="Cancels the newest `limit` tasks that wait or run, as `status` says, and pass the filter, which is "
    "that of the list. " + CONTINUE,
    status_code=200,
    responses=documented(InvalidRequest),
)
async def cancel_matching(
    bulk: BulkDep, status: FromQuery[list[Live]], limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 1000
) -> CanceledView:
    """Skips a task that has left these states before its turn."""
    return CanceledView(**await bulk.run(_cancel, "canceled", status, limit=limit))


async def _delete(task_ids: Sequence[str], states: tuple[State, ...], tenant: str, services: Services) -> int:
    deleted, entries = await services.store.tasks.delete_each(task_ids, tenant, states=states)
    await remove(services.store.condemned, services.storage, entries)
    return deleted


async def _cancel(task_ids: Sequence[str], states: tuple[State, ...], tenant: str, services: Services) -> int:
    async def cancel(task: Task) -> bool:
        has_ended = await services.store.tasks.cancel(task.id, tenant, states=states)
        if has_ended:
            endings.count_end(task.request.model, State.CANCELED)
        return has_ended

    return await count_each(await services.store.listing.read_each(task_ids, tenant), cancel)
