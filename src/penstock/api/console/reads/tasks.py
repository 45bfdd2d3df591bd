"""Tasks, one and many, as the API answers them."""

import asyncio
from collections.abc import Sequence
from typing import cast

from msgspec import UNSET

from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import TaskFilter
from penstock.api.routes import listing, results
from penstock.api.schemas.render import task_view
from penstock.api.schemas.tasks import TaskList, TaskView
from penstock.api.services import Services
from penstock.core.request import Source
from penstock.core.task import State, Task
from penstock.errors import ResultExpired


async def listed(
    request: ApiRequest, services: Services, task_filter: TaskFilter, status: Sequence[State], *, limit: int
) -> TaskList:
    """Return a page of the tasks that match, newest first; without a `status`, those of every status."""
    found = await listing.list_tasks.fn(
        request=request,
        services=services,
        state=request.app.state,
        task_filter=task_filter,
        status=list(status) or None,
        limit=limit,
    )
    return cast(TaskList, found)


async def shown(task_id: str, request: ApiRequest, services: Services) -> TaskView:
    """Return a task. Raises TaskNotFound, ResultExpired."""
    return await task_view(await record(task_id, request, services), services.storage, str(request.base_url))


async def record(task_id: str, request: ApiRequest, services: Services) -> Task:
    """Return the record of a task, which has its input and params. Raises TaskNotFound, ResultExpired."""
    return await services.store.tasks.get(task_id, request.auth.tenant)


async def gone(record: Task, services: Services) -> frozenset[str]:
    """Return which files of the input are gone, or never were there: a task that had the result of an equal one at once
    stores none. While the storage does not answer, none is known to be gone."""
    in_redis = await services.store.inline.keys_of(record.id)
    keys = {
        name: source.key
        for name, source in record.request.inputs.items()
        if source.data is None and source.key and source.key not in in_redis
    }
    found = await asyncio.gather(*(services.storage.size(key) for key in keys.values()), return_exceptions=True)
    return frozenset(name for name, size in zip(keys, found, strict=True) if isinstance(size, ResultExpired))


async def log(task_id: str, request: ApiRequest, services: Services) -> str:
    """Return what the model's code has said during the attempts of a task."""
    return cast(str, await results.read_log.fn(request=request, services=services, task_id=task_id))


async def counts(request: ApiRequest, services: Services) -> dict[State, int]:
    """Return how many tasks of the tenant are in each state."""
    return await services.store.listing.count(request.auth.tenant)


def is_here(source: Source) -> bool:
    """Return whether the bytes of a member of an input are in its record or in the storage."""
    return source.value is UNSET and (source.data is not None or source.key is not None)
