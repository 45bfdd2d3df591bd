"""One task: how it went, what went in and came out, and what one may do with it."""

from collections.abc import Set
from typing import Any

import htpy as h
import msgspec
from litestar import Response, get
from litestar.params import FromPath

from penstock.api.console.answers import page
from penstock.api.console.page.panels import heading, live, panel
from penstock.api.console.page.tables import facts
from penstock.api.console.page.words import badge, copyable, when
from penstock.api.console.parts.explained import why_it_failed, why_it_waits
from penstock.api.console.parts.reproduce import reproduced
from penstock.api.console.parts.task_acts import acts_on_one
from penstock.api.console.parts.task_files import inputs_of, result_of
from penstock.api.console.parts.task_rows import model_of
from penstock.api.console.parts.timeline import attempts, steps, timeline
from penstock.api.console.parts.webhook import deliveries
from penstock.api.console.reads import operations, tasks
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.schemas.tasks import TaskView
from penstock.api.services import ServicesDep
from penstock.core.task import Task

EVENTS = "sse:status, sse:completed, sse:progress throttle:1s"
"""What the part with the task is loaded again at, while it is there."""


@get("/tasks/{task_id:str}", opt=READ | OF_ANY_TENANT)
async def show_task(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> Response[str]:
    """Show a task. Raises TaskNotFound, ResultExpired."""
    viewer = viewer_of(request)
    task, record = await tasks.shown(task_id, request, services), await tasks.record(task_id, request, services)
    is_live = task.finished_at is None
    gone = frozenset[str]() if is_live else await tasks.gone(record, services)
    log = await tasks.log(task_id, request, services)
    content = live(
        "task",
        viewer.page(f"/tasks/{task_id}"),
        heading([h.span["Task "], badge(task.status)], _acts(viewer, task), under=_under(viewer, task)),
        why_it_failed(viewer, task.error) if task.error else None,
        why_it_waits(viewer, task, await operations.explained(task_id, request, services)) if is_live else None,
        panel("", steps(task), timeline(task), attempts(viewer, task)),
        _result(viewer, task, record, gone),
        deliveries(viewer, task.webhook, f"/tasks/{task_id}"),
        panel("Log", h.pre(tabindex="0")[log]) if log else None,
        every_s=15 if is_live else 0,
        events=EVENTS if is_live else "",
    )
    return page(
        request,
        f"Task {task_id}",
        _watched(viewer, task_id, content) if is_live else content,
        h.div(".columns")[
            panel("Input", inputs_of(viewer, task, record, gone)),
            panel(
                "Request",
                _request(viewer, task, record),
                h.h3["Send it again"],
                reproduced(record, str(request.base_url)),
            ),
        ],
        screen="tasks",
    )


def _watched(viewer: Viewer, task_id: str, content: h.Element) -> h.Element:
    """The part that changes, inside of what hears of the changes: that is never replaced."""
    events = viewer.api(f"/tasks/{task_id}/events")
    return h.div({"hx-ext": "sse", "sse-connect": events, "sse-close": "completed"})[content]


def _acts(viewer: Viewer, task: TaskView) -> list[h.Node]:
    replay = h.a(".button", href=viewer.page(f"/tasks/{task.task_id}/replay"))["Replay with changes"]
    return [replay if viewer.can("submit") else None, *acts_on_one(viewer, task)]


def _under(viewer: Viewer, task: TaskView) -> list[h.Node]:
    tenant = viewer.caller.tenant if viewer.caller and viewer.caller.home is not None else None
    return [
        copyable(task.task_id),
        " ",
        model_of(task),
        f" of {tenant}" if tenant else "",
        ", created ",
        when(task.created_at),
    ]


def _result(viewer: Viewer, task: TaskView, record: Task, gone: Set[str]) -> h.Node:
    return panel("Result", result_of(viewer, task, record, gone), name="result") if task.result else None


def _request(viewer: Viewer, task: TaskView, record: Task) -> h.Element:
    batch = task.batch_id and h.a(href=viewer.page(f"/batches/{task.batch_id}"))[task.batch_id]
    given: list[tuple[str, Any]] = [
        ("Model", model_of(task)),
        ("Key", h.a(href=viewer.page("/tasks", key=record.caller))[record.caller]),
        ("Priority", str(task.priority)),
        ("Params", h.code[msgspec.json.encode(record.request.params).decode()] if record.request.params else None),
        ("Metadata", [h.div[h.code[f"{name}={value}"]] for name, value in task.metadata.items()]),
        ("Batch", batch),
        ("Client's id", task.client_request_id),
        ("Shared run", {"hit": "the result of an equal task", "coalesced": "ran with an equal task"}.get(task.reuse)),
        ("Deadline", when(task.deadline) if task.deadline else None),
        ("Kept until", when(task.expires_at) if task.expires_at else None),
        ("Device", ", ".join(str(task.execution[one]) for one in ("device", "worker") if one in task.execution)),
        ("Device time", f"{task.execution['device_ms']:.0f} ms" if task.execution.get("device_ms") else None),
    ]
    return facts(given)
