"""Tasks in a table."""

from collections.abc import Iterable, Iterator

import htpy as h

from penstock.api.console.answers import error_link
from penstock.api.console.page.panels import bar
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import badge, between, duration, number, when
from penstock.api.console.viewer import Viewer
from penstock.api.schemas.tasks import TaskView

SHORT_ID = 20
"""Characters of an id that a row shows: `tsk_`, its millisecond, and four random digits."""


def task_table(viewer: Viewer, tasks: Iterable[TaskView], *, empty: h.Node) -> h.Node:
    """Return a row for each task, with a box to choose it."""
    columns: list[Column | str] = ["", "Task", "Status", "Model", Column("Created", True), Column("Took", True), "Now"]
    return table(columns, _rows(viewer, tasks), caption="Tasks, newest first", empty=empty)


def model_of(task: TaskView) -> str:
    """Return the model of a task with its version, where it has several."""
    version = task.model_version
    return f"{task.model}@{version}" if version and version != "1" else task.model


def took(task: TaskView) -> float | None:
    """Return the seconds from the start of a task's work to its end."""
    return between(task.started_at, task.finished_at)


def _rows(viewer: Viewer, tasks: Iterable[TaskView]) -> Iterator[TableRow]:
    for task in tasks:
        link = viewer.page(f"/tasks/{task.task_id}")
        cells: list[h.Node] = [
            h.input(type="checkbox", name="chosen", value=task.task_id, aria_label=f"Choose {task.task_id}"),
            h.a(".id", href=link, title=task.task_id)[task.task_id[:SHORT_ID], "…"],
            badge(task.status),
            [model_of(task), h.small[" ", task.priority] if task.priority != "normal" else None],
            when(task.created_at),
            duration(took(task)),
            _now(viewer, task),
        ]
        yield TableRow(cells, link=link, id=f"row-{task.task_id}")


def _now(viewer: Viewer, task: TaskView) -> h.Node:
    """What a row says beyond the status of its task."""
    if task.error:
        return error_link(viewer, task.error.code)
    if task.progress and not task.finished_at:
        return bar(task.progress.ratio, f"{task.progress.done} of {task.progress.total} {task.progress.unit}")
    if task.queue_position is not None:
        return f"{number(task.queue_position)} ahead" if task.queue_position else "the next"
    return task.stage if task.status == "RUNNING" else (task.reuse if task.reuse != "miss" else "")
