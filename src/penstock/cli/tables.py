"""Prints tasks, models, workers and queues as tables on a terminal, or as JSON lines."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar, Unpack

import click
import msgspec
from rich.table import Table
from rich.text import Text

from penstock.cli.progress_bars import ProgressBars
from penstock.cli.terminal import console, ids, plain, state, table
from penstock.client import AsyncClient, Filter, Model, PenstockApiError, Queue, Task, Worker

T = TypeVar("T")


async def watch(client: AsyncClient, task_id: str, *, as_json: bool) -> int:
    """Follows a task until it ends, and returns the exit status."""
    out = console(stderr=as_json)
    source = Path(task_id)
    with ProgressBars(out, total=1, skipped=0, output=Path()) as bars:
        async for task in client.watch(task_id):
            bars.saw(source, task)
            if as_json:
                _say(task)
            elif not out.is_terminal:
                click.echo(f"{task.status}  {task.stage}  {_progress(task)}".rstrip())
    if not as_json:
        show(task, as_json=False)
    return 0 if task.succeeded else 1


async def ls(client: AsyncClient, *, limit: int, as_json: bool, **which: Unpack[Filter]) -> None:
    """Lists the newest tasks that match, at most `limit`."""
    rows = table(ids("task"), "status", "stage", "model", "priority", "created", "took", "error")
    left = limit
    async with aclosing(client.list(**which)) as tasks:
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
    """Prints everything about a task."""
    if as_json:
        _say(task)
        return
    rows = _pairs()
    for name, value in msgspec.to_builtins(task).items():
        if name == "attempts":
            for attempt in task.attempts:
                why = f"  {attempt.error.code}: {attempt.error.message}" if attempt.error else ""
                rows.add_row(f"attempt {attempt.n}", plain(f"{attempt.outcome} on {attempt.worker}{why}"))
        elif name == "status":
            rows.add_row(name, state(value))
        else:
            _add_pairs(rows, name, value)
    console().print(rows)


def show_model(model: Model, *, as_json: bool) -> None:
    """Prints everything about a model."""
    if as_json:
        _say(model)
        return
    rows = _pairs()
    for name, value in msgspec.to_builtins(model).items():
        _add_pairs(rows, name, value)
    console().print(rows)


def _pairs() -> Table:
    rows = table("", "")
    rows.show_header = False
    return rows


def _add_pairs(rows: Table, name: str, value: Any) -> None:
    """Adds a row for the value, or one for each of its members."""
    members = (
        {f"{name}.{member}": inner for member, inner in value.items()} if isinstance(value, dict) else {name: value}
    )
    for member, inner in members.items():
        if inner is not None:
            rows.add_row(plain(member), plain(inner))


async def each_task(act: Callable[[str], Awaitable[Task]], task_ids: Iterable[str], *, as_json: bool) -> int:
    """Calls `act` for each task, also after one has failed, and returns the exit status."""
    return await _each(act, task_ids, "task_id", lambda task: task.status, as_json=as_json)


async def each_worker(act: Callable[[str], Awaitable[Worker]], worker_ids: Iterable[str], *, as_json: bool) -> int:
    """Calls `act` for each worker, also after one has failed, and returns the exit status."""
    return await _each(act, worker_ids, "id", lambda worker: f"{worker.state}, runs {worker.running}", as_json=as_json)


async def _each(
    act: Callable[[str], Awaitable[T]], ids: Iterable[str], key: str, line: Callable[[T], str], *, as_json: bool
) -> int:
    failed = 0
    for one in ids:
        try:
            answer = await act(one)
        except PenstockApiError as error:
            failed = 1
            _say({key: one, "error": error.code, "detail": error.detail}) if as_json else click.echo(
                f"{one}  {error}", err=True
            )
        else:
            _say(answer) if as_json else click.echo(f"{one}  {line(answer)}")
    return failed


def models(served: Iterable[Model], *, as_json: bool) -> None:
    """Prints the models and their params."""
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
    """Prints the workers, below each the tasks that it runs, and at the end why some are down."""
    rows = table(ids("worker"), "state", "device", "memory", "running", "models", "since")
    reasons: list[Text] = []
    for worker in known:
        if as_json:
            _say(worker)
        rows.add_row(
            plain(worker.id),
            state(worker.state),
            plain(worker.device),
            f"{worker.memory.process / 2**20:,.0f} MiB" if worker.memory else "",
            f"{worker.running}/{worker.slots}",
            plain(", ".join(worker.models)),
            _short(worker.started_at),
        )
        if worker.reason:
            reasons.append(plain(f"{worker.id}: {worker.reason}", "dim"))
        for task in worker.tasks:
            rows.add_row(
                plain(f"  {task.task_id}", "dim"), plain(task.stage, "dim"), *[""] * 3, plain(task.model, "dim")
            )
    if not as_json:
        console().print(rows if rows.row_count else "[dim]no workers[/dim]", *reasons, sep="\n")


def queues(known: Iterable[Queue], *, as_json: bool) -> None:
    """Prints how many tasks wait in each queue, and which queues are paused."""
    rows = table("model", "priority", "waiting", "oldest", "on the device", "state")
    for queue in known:
        if as_json:
            _say(queue)
        pause = queue.paused
        rows.add_row(
            plain(queue.model),
            plain(queue.priority),
            str(queue.depth),
            f"{queue.oldest_s:.1f} s" if queue.depth else "",
            f"{queue.device_s:.1f} s" if queue.depth and queue.device_s is not None else "",
            plain(f'paused by key "{pause.by}" since {_short(pause.since)}', "yellow") if pause else "",
        )
    if not as_json:
        console().print(rows)


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
    """Shortens an RFC 3339 time to the second; it stays in UTC."""
    return moment[:19].replace("T", " ")


def _members(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the properties of a JSON Schema in the form that msgspec writes: a reference to one of its
    definitions."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    properties = schema.get("$defs", {}).get(name, schema).get("properties", {})
    return dict(properties)


def _choices(member: dict[str, Any]) -> str:
    return "|".join(map(str, member.get("enum", [member.get("type", "any")])))


def _say(answer: Any) -> None:
    click.echo(msgspec.json.encode(answer))
