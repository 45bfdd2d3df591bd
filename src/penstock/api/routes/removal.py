"""/v1/tasks/cancel and /delete: end or delete one task, or all that match."""

from collections.abc import Sequence
from typing import Annotated, Literal

from litestar import delete, post
from litestar.params import FromPath, FromQuery, QueryParameter

from penstock.api.bulk import GO_ON, Act, Terms, act_on_matching, count_each
from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import Filter
from penstock.api.http.problems import documented
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
    summary="Delete a task",
    description="Deletes the record, its input and its result; a result file that other tasks have too is kept for "
    "them. A task that waits or runs has to be canceled first. Repeating it is fine.",
    status_code=204,
    responses=documented(TaskNotFound, TaskNotFinal, StorageUnavailable),
)
async def delete_task(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> None:
    """Makes the task read as 410 for a week. With the storage away it answers 503: the task is gone all the same, and
    its files go when the storage is back."""
    tenant = request.auth.tenant
    entries = await services.store.tasks.delete(task_id, tenant)
    if entries is None:  # deleted before: perhaps by this client, while the storage was away
        entries = await services.store.condemned.of_task(tenant, task_id)
    await remove(services.store.condemned, services.storage, entries)


@post(
    "/tasks/delete",
    operation_id="deleteTasks",
    tags=["tasks"],
    summary="Delete all matching tasks",
    description="Deletes the newest `limit` tasks that have ended in this `status` and pass the filter, which is that "
    "of the list. " + GO_ON,
    status_code=200,
    responses=documented(InvalidRequest, StorageUnavailable),
)
async def delete_matching(
    request: ApiRequest,
    services: ServicesDep,
    task_filter: Filter,
    terms: Terms,
    status: FromQuery[list[Ended]],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
) -> DeletedView:
    """Passes over a task that is in none of these states any more by its turn."""
    return await act_on_matching(DELETE, status, task_filter, terms, limit=limit, request=request, services=services)


@post(
    "/tasks/cancel",
    operation_id="cancelTasks",
    tags=["tasks"],
    summary="Cancel all matching tasks",
    description="Cancels the newest `limit` tasks that wait or run, by `status`, and pass the filter, which is that of "
    "the list. " + GO_ON,
    status_code=200,
    responses=documented(InvalidRequest),
)
async def cancel_matching(
    request: ApiRequest,
    services: ServicesDep,
    task_filter: Filter,
    terms: Terms,
    status: FromQuery[list[Live]],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 1000,
) -> CanceledView:
    """Passes over a task that is in none of these states any more by its turn."""
    return await act_on_matching(CANCEL, status, task_filter, terms, limit=limit, request=request, services=services)


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


DELETE = Act("deleted", DeletedView, _delete)
CANCEL = Act("canceled", CanceledView, _cancel)
