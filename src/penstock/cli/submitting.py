"""`penstock submit`: files to tasks, tasks to results, and a second run that takes up where the first was stopped."""

import asyncio
import base64
import errno
import os
from collections.abc import AsyncGenerator, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

import click
import msgspec
from msgspec import UNSET, Struct, UnsetType

from penstock.cli.progress_bars import Board
from penstock.cli.sources import Job, jobs_of, request_id
from penstock.cli.terminal import console, failures_of, plain, readable
from penstock.client import AsyncClient, Output, PenstockApiError, Shared, Submitted, Task, failure_of
from penstock.client.bounded import as_they_end
from penstock.client.views import LIVE, Failure
from penstock.errors import ConfigurationError

PATIENCE_S = 600.0
"""How long a server may be away, or full, before a file counts as failed."""

GONE = "result_expired"

SAID_OF_ALL = Shared.__annotations__.keys()

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The output takes no file any more."""


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
    """What became of one file; the line of `--json`. A name that is no UTF-8 is there in base64 too."""

    source: str
    target: str
    status: Literal["done", "skipped", "failed"]
    source_bytes: str | UnsetType = UNSET
    target_bytes: str | UnsetType = UNSET
    task_id: str | None = None
    reuse: str | None = None
    error: Failure | None = None


class HopelessError(Exception):
    """A file failed as every other would: the disk is full, the key is revoked, a param is wrong."""

    def __init__(self, end: Ended) -> None:
        super().__init__(end)
        self.end = end


class Watcher(Protocol):
    """Who is told how the tasks do."""

    def saw(self, source: Path, task: Task) -> None:
        """A task as it is now."""

    def ended(self, source: Path) -> None:
        """Nothing more happens to this file."""


async def submit(client: AsyncClient, wish: Wish, *, produces: str) -> int:
    """Submit all files that have no result yet, and fetch the results; the exit status. `produces` is what the model
    gives: an image, data, or anything, which is named by the content type of each result."""
    suffixes = {"image": wish.written.get("format", "png"), "data": "json"}
    jobs = await asyncio.to_thread(jobs_of, wish.paths, wish.output, suffixes.get(produces))
    if not jobs:
        raise ConfigurationError("no PNG, JPEG or WebP files there")
    skipped = [job for job in jobs if job.is_done and not wish.overwrite]
    left = [job for job in jobs if wish.overwrite or not job.is_done]
    out = console(stderr=wish.as_json)
    ends = [_ended(job, "skipped") for job in skipped]
    for end in ends if wish.as_json else ():
        _say(end)
    with Board(out, total=len(left), skipped=len(skipped), output=wish.output) as board:
        async for end in _all(client, wish, left, board):
            ends.append(end)
            if wish.as_json:
                _say(end)
            elif not out.is_terminal:
                click.echo(plain(f"{end.status}  {end.source} → {end.target}").plain)
    failed = [(end.source, end.error, end.task_id) for end in ends if end.error is not None]
    out.print(board.summary(done=len(ends) - len(skipped) - len(failed), failed=len(failed)))
    if failed:
        out.print(failures_of(failed))
    if len(ends) < len(jobs):
        out.print("stopped: the other files would fail as this one did; what they have at the server goes on")
    return 1 if failed else 0


async def _all(client: AsyncClient, wish: Wish, jobs: Iterable[Job], watcher: Watcher) -> AsyncGenerator[Ended, None]:
    """Ends early, with what ended it, when no other file can pass."""
    said: Shared = {"params": wish.params, "output": wish.written, "priority": wish.priority}

    async def one(job: Job) -> Ended:
        try:
            return await _Run(client, wish.model, said, job, watcher).end()
        finally:
            watcher.ended(job.source)

    try:
        async for end in as_they_end(one, jobs, limit=wish.concurrency):
            yield end
    except HopelessError as hopeless:
        yield hopeless.end


class _Run:
    """One file on its way. Its task is named by its bytes and by what was asked for, so that the one of an earlier run
    is taken up."""

    def __init__(self, client: AsyncClient, model: str, said: Shared, job: Job, watcher: Watcher) -> None:
        self._client, self._model, self._said = client, model, said
        self._job, self._watcher = job, watcher
        self._task_id: str | None = None

    async def end(self) -> Ended:
        """What became of it. Raises HopelessError when the same will become of all others."""
        try:
            task = await self._done()
        except PenstockApiError as error:
            why = Failure(code=error.code, message=error.detail, retryable=error.retryable)
            return self._failed(why, hopeless=_fails_all(error))
        except OSError as error:
            place = readable(Path(os.fsdecode(error.filename or self._job.source)))
            why = Failure(code="file_error", message=f"{place}: {error.strerror or error}", retryable=False)
            return self._failed(why, hopeless=error.errno in NO_ROOM)
        return _ended(self._job, "done", task_id=self._task_id, reuse=task.reuse)

    async def _done(self) -> Task:
        """The task, when its result is there. A task that was deleted, or whose result was, has a name that is taken:
        the file is run again under the next one, and not to be given a lost result once more."""
        name = await asyncio.to_thread(request_id, self._job.source, {"model": self._model, **self._said})
        for generation in count():
            try:
                submitted = await self._submitted(name, generation)
            except PenstockApiError as error:
                if error.code != GONE:
                    raise
                continue
            try:
                return await self._fetched(submitted.task_id)
            except PenstockApiError as error:
                if error.code != GONE or (generation and not submitted.replayed):
                    raise
        raise AssertionError("unreachable")

    async def _submitted(self, name: str, generation: int) -> Submitted:
        """A new task, or the one of an earlier run, which is run again if it has no result."""
        source, model = self._job.source, self._model
        if generation:
            again: Shared = {**self._said, "reuse": False}
            submitted = await self._client.submit(source, model, client_request_id=f"{name}-{generation}", **again)
        else:
            submitted = await self._client.submit(source, model, client_request_id=name, **self._said)
        self._task_id = submitted.task_id
        if submitted.replayed and submitted.status not in (*LIVE, "SUCCESS"):
            await self._client.retry(submitted.task_id)
        return submitted

    async def _fetched(self, task_id: str) -> Task:
        async for task in self._client.watch(task_id):
            self._watcher.saw(self._job.source, task)
        if refused := failure_of(task):
            raise refused
        self._job = self._job.of_type(task.result.content_type if task.result else "")
        await asyncio.to_thread(self._job.target.parent.mkdir, parents=True, exist_ok=True)
        await self._client.download(task_id, self._job.target)
        return task

    def _failed(self, why: Failure, *, hopeless: bool) -> Ended:
        end = _ended(self._job, "failed", task_id=self._task_id, error=why)
        if hopeless:
            raise HopelessError(end)
        return end


def _fails_all(error: PenstockApiError) -> bool:
    """The fault is in what is said of every file, and not in this one."""
    of_all = error.code == "invalid_request" and (error.param or "").partition(".")[0] in ("model", *SAID_OF_ALL)
    return of_all or error.code in ("unauthorized", "model_not_found")


def _ended(job: Job, status: Literal["done", "skipped", "failed"], **more: Any) -> Ended:
    return Ended(
        source=readable(job.source),
        target=readable(job.target),
        source_bytes=_true_name(job.source),
        target_bytes=_true_name(job.target),
        status=status,
        **more,
    )


def _true_name(path: Path) -> str | UnsetType:
    """In base64, where the name cannot be text."""
    name = os.fsencode(path)
    return UNSET if name.decode("utf-8", "ignore").encode() == name else base64.b64encode(name).decode()


def _say(end: Ended) -> None:
    click.echo(msgspec.json.encode(end))
