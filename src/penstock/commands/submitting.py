"""`penstock submit`: files to tasks, tasks to results, and a second run that takes up where the first was stopped."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

import click
import msgspec
from msgspec import Struct

from penstock.client import AsyncClient, Output, PenstockApiError, Shared, Submitted, Task, failure_of
from penstock.client.bounded import as_they_end
from penstock.client.views import LIVE, Failure
from penstock.commands.board import Board
from penstock.commands.folder import Job, jobs_of, request_id
from penstock.commands.terminal import console, failures_of
from penstock.errors import ConfigurationError

PATIENCE_S = 600.0
"""How long a server may be away, or full, before a file counts as failed."""


class Wish(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    paths: Sequence[Path]
    output: Path
    model: str
    params: dict[str, Any]
    priority: Literal["high", "normal", "low"]
    written: Output
    concurrency: int
    overwrite: bool
    as_json: bool


class Ended(Struct, frozen=True, kw_only=True):
    """What became of one file; the line of `--json`."""

    source: str
    target: str
    status: Literal["done", "skipped", "failed"]
    task_id: str | None = None
    reuse: str | None = None
    error: Failure | None = None


class Watcher(Protocol):
    """Who is told how the tasks do."""

    def saw(self, source: Path, task: Task) -> None:
        """A task as it is now."""

    def ended(self, source: Path) -> None:
        """Nothing more happens to this file."""


async def submit(client: AsyncClient, wish: Wish, *, produces: str) -> int:
    """Submit all files that have no result yet, and fetch the results; the exit status. `produces` is what the model
    gives: an image, or data."""
    suffix = wish.written.get("format", "png") if produces == "image" else "json"
    jobs = await asyncio.to_thread(jobs_of, wish.paths, wish.output, suffix)
    if not jobs:
        raise ConfigurationError("no PNG, JPEG or WebP files there")
    skipped = [job for job in jobs if job.is_done and not wish.overwrite]
    left = [job for job in jobs if wish.overwrite or not job.is_done]
    out = console(stderr=wish.as_json)
    ends = [_skipped(job) for job in skipped]
    for end in ends if wish.as_json else ():
        _say(end)
    with Board(out, total=len(left), skipped=len(skipped), output=wish.output) as board:
        async for end in _all(client, wish, left, board):
            ends.append(end)
            if wish.as_json:
                _say(end)
            elif not out.is_terminal:
                click.echo(f"{end.status}  {end.source} → {end.target}")
    failed = [(end.source, end.error, end.task_id) for end in ends if end.error is not None]
    out.print(board.summary(failed=len(failed)))
    if failed:
        out.print(failures_of(failed))
    return 1 if failed else 0


async def _all(client: AsyncClient, wish: Wish, jobs: Iterable[Job], watcher: Watcher) -> AsyncGenerator[Ended, None]:
    said: Shared = {"params": wish.params, "output": wish.written, "priority": wish.priority}

    async def one(job: Job) -> Ended:
        try:
            return await _one(client, wish.model, said, job, watcher)
        finally:
            watcher.ended(job.source)

    async for end in as_they_end(one, jobs, limit=wish.concurrency):
        yield end


async def _one(client: AsyncClient, model: str, said: Shared, job: Job, watcher: Watcher) -> Ended:
    task_id: str | None = None
    try:
        task_id = (await _submitted(client, model, said, job.source)).task_id
        async for task in client.watch(task_id):
            watcher.saw(job.source, task)
        if refused := failure_of(task):
            raise refused
        await asyncio.to_thread(job.target.parent.mkdir, parents=True, exist_ok=True)
        await client.download(task_id, job.target)
    except PenstockApiError as error:
        return _failed(job, task_id, Failure(code=error.code, message=error.detail, retryable=error.retryable))
    except OSError as error:
        why = f"{error.filename or job.source}: {error.strerror or error}"
        return _failed(job, task_id, Failure(code="file_error", message=why, retryable=False))
    return Ended(source=str(job.source), target=str(job.target), status="done", task_id=task_id, reuse=task.reuse)


async def _submitted(client: AsyncClient, model: str, said: Shared, source: Path) -> Submitted:
    """A new task, or the one of an earlier run of this command, which is run again if it has no result."""
    name = await asyncio.to_thread(request_id, source, {"model": model, **said})
    for generation in count():
        known_as = f"{name}-{generation}" if generation else name
        try:
            submitted = await client.submit(source, model, client_request_id=known_as, **said)
        except PenstockApiError as error:
            if error.code != "result_expired":
                raise
            continue  # the earlier one has been deleted with its result, and its name is still taken
        if submitted.replayed and submitted.status not in (*LIVE, "SUCCESS"):
            await client.retry(submitted.task_id)
        return submitted
    raise AssertionError("unreachable")


def _skipped(job: Job) -> Ended:
    return Ended(source=str(job.source), target=str(job.target), status="skipped")


def _failed(job: Job, task_id: str | None, why: Failure) -> Ended:
    return Ended(source=str(job.source), target=str(job.target), status="failed", task_id=task_id, error=why)


def _say(end: Ended) -> None:
    click.echo(msgspec.json.encode(end))
