"""Ending and deleting before the time: one task, or all that match."""

from collections.abc import Sequence
from typing import Annotated, Literal

from litestar import delete, post
from litestar.datastructures import State as AppState
from litestar.params import FromPath, FromQuery, QueryParameter
from loguru import logger

from penstock.api.bulk import GO_ON, Terms, chosen, said
from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import Filter
from penstock.api.http.problems import documented
from penstock.api.schemas.tasks import CanceledView, DeletedView
from penstock.api.services import Services, ServicesDep
from penstock.core.task import State
from penstock.errors import (
    InvalidRequest,
    ResultExpired,
    StorageUnavailable,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
)
from penstock.telemetry import endings
from penstock.upkeep.retention import remove

Live = Literal["PENDING", "RUNNING"]
Ended = Literal["SUCCESS", "FAILED", "CANCELED", "EXPIRED"]
"""A test compares them with the states."""


@delete(
    "/tasks/{task_id:str}",
    operation_id="deleteTask",
    tags=["tasks"],
    summary="Delete a task",
    description="The record, its input and its result; a result file that other tasks show too is kept for them. A "
    "task that waits or runs has to be canceled first. Repeating it is fine.",
    status_code=204,
    responses=documented(TaskNotFound, TaskNotFinal, StorageUnavailable),
)
async def delete_task(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> None:
    """The task reads as 410 from then on, for a week. With the storage away it is 503: the task is gone all the same,
    and its files go when the storage is back."""
    tenant = request.auth.tenant
    entries = await services.store.tasks.delete(task_id, tenant)
    if entries is None:  # deleted before: perhaps by this client, while the storage was away
        entries = await services.condemned.of_task(tenant, task_id)
    await remove(services.condemned, services.storage, entries)


@post(
    "/tasks/delete",
    operation_id="deleteTasks",
    tags=["tasks"],
    summary="Delete all matching tasks",
    description="The newest `limit` tasks that have ended, by `status`, and pass the filter, which is that of the "
    "list. " + GO_ON,
    status_code=200,
    responses=documented(InvalidRequest, StorageUnavailable),
)
async def delete_matching(
    request: ApiRequest,
    services: ServicesDep,
    state: AppState,
    task_filter: Filter,
    terms: Terms,
    status: FromQuery[list[Ended]],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
) -> DeletedView:
    """A task that is in none of these states any more by its turn is passed over."""
    found = await chosen(task_filter, status, terms, limit=limit, request=request, services=services)
    deleted = 0 if terms.dry_run else await _delete(found.ids, status, request.auth.tenant, services)
    logger.bind(status=status, matched=len(found.ids), deleted=deleted).info("tasks deleted by filter")
    return DeletedView(deleted=deleted, **said(found, terms, state))


@post(
    "/tasks/cancel",
    operation_id="cancelTasks",
    tags=["tasks"],
    summary="Cancel all matching tasks",
    description="The newest `limit` tasks that wait or run, by `status`, and pass the filter, which is that of the "
    "list. " + GO_ON,
    status_code=200,
    responses=documented(InvalidRequest),
)
async def cancel_matching(
    request: ApiRequest,
    services: ServicesDep,
    state: AppState,
    task_filter: Filter,
    terms: Terms,
    status: FromQuery[list[Live]],
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 1000,
) -> CanceledView:
    """A task that is in none of these states any more by its turn is passed over."""
    found = await chosen(task_filter, status, terms, limit=limit, request=request, services=services)
    canceled = 0 if terms.dry_run else await _cancel(found.ids, status, request.auth.tenant, services)
    logger.bind(status=status, matched=len(found.ids), canceled=canceled).info("tasks canceled by filter")
    return CanceledView(canceled=canceled, **said(found, terms, state))


async def _delete(task_ids: Sequence[str], status: Sequence[Ended], tenant: str, services: Services) -> int:
    states = tuple(map(State, status))
    deleted, entries = await services.store.tasks.delete_each(task_ids, tenant, states=states)
    await remove(services.condemned, services.storage, entries)
    return deleted


async def _cancel(task_ids: Sequence[str], status: Sequence[Live], tenant: str, services: Services) -> int:
    canceled, states = 0, tuple(map(State, status))
    for task in await services.store.listing.read_each(task_ids, tenant):
        try:
            if await services.store.tasks.cancel(task.id, tenant, states=states):
                endings.count_end(task.request.model, State.CANCELED)
                canceled += 1
        except (ResultExpired, TaskAlreadyFinal, TaskNotFound):
            continue
    return canceled
