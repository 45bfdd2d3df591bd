"""/v1/tasks/{id}/events: the changes of a task as server-sent events (WHATWG HTML, 9.2).

Events are not queued: each is made from the task as it is when the client can receive it. So a slow client gets fewer
events instead of a longer queue, and one that reconnects gets what has changed since its last event.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter
from litestar.response import Stream

from penstock.api.http.auth import ApiRequest, is_let_in
from penstock.api.http.contents import component, describe
from penstock.api.http.problems import documented
from penstock.api.http.scopes import BY_TOKEN, OF_ANY_TENANT, READ
from penstock.api.schemas.render import progress_view, task_view, version_of
from penstock.api.schemas.tasks import ResponseBody
from penstock.api.services import Services, ServicesDep
from penstock.core.task import State, Task
from penstock.errors import ResultExpired, StoreUnavailable, TaskNotFound

LOOK_EVERY_S = 15.0
"""A task is read this often even if no change was announced. If nothing has changed, a comment is sent, which keeps
proxies from closing the connection."""

BACK_AFTER_MS = 2000
"""How long a client waits before it reconnects by itself."""

MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
KEEP_ALIVE = b": keep-alive\n\n"


@get(
    "/tasks/{task_id:str}/events",
    operation_id="watchTask",
    tags=["tasks"],
    summary="Watch a task",
    description="Server-sent events: first `status` with the whole task; then `status` when it has moved on, "
    "`progress` while it runs, and `completed` with the whole task when it has ended, after which the stream ends. A "
    "client that reconnects with `Last-Event-ID` gets what it has missed as one event, or 204 if it has missed nothing "
    "and the task has ended. The position in the queue is updated every 15 s.",
    opt=READ
    | OF_ANY_TENANT
    | BY_TOKEN
    | describe(answers={200: {MEDIA_TYPE: {"anyOf": [{"type": "string"}, component("TaskEvent")]}}}),
    responses={204: ResponseSpec(None, description="The task has ended, and the client has its end: do not reconnect")}
    | documented(TaskNotFound, ResultExpired),
)
async def watch(
    request: ApiRequest,
    services: ServicesDep,
    task_id: FromPath[str],
    last_event_id: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="The id of the last event that arrived")
    ] = None,
) -> Response[Any]:
    """Answers errors as a read of the task does, before the stream begins."""
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    if task.state.is_final and last_event_id == version_of(task):
        return Response(None, status_code=204, headers=HEADERS)
    return Stream(_stream(task, last_event_id, request, services), media_type=MEDIA_TYPE, headers=HEADERS)


async def _stream(task: Task, seen: str | None, request: ApiRequest, services: Services) -> AsyncIterator[bytes]:
    yield f"retry: {BACK_AFTER_MS}\n\n".encode()
    with services.watching.watch(task.id) as changed:  # a change during the first event is not missed
        while True:
            version = version_of(task)
            if version != seen:
                yield await _event(task, seen, request, services)
                seen = version
            if task.state.is_final or request.app.state.draining or not is_let_in(request.scope):
                return
            if not await _has_changed(changed, request):
                yield KEEP_ALIVE
            changed.clear()  # before the read: a change during it leads to another round
            try:
                with suppress(StoreUnavailable):  # the next round may reach it again
                    task = await services.store.tasks.get(task.id, task.tenant)
            except (TaskNotFound, ResultExpired):
                return


async def _event(task: Task, seen: str | None, request: ApiRequest, services: Services) -> bytes:
    version = version_of(task)
    progress = progress_view(task.progress)
    # Up to the last dot, versions are equal while nothing but the progress changes.
    is_same_stage = seen is not None and seen.rpartition(".")[0] == version.rpartition(".")[0]
    if task.state is State.RUNNING and progress and is_same_stage:
        return _written("progress", version, progress)
    view = await task_view(task, services.storage, str(request.base_url), request.scope["state"]["task_token"])
    return _written("completed" if task.state.is_final else "status", version, view)


def _written(name: str, version: str, data: ResponseBody) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (version.encode(), name.encode(), msgspec.json.encode(data))


async def _has_changed(changed: asyncio.Event, request: ApiRequest) -> bool:
    """Whether a change was announced in time. The wait does not count as time that the request took."""
    state, started = request.scope["state"], asyncio.get_running_loop().time()
    waited_s = state.get("waited_s", 0.0)
    try:
        async with asyncio.timeout(LOOK_EVERY_S):
            return await changed.wait()
    except TimeoutError:
        return False
    finally:
        state["waited_s"] = waited_s + asyncio.get_running_loop().time() - started
