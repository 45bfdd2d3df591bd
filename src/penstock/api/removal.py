"""Ending and deleting before the time: one task, or all that match."""

from typing import Annotated, Literal

from litestar import delete, post
from litestar.params import FromPath, FromQuery, QueryParameter
from loguru import logger

from penstock import endings
from penstock.api.guards import refuse_null
from penstock.api.problems import documented
from penstock.api.schemas import CanceledView, DeletedView
from penstock.api.services import ApiRequest, Open
from penstock.errors import (
    InvalidRequest,
    ResultExpired,
    StorageUnavailable,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
)
from penstock.maintenance import remove
from penstock.task import Priority, State

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
async def delete_task(request: ApiRequest, services: Open, task_id: FromPath[str]) -> None:
    """The task reads as 410 from then on, for a week. With the storage away it is 503: the task is gone all the same,
    and its files go when the storage is back."""
    tenant = request.auth.tenant
    entries = await services.store.delete(task_id, tenant)
    if entries is None:  # deleted before: perhaps by this client, while the storage was away
        entries = await services.condemned.of_task(tenant, task_id)
    await remove(services.condemned, services.storage, entries)


@post(
    "/tasks/delete",
    operation_id="deleteTasks",
    tags=["tasks"],
    summary="Delete all matching tasks",
    description="The newest `limit` tasks of one status in which a task has ended. Repeat while `has_more`.",
    middleware=[refuse_null],
    status_code=200,
    responses=documented(InvalidRequest, StorageUnavailable),
)
async def delete_matching(
    request: ApiRequest,
    services: Open,
    status: FromQuery[Ended],
    model: FromQuery[str | None] = None,
    priority: FromQuery[Priority | None] = None,
    batch_id: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
) -> DeletedView:
    """A task that somebody else changes meanwhile is passed over."""
    tenant = request.auth.tenant
    found = await services.store.matching(
        tenant, states=(State(status),), model=model, priority=priority, batch=batch_id, limit=limit
    )
    deleted, entries = await services.store.delete_each(found.ids, tenant)
    await remove(services.condemned, services.storage, entries)
    logger.bind(status=status, model=model, deleted=deleted).info("tasks deleted by filter")
    return DeletedView(deleted=deleted, has_more=found.next_before is not None)


@post(
    "/tasks/cancel",
    operation_id="cancelTasks",
    tags=["tasks"],
    summary="Cancel all matching tasks",
    description="The newest `limit` tasks of one status, PENDING or RUNNING. Repeat while `has_more`.",
    middleware=[refuse_null],
    status_code=200,
    responses=documented(InvalidRequest),
)
async def cancel_matching(
    request: ApiRequest,
    services: Open,
    status: FromQuery[Live],
    model: FromQuery[str | None] = None,
    priority: FromQuery[Priority | None] = None,
    batch_id: FromQuery[str | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 1000,
) -> CanceledView:
    """A task that somebody else changes meanwhile is passed over; one that was PENDING may be RUNNING by its turn."""
    tenant = request.auth.tenant
    page = await services.store.page(
        tenant, states=(State(status),), model=model, priority=priority, batch=batch_id, limit=limit
    )
    canceled = 0
    for task in page.tasks:
        try:
            if await services.store.cancel(task.id, tenant):
                endings.count_end(task.request.model, State.CANCELED)
                canceled += 1
        except (ResultExpired, TaskAlreadyFinal, TaskNotFound):
            continue
    logger.bind(status=status, model=model, canceled=canceled).info("tasks canceled by filter")
    return CanceledView(canceled=canceled, has_more=page.next_before is not None)
