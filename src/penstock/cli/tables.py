"""Prints tasks, models, workers and queues as tables on a terminal, or as JSON lines."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar, Unpack

import click
import msgspec
from rich.table import Table
from rich.text import Text

from penstock.cli.progress_bars import ProgressBars
from penstock.cli.terminal import add_pairs, console, ids, pairs, plain, plain_lines, say, short, state, table
from penstock.client import AsyncClient, Filter, PenstockApiError, Queue, ResultFile, Task, Worker

T = TypeVar("T")

MOST_VERSIONS = 12
"""Versions of the repository that a row of the list of workers names."""

MODEL_ERROR = "model_error"
"""The code of a failure that has a traceback in the task's log."""


async def watch(client: AsyncClient, task_id: str, *, as_json: bool) -> int:
    """Follows a task until it ends, and returns the exit status."""
    out = console(stderr=as_json)
    source = Path(task_id)
    with ProgressBars(out, total=1, skipped=0, output=Path()) as bars:
        async for task in client.watch(task_id):
            bars.saw(source, task)
            if as_json:
                say(task)
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
                say(task)
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
        say(task)
        return
    rows, members = pairs(), msgspec.to_builtins(task)
    (members["result"] or {}).pop("files", None)  # each has a row of its own
    for name, value in members.items():
        if name == "attempts":
            for attempt in task.attempts:
                why = f"  {attempt.error.code}: {attempt.error.message}" if attempt.error else ""
                rows.add_row(f"attempt {attempt.n}", plain(f"{attempt.outcome} on {attempt.worker}{why}"))
        elif name == "status":
            rows.add_row(name, state(value))
        else:
            add_pairs(rows, name, value)
    for file in task.result.files if task.result else ():
        rows.add_row(plain(f"file {file.name}"), plain(_facts(file)))
    if task.error and task.error.code == MODEL_ERROR:
        rows.add_row("traceback", plain(f"penstock logs {task.task_id}"))
    console().print(rows)


def _facts(file: ResultFile) -> str:
    size_px = f"{file.width} × {file.height} px, " if file.width else ""
    return f"{file.content_type}, {size_px}{file.size:,} bytes"


def print_log(log: str) -> None:
    """Prints the log of a task as it is, without characters that act on a terminal."""
    click.echo(plain_lines(log).rstrip("\n") if log else "nothing was logged", err=not log)


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
            say({key: one, "error": error.code, "detail": error.detail}) if as_json else click.echo(
                f"{one}  {error}", err=True
            )
        else:
            say(answer) if as_json else click.echo(f"{one}  {line(answer)}")
    return failed


def workers(known: Iterable[Worker], *, as_json: bool) -> None:
    """Prints the workers, below each the tasks that it runs, and at the end why some are down."""
    rows = table(ids("worker"), "state", "device", "memory", "running", "models", "since")
    reasons: list[Text] = []
    for worker in known:
        if as_json:
            say(worker)
        rows.add_row(
            plain(worker.id),
            state(worker.state),
            plain(worker.device),
            f"{worker.memory.process / 2**20:,.0f} MiB" if worker.memory else "",
            f"{worker.running}/{worker.slots}",
            plain(_served(worker.models)),
            short(worker.started_at),
        )
        if worker.reason:
            reasons.append(plain(f"{worker.id}: {worker.reason}", "dim"))
        for task in worker.tasks:
            rows.add_row(
                plain(f"  {task.task_id}", "dim"), plain(task.stage, "dim"), *[""] * 3, plain(task.model, "dim")
            )
    if not as_json:
        console().print(rows if rows.row_count else "[dim]no workers[/dim]", *reasons, sep="\n")


def _served(models: Sequence[str]) -> str:
    """Returns the names of models; of more versions of the repository than a cell can show, how many there are."""
    versions = [model for model in models if "@" in model]
    if len(versions) <= MOST_VERSIONS:
        return ", ".join(models)
    return ", ".join([*(model for model in models if "@" not in model), f"{len(versions)} versions"])


def queues(known: Iterable[Queue], *, as_json: bool) -> None:
    """Prints how many tasks wait in each queue, and which queues are paused."""
    rows = table("model", "priority", "waiting", "oldest", "on the device", "state")
    for queue in known:
        if as_json:
            say(queue)
        pause = queue.paused
        rows.add_row(
            plain(queue.model),
            plain(queue.priority),
            str(queue.depth),
            f"{queue.oldest_s:.1f} s" if queue.depth else "",
            f"{queue.device_s:.1f} s" if queue.depth and queue.device_s is not None else "",
            plain(f'paused by key "{pause.by}" since {short(pause.since)}', "yellow") if pause else "",
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
        short(task.created_at),
        f"{took_ms / 1000:.1f} s" if took_ms is not None else "",
        plain(task.error.code if task.error else "", "red"),
    )


def _progress(task: Task) -> str:
    done = task.progress
    return f"{done.done}/{done.total} {done.unit}" if done and not task.is_final else ""
