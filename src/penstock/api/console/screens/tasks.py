"""Tasks: the list, its filter, what one does with all that match, and the way to one by its id."""

import re
from typing import Annotated, Any

import htpy as h
from litestar import Response, get
from litestar.params import FromQuery, QueryParameter
from msgspec.structs import replace

from penstock.api.console.answers import page
from penstock.api.console.page.panels import heading, live, pages
from penstock.api.console.parts.task_acts import acts_on_all, acts_on_chosen
from penstock.api.console.parts.task_filters import filters
from penstock.api.console.parts.task_rows import task_table
from penstock.api.console.reads import tasks
from penstock.api.console.task_query import TaskQuery, query_of
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import Filter, TaskFilter
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.services import Services, ServicesDep
from penstock.core.task import State

SHOWN = 50
_BATCH = re.compile(r"bat_[0-9a-f]{32}")
_ID = re.compile(r"(?:tsk_)?([0-9a-f]{1,32})")
ANY_ID = TaskFilter(
    model=None, priority=None, batch=None, metadata={}, created_after=None, created_before=None, cursor=None
)


@get("/tasks", opt=READ | OF_ANY_TENANT)
async def show_tasks(
    request: ApiRequest,
    services: ServicesDep,
    task_filter: Filter,
    status: FromQuery[list[State] | None] = None,
    within: FromQuery[str] = "",
    entry: FromQuery[str] = "",
) -> Response[str]:
    """List the tasks that match, newest first."""
    query = query_of(task_filter, status, within, entry, _given(request))
    found = await tasks.listed(request, services, query.task_filter, query.status, limit=SHOWN)
    viewer, counts = viewer_of(request), await tasks.counts(request, services)
    link = viewer.page("/tasks", **query.given)
    rows = task_table(viewer, found.data, empty=_empty(query, has_more=found.has_more))
    return page(
        request,
        "Tasks",
        heading("Tasks", acts_on_all(viewer, query), under=_of_tenant(viewer)),
        filters(viewer, query, counts, services.models.ids()),
        live(
            "tasks",
            link,
            acts_on_chosen(viewer) if found.data else None,
            rows,
            pages(viewer, "/tasks", dict(query.given), found.next_cursor),
            every_s=0 if query.has_cursor else 10,
        ),
        screen="tasks",
    )


@get("/find", opt=READ | OF_ANY_TENANT)
async def find(
    request: ApiRequest, services: ServicesDep, wanted: Annotated[str, QueryParameter(name="id")] = ""
) -> Response[Any]:
    """Lead to the task whose id begins like this, or to the list of those whose ids do; an operator's whole id may be
    of any tenant."""
    viewer, text = viewer_of(request), wanted.strip()
    if _BATCH.fullmatch(text):
        return _to(viewer.page(f"/batches/{text}"), viewer)
    named = _ID.fullmatch(text)
    if named is None:
        return _to(viewer.page("/tasks"), viewer)
    prefix = f"tsk_{named[1]}"
    found = await _first_two(prefix, request, services)
    if len(found) == 1:
        return _to(viewer.page(f"/tasks/{found[0]}"), viewer)
    if not found and viewer.can("operate") and (tenant := await services.shards.totals.tenant_of(prefix)):
        return _to(viewer.page(f"/tasks/{prefix}", tenant=tenant), viewer)
    return _to(viewer.page("/tasks", id_prefix=prefix), viewer)


async def _first_two(prefix: str, request: ApiRequest, services: Services) -> list[str]:
    found = await tasks.listed(request, services, replace(ANY_ID, id_prefix=prefix), (), limit=2)
    return [task.task_id for task in found.data]


def _to(link: str, viewer: Viewer) -> Response[Any]:
    headers = {"Location": link.removeprefix(viewer.prefix)}
    return Response(b"", status_code=303, media_type="text/plain", headers=headers)


def _given(request: ApiRequest) -> dict[str, Any]:
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name != "tenant"]
    return {name: [value for one, value in pairs if one == name] for name, _ in pairs}


def _of_tenant(viewer: Viewer) -> h.Node:
    caller = viewer.caller
    return ["of the tenant ", h.strong[caller.tenant]] if caller and caller.home is not None else None


def _empty(query: TaskQuery, *, has_more: bool) -> h.Node:
    if has_more:
        return "None of the tasks that were looked at matches. There are older ones."
    if query.given:
        return "No task matches."
    return [h.p["No task yet."], h.p["Tasks that are submitted with this key show up here."]]
