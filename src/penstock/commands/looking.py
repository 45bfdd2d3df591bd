"""Tasks, models and workers on a terminal, or as JSON lines."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from penstock.client import AsyncClient, Model, PenstockApiError, Task, Worker
from penstock.commands.board import Board
from penstock.commands.terminal import console, plain, state, table


async def watch(client: AsyncClient, task_id: str, *, as_json: bool) -> int:
    """Follow a task to its end; the exit status."""
    out = console(stderr=as_json)
    source = Path(task_id)
    with Board(out, total=1, skipped=0, output=Path()) as board:
        async for task in client.watch(task_id):
            board.saw(source, task)
            if as_json:
                _say(task)
            elif not out.is_terminal:
                click.echo(f"{task.status}  {task.stage}  {_progress(task)}".rstrip())
    if not as_json:
        show(task, as_json=False)
    return 0 if task.succeeded else 1


async def ls(
    client: AsyncClient, *, status: Sequence[str], model: str | None, priority: str | None, limit: int, as_json: bool
) -> None:
    """The newest tasks that match."""
    rows = table("task", "status", "stage", "model", "priority", "created", "took", "error")
    left = limit
    async with aclosing(client.list(status=status, model=model, priority=priority)) as tasks:
        async for task in tasks:
            if as_json:
                _say(task)
            else:
                _add(rows, task)
            left -= 1
            if not left:
                break
    if not as_json:
        console().print(rows if rows.row_count else "[dim]no tasks[/dim]")


def show(task: Task, *, as_json: bool) -> None:
    """All that is known of a task."""
    if as_json:
        _say(task)
        return
    rows = table("", "")
    rows.show_header = False
    for name, value in msgspec.to_builtins(task).items():
        if name == "attempts":
            for attempt in task.attempts:
                why = f"  {attempt.error.code}: {attempt.error.message}" if attempt.error else ""
                rows.add_row(f"attempt {attempt.n}", plain(f"{attempt.outcome} on {attempt.worker}{why}"))
        elif isinstance(value, dict):
            for member, inner in value.items():
                if inner is not None:
                    rows.add_row(plain(f"{name}.{member}"), plain(inner))
        elif value is not None:
            rows.add_row(plain(name), state(value) if name == "status" else plain(value))
    console().print(rows)


async def each(act: Callable[[str], Awaitable[Task]], task_ids: Iterable[str], *, as_json: bool) -> int:
    """Do it to each task, whatever becomes of the others; the exit status."""
    failed = 0
    for task_id in task_ids:
        try:
            task = await act(task_id)
        except PenstockApiError as error:
            failed = 1
            _say({"task_id": task_id, "error": error.code, "detail": error.detail}) if as_json else click.echo(
                f"{task_id}  {error}", err=True
            )
        else:
            _say(task) if as_json else click.echo(f"{task.task_id}  {task.status}")
    return failed


def models(served: Iterable[Model], *, as_json: bool) -> None:
    """The catalogue."""
    rows = table("model", "version", "gives", "params", "title", "licence")
    for model in served:
        if as_json:
            _say(model)
        params = ", ".join(f"{name}={_choices(member)}" for name, member in _members(model.params).items())
        cells = (model.name, model.version, model.produces, params, model.title, model.licence)
        rows.add_row(*map(plain, cells))
    if not as_json:
        console().print(rows)


def workers(known: Iterable[Worker], *, as_json: bool) -> None:
    """Who works."""
    rows = table("worker", "state", "device", "running", "models", "since")
    for worker in known:
        if as_json:
            _say(worker)
        running = f"{worker.running}/{worker.slots}"
        names = ", ".join(worker.models)
        rows.add_row(
            plain(worker.id),
            state(worker.state),
            plain(worker.device),
            running,
            plain(names),
            _short(worker.started_at),
        )
    if not as_json:
        console().print(rows if rows.row_count else "[dim]no workers[/dim]")


def _add(rows: Table, task: Task) -> None:
    took_ms = task.timing.get("total_ms")
    rows.add_row(
        plain(task.task_id),
        state(task.status),
        plain(_progress(task) or task.stage),
        plain(task.model),
        plain(task.priority),
        _short(task.created_at),
        f"{took_ms / 1000:.1f} s" if took_ms is not None else "",
        plain(task.error.code if task.error else "", "red"),
    )


def _progress(task: Task) -> str:
    done = task.progress
    return f"{done.done}/{done.total} {done.unit}" if done and not task.is_final else ""


def _short(moment: str) -> str:
    """RFC 3339 to the second, without its T; still UTC."""
    return moment[:19].replace("T", " ")


def _members(schema: dict[str, Any]) -> dict[str, Any]:
    """The properties of a JSON Schema as msgspec writes it: a reference to one of its definitions."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    properties = schema.get("$defs", {}).get(name, schema).get("properties", {})
    return dict(properties)


def _choices(member: dict[str, Any]) -> str:
    return "|".join(map(str, member.get("enum", [member.get("type", "any")])))


def _say(answer: Any) -> None:
    click.echo(msgspec.json.encode(answer))
