"""/v1/tasks: the list and its filters."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get
from litestar.datastructures import State as AppState
from litestar.params import FromQuery, QueryParameter
from msgspec import Meta

from penstock.api.guards import METADATA, refuse_null
from penstock.api.problems import documented
from penstock.api.schemas import TaskList
from penstock.api.services import ApiRequest, Open
from penstock.api.views import task_view
from penstock.errors import InvalidRequest
from penstock.task import Priority, State

Moment = Annotated[str | None, QueryParameter(format="date-time", description="RFC 3339, with its zone")]
"""Not a datetime, for which Litestar would also take a number."""


@get(
    "/tasks",
    operation_id="listTasks",
    tags=["tasks"],
    summary="List tasks, newest first",
    description="`created_after` and `created_before` are moments such as 2026-11-22T10:00:00Z; "
    "`metadata.<key>=<value>` keeps the tasks with that entry. With a filter by model, priority, batch or metadata a "
    "page may be short, or empty, although `has_more` is true.",
    middleware=[refuse_null],
    responses=documented(InvalidRequest),
)
async def list_tasks(
    request: ApiRequest,
    services: Open,
    state: AppState,
    status: FromQuery[list[State] | None] = None,
    model: FromQuery[str | None] = None,
    priority: FromQuery[Priority | None] = None,
    batch_id: FromQuery[str | None] = None,
    created_after: Moment = None,
    created_before: Moment = None,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, QueryParameter(format="cursor", description="`next_cursor` of a page")] = None,
) -> TaskList:
    """Pages stay stable while tasks are added: the cursor is a moment, not an offset."""
    bounds = [None if cursor is None else state.cursors.read(cursor), _micros(created_before, "created_before")]
    page = await services.store.page(
        request.auth.tenant,
        states=tuple(dict.fromkeys(status)) if status else tuple(State),
        model=model,
        priority=priority,
        metadata={k.removeprefix(METADATA): v for k, v in request.query_params.items() if k.startswith(METADATA)},
        batch=batch_id,
        after=_micros(created_after, "created_after"),
        before=min((bound for bound in bounds if bound is not None), default=None),
        limit=limit,
    )
    base_url = str(request.base_url)
    return TaskList(
        data=tuple([await task_view(task, services.storage, base_url) for task in page.tasks]),
        has_more=page.next_before is not None,
        next_cursor=None if page.next_before is None else state.cursors.write(page.next_before),
    )


def _micros(moment: str | None, param: str) -> int | None:
    if moment is None:
        return None
    try:
        found: datetime = msgspec.convert(moment, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError as error:
        raise InvalidRequest("a moment is given with its zone, such as 2026-11-22T10:00:00Z", param=param) from error
    return round(found.timestamp() * 1_000_000)
