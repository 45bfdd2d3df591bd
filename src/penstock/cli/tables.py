"""Prints tasks, models, workers and queues as tables on a terminal, or as JSON lines."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar, Unpack

import click
import msgspec
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from penstock.cli.advice import advised
from penstock.cli.progress_bars import ProgressBars
from penstock.cli.terminal import (
    add_pairs,
    age,
    clock,
    console,
    filled_table,
    ids,
    pairs,
    plain,
    plain_lines,
    say,
    seconds,
    shown_ids,
    state,
    whole,
    without_spare,
)
from penstock.client import AsyncClient, Filter, PenstockApiError, Queue, ResultFile, Task, Worker

T = TypeVar("T")

MOST_VERSIONS = 12
"""Versions of the repository that a row of the list of workers names."""

SPARE = ("took", "priority", "stage")
"""Columns of the list of tasks that a narrow terminal goes without, in this order; `penstock show` has them all."""

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
    shown = await first_of(client.list(**which), limit=limit, as_json=as_json)
    if not as_json:
        out = console()
        out.print(tasks_table(shown, out) if shown else "[dim]no tasks[/dim]")


async def first_of(items: AsyncGenerator[T, None], *, limit: int, as_json: bool) -> list[T]:
    """Returns the first items, at most `limit`; with `as_json` each is printed as it comes."""
    found: list[T] = []
    async with aclosing(items):
        async for item in items:
            if as_json:
                say(item)
            found.append(item)
            if len(found) == limit:
                break
    return found


def tasks_table(tasks: Sequence[Task], out: Console) -> Table:
    """Returns a row for each task. What is the same for all and says nothing, such as a normal priority, has no
    column, and a terminal that has no room for all columns goes without those of SPARE."""
    columns: list[tuple[str | Column, Sequence[Text]]] = [
        (whole("task"), [plain(one) for one in shown_ids([task.task_id for task in tasks], out)]),
        (whole("status"), [state(task.status) for task in tasks]),
        ("stage", [plain(_progress(task) or ("" if task.is_final else task.stage)) for task in tasks]),
        (ids("model"), [plain(task.model) for task in tasks]),
        ("priority", [plain("" if task.priority == USUAL else task.priority) for task in tasks]),
        (whole("created"), [plain(clock(task.created_at)) for task in tasks]),
        (whole("took"), [plain(_took(task)) for task in tasks]),
        (ids("error"), [plain(task.error.code if task.error else "", "red") for task in tasks]),
    ]
    return filled_table(*without_spare(columns, SPARE, out))


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
    """Prints the workers, the tasks that they run, and why some are down."""
    listed = list(known)
    if as_json:
        for worker in listed:
            say(worker)
        return
    out = console()
    out.print(_workers(listed) if listed else "[dim]no workers[/dim]")
    for worker in listed:
        if worker.reason:
            out.print(plain(f"{worker.id}: {worker.reason}", "dim"))
    if any(worker.tasks for worker in listed):
        out.print("", _running(listed, out), sep="\n")


def _workers(listed: Sequence[Worker]) -> Table:
    return filled_table(
        (ids("worker"), [plain(worker.id) for worker in listed]),
        (whole("state"), [state(worker.state) for worker in listed]),
        (whole("device"), [plain(worker.device) for worker in listed]),
        (whole("memory"), [plain(memory(worker)) for worker in listed]),
        (whole("running"), [plain(f"{worker.running}/{worker.slots}") for worker in listed]),
        (ids("models"), [plain(_served(worker.models)) for worker in listed]),
        (whole("up"), [plain(age(worker.started_at)) for worker in listed]),
    )


def memory(worker: Worker) -> str:
    """Returns the memory of the process of a worker; empty while it is not known."""
    return f"{worker.memory.process / 2**20:,.0f} MiB" if worker.memory else ""


def _running(listed: Sequence[Worker], out: Console) -> Table:
    """Returns a row for each task that a worker runs; where there is one worker, it is not named again."""
    running = [(worker, task) for worker in listed for task in worker.tasks]
    where = ["" if len(listed) == 1 else worker.id for worker, _ in running]
    return filled_table(
        (whole("task"), [plain(one) for one in shown_ids([task.task_id for _, task in running], out)]),
        (ids("worker"), [plain(one) for one in where]),
        (whole("stage"), [plain(task.stage) for _, task in running]),
        (ids("model"), [plain(task.model) for _, task in running]),
        (whole("claimed"), [plain(clock(task.claimed_at)) for _, task in running]),
    )


def _served(models: Sequence[str]) -> str:
    """Returns the names of models; of more versions of the repository than a cell can show, how many there are."""
    versions = [model for model in models if "@" in model]
    if len(versions) <= MOST_VERSIONS:
        return ", ".join(models)
    return ", ".join([*(model for model in models if "@" not in model), f"{len(versions)} versions"])


def queues(known: Iterable[Queue], *, as_json: bool) -> None:
    """Prints how many tasks wait in each queue, and which queues are paused."""
    listed = list(known)
    if as_json:
        for queue in listed:
            say(queue)
        return
    rows = filled_table(
        (ids("model"), [plain(queue.model) for queue in listed]),
        (whole("priority"), [plain(queue.priority) for queue in listed]),
        (whole("waiting"), [plain(f"{queue.depth:,}") for queue in listed]),
        (whole("oldest"), [plain(seconds(queue.oldest_s) if queue.depth else "") for queue in listed]),
        (whole("device"), [plain(_device_time(queue)) for queue in listed]),
        ("state", [plain(_paused(queue), "yellow") for queue in listed]),
    )
    console().print(rows if listed else "[dim]no queues[/dim]")


def _device_time(queue: Queue) -> str:
    return seconds(queue.device_s) if queue.depth and queue.device_s is not None else ""


def _paused(queue: Queue) -> str:
    return f'paused by key "{queue.paused.by}" since {clock(queue.paused.since)}' if queue.paused else ""


def _progress(task: Task) -> str:
    done = task.progress
    return f"{done.done}/{done.total} {done.unit}" if done and not task.is_final else ""
