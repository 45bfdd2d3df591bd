"""Prints tasks, models, workers and queues as tables on a terminal, or as JSON lines."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar, Unpack

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.cli.advice import advised
from penstock.cli.progress_bars import ProgressBars
from penstock.cli.terminal import (
    add_pairs,
    clock,
    console,
    filled_table,
    ids,
    pairs,
    plain,
    plain_lines,
    say,
    seconds,
    short,
    shown_ids,
    state,
    table,
    whole,
)
from penstock.client import AsyncClient, Filter, PenstockApiError, Queue, ResultFile, Task, Worker

T = TypeVar("T")

MOST_VERSIONS = 12
"""Versions of the repository that a row of the list of workers names."""

USUAL = "normal"
"""The priority of most tasks, which need not be shown."""

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
    shown: list[Task] = []
    async with aclosing(client.list(**which)) as tasks:
        async for task in tasks:
            if as_json:
                say(task)
            shown.append(task)
            if len(shown) == limit:
                break
    if not as_json:
        out = console()
        out.print(tasks_table(shown, out) if shown else "[dim]no tasks[/dim]")


def tasks_table(tasks: Sequence[Task], out: Console) -> Table:
    """Returns a row for each task. What is the same for all and says nothing, such as a normal priority, has no
    column."""
    return filled_table(
        (whole("task"), [plain(one) for one in shown_ids([task.task_id for task in tasks], out)]),
        (whole("status"), [state(task.status) for task in tasks]),
        ("stage", [plain(_progress(task) or ("" if task.is_final else task.stage)) for task in tasks]),
        (ids("model"), [plain(task.model) for task in tasks]),
        ("priority", [plain("" if task.priority == USUAL else task.priority) for task in tasks]),
        (whole("created"), [plain(clock(task.created_at)) for task in tasks]),
        (whole("took"), [plain(_took(task)) for task in tasks]),
        (ids("error"), [plain(task.error.code if task.error else "", "red") for task in tasks]),
    )


def _took(task: Task) -> str:
    took_ms = task.timing.get("total_ms")
    return "" if took_ms is None else seconds(took_ms / 1000)


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


async def each_task(
    act: Callable[[str], Awaitable[Task | None]], task_ids: Iterable[str], *, done: str, as_json: bool
) -> int:
    """Calls `act` for each task, also after one has failed, and returns the exit status. `done` is what became of a
    task of which nothing is left to show."""
    return await each(act, task_ids, "task_id", lambda task: task.status if task else done, as_json=as_json)


async def each_worker(act: Callable[[str], Awaitable[Worker]], worker_ids: Iterable[str], *, as_json: bool) -> int:
    """Calls `act` for each worker, also after one has failed, and returns the exit status."""
    return await each(act, worker_ids, "id", lambda worker: f"{worker.state}, runs {worker.running}", as_json=as_json)


def _say_refusal(one: str, key: str, error: PenstockApiError | click.ClickException, *, as_json: bool) -> None:
    if as_json and isinstance(error, PenstockApiError):
        say({key: one, "error": error.code, "detail": error.detail})
    elif as_json:
        say({key: one, "error": "no_such_id", "detail": str(error)})
    else:
        told = advised(error) if isinstance(error, PenstockApiError) else error
        click.echo(f"{one}  {told}", err=True)


async def each(
    act: Callable[[str], Awaitable[T]], ids: Iterable[str], key: str, line: Callable[[T], str], *, as_json: bool
) -> int:
    """Calls `act` for each id, also after one has failed, prints a line for each, and returns the exit status."""
    failed = 0
    for one in ids:
        try:
            answer = await act(one)
        except (PenstockApiError, click.ClickException) as error:
            failed = 1
            _say_refusal(one, key, error, as_json=as_json)
        else:
            is_shown = answer is not None
            say(answer if is_shown else {key: one, "done": True}) if as_json else click.echo(
                f"{getattr(answer, key, one)}  {line(answer)}"
            )
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


def _progress(task: Task) -> str:
    done = task.progress
    return f"{done.done}/{done.total} {done.unit}" if done and not task.is_final else ""
