"""Routes of /v1/tasks: the list of tasks."""

from typing import Annotated

from litestar import get
from litestar.datastructures import State as AppState
from litestar.params import FromQuery, QueryParameter

from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import Filter
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.schemas.render import task_view
from penstock.api.schemas.tasks import TaskList
from penstock.api.services import ServicesDep
from penstock.core.task import State
from penstock.errors import InvalidRequest


@get(
    "/tasks",
    operation_id="listTasks",
    tags=["tasks"],
    opt=READ | OF_ANY_TENANT,
    summary="List tasks, newest first",
    description="`created_after` and `created_before` are moments such as 2026-11-22T10:00:00Z; "
    "`metadata.<key>=<value>` keeps the tasks with that entry. With a filter other than by status and time a "
    "page may be short, or empty, although `has_more` is true. The beginning of an id says when its task was created, "
    "so that `id_prefix` looks at the tasks of that time only.",
    responses=documented(InvalidRequest),
)
async def list_tasks(
    request: ApiRequest,
    services: ServicesDep,
    state: AppState,
    task_filter: Filter,
    status: FromQuery[list[State] | None] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
) -> TaskList:
    """Lists tasks. Pages stay stable while tasks are added: the cursor is a moment, not an offset."""
    page = await services.store.listing.page(
        request.auth.tenant,
        states=tuple(dict.fromkeys(status)) if status else tuple(State),
        limit=limit,
        **task_filter.which(services.models),
    )
    base_url = str(request.base_url)
    return TaskList(
        data=tuple([await task_view(task, services.storage, base_url) for task in page.tasks]),
        has_more=page.next_before is not None,
        next_cursor=None if page.next_before is None else state.cursors.write(page.next_before, request.auth.tenant),
    )
