"""`penstock submit`: submits files and fetches the results; a second run continues where the first was stopped."""

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
from msgspec.structs import replace

from penstock.cli.input_members import member_for_files, parse_inputs
from penstock.cli.progress_bars import ProgressBars
from penstock.cli.sources import IMAGES, SourceFile, alone, files_of, request_id
from penstock.cli.terminal import console, failures_of, plain, readable
from penstock.client import AsyncClient, Model, Output, PenstockApiError, Shared, Submitted, Task, failure_of
from penstock.client.bounded import as_they_end
from penstock.client.model_views import Member
from penstock.client.views import LIVE, Failure
from penstock.errors import ConfigurationError

PATIENCE_S = 600.0
"""How long the server may be unreachable or full before a file counts as failed."""

GONE = "result_expired"

SAID_OF_ALL = Shared.__annotations__.keys()

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors after which no other file can be written either."""


class SubmitOptions(Struct, frozen=True, kw_only=True):
    """The options of the command line."""

    paths: Sequence[Path]
    inputs: tuple[str, ...]
    output: Path
    model: str
    params: dict[str, Any]
    priority: Literal["high", "normal", "low"]
    written: Output
    concurrency: int
    overwrite: bool
    as_json: bool


class FileOutcome(Struct, frozen=True, kw_only=True):
    """How a file ended, and a line of `--json`. `source_bytes` and `target_bytes` are base64 of names that are not
    UTF-8; `targets` are there if the result has several files, the first of which is the `target`, `data` if it has
    data beside them, and `notes` if something was done to the image that one should know."""

    source: str
    target: str
    status: Literal["done", "skipped", "failed"]
    source_bytes: str | UnsetType = UNSET
    target_bytes: str | UnsetType = UNSET
    targets: tuple[str, ...] | UnsetType = UNSET
    task_id: str | None = None
    reuse: str | None = None
    data: dict[str, Any] | UnsetType = UNSET
    notes: tuple[str, ...] | UnsetType = UNSET
    error: Failure | None = None


class HopelessError(Exception):
    """Raised for an error that every other file would meet too: a full disk, a revoked key, a wrong param."""

    def __init__(self, end: FileOutcome) -> None:
        super().__init__(end)
        self.end = end


class ProgressListener(Protocol):
    """Hears how the tasks proceed."""

    def saw(self, source: Path, task: Task) -> None:
        """Is called when a task has changed."""

    def ended(self, source: Path) -> None:
        """Is called once for each file, when it is done."""


async def submit(client: AsyncClient, options: SubmitOptions, model: Model) -> int:
    """Submits all files without a result, fetches the results, and returns the exit status. Raises as `files_for`
    does."""
    files = await asyncio.to_thread(files_for, model, options)
    skipped = [file for file in files if file.is_done and not options.overwrite]
    left = [file for file in files if options.overwrite or not file.is_done]
    out = console(stderr=options.as_json)
    ends = [_ended(file, "skipped") for file in skipped]
    for end in ends if options.as_json else ():
        _say(end)
    with ProgressBars(out, total=len(left), skipped=len(skipped), output=options.output) as bars:
        async for end in _all(client, model, options, left, bars):
            ends.append(end)
            if options.as_json:
                _say(end)
            elif not out.is_terminal:
                click.echo(plain(f"{end.status}  {end.source} → {end.target}").plain)
    failed = [(end.source, end.error, end.task_id) for end in ends if end.error is not None]
    out.print(bars.summary(done=len(ends) - len(skipped) - len(failed), failed=len(failed)))
    if failed:
        out.print(failures_of(failed))
    if len(ends) < len(files):
        out.print("stopped: the other files would fail as this one did; their tasks at the server go on")
    return 1 if failed else 0


def files_for(model: Model, options: SubmitOptions) -> list[SourceFile]:
    """Lists the tasks of the command: one for each file of its paths, or one of its inputs alone.

    Raises ConfigurationError if there is no file, and click.BadParameter for inputs that the model does not take.
    """
    members = model.inputs or {"image": Member()}
    kinds = {name: member.kind for name, member in members.items()}
    inputs = parse_inputs(options.inputs, kinds)
    form = options.written.get("format", "png")
    suffix = {"image": None if form == "source" else form, "data": "json"}.get(model.produces)
    if not options.paths:
        return [alone(inputs, options.output, suffix, name=options.model)]
    required = [name for name, member in members.items() if member.required]
    name = member_for_files(kinds, required, inputs)
    types = IMAGES if members[name].kind == "image" else members[name].media_types
    files = files_of(options.paths, options.output, suffix, media_types=types)
    if not files:
        raise ConfigurationError(f"there are no {_named(types)}")
    if not inputs and members[name].kind == "image":
        return files
    return [replace(file, inputs={name: file.source, **inputs}) for file in files]


def _named(types: Sequence[str]) -> str:
    if types == IMAGES:
        return "image files"
    return f"files of {' or '.join(types)}" if types else "files"


async def _all(
    client: AsyncClient, model: Model, options: SubmitOptions, files: Iterable[SourceFile], listener: ProgressListener
) -> AsyncGenerator[FileOutcome, None]:
    """Yields how each file ended; ends early, with the cause, if every other file would fail too."""
    said: Shared = {"params": options.params, "output": options.written, "priority": options.priority}
    digest = next((one.digest for one in model.versions if one.version == model.version), model.version)

    async def one(file: SourceFile) -> FileOutcome:
        try:
            return await _FileRun(client, options.model, digest, said, file, listener).end()
        finally:
            listener.ended(file.source)

    try:
        async for end in as_they_end(one, files, limit=options.concurrency):
            yield end
    except HopelessError as hopeless:
        yield hopeless.end


class _FileRun:
    """Submits one file and fetches its result. The request id depends on the bytes of the file, on the digest of the
    model and on the options, so that the task of an earlier run is found, but not that of another version."""

    def __init__(
        self, client: AsyncClient, model: str, digest: str, said: Shared, file: SourceFile, listener: ProgressListener
    ) -> None:
        self._client, self._model, self._digest, self._said = client, model, digest, said
        self._file, self._listener = file, listener
        self._task_id: str | None = None
        self._targets: Sequence[Path] = ()

    async def end(self) -> FileOutcome:
        """Returns how the file ended. Raises HopelessError if all others will fail in the same way."""
        try:
            task = await self._done()
        except PenstockApiError as error:
            why = Failure(code=error.code, message=error.detail, retryable=error.retryable)
            return self._failed(why, hopeless=_fails_all(error, self._file))
        except OSError as error:
            place = readable(Path(os.fsdecode(error.filename or self._file.source)))
            why = Failure(code="file_error", message=f"{place}: {error.strerror or error}", retryable=False)
            return self._failed(why, hopeless=error.errno in NO_ROOM)
        names = tuple(map(readable, self._targets)) if len(self._targets) > 1 else UNSET
        result = task.result
        notes = result.notes if result and result.notes else UNSET
        data = result.data if result and result.data and result.files else UNSET
        return _ended(
            self._file, "done", targets=names, task_id=self._task_id, reuse=task.reuse, data=data, notes=notes
        )

    async def _done(self) -> Task:
        """Returns the task when its result is fetched. A task that was deleted, or whose result was, still holds its
        request id: the file is submitted again under the next id, without reuse, so that it gets no lost result
        again."""
        asked = {"model": self._model, "digest": self._digest, **self._said}
        name = await asyncio.to_thread(request_id, self._file.sent, asked)
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
        """Submits the file, or finds the task of an earlier run and retries it if it has no result."""
        sent, model = self._file.sent, self._model
        if generation:
            again: Shared = {**self._said, "reuse": False}
            submitted = await self._client.submit(sent, model, client_request_id=f"{name}-{generation}", **again)
        else:
            submitted = await self._client.submit(sent, model, client_request_id=name, **self._said)
        self._task_id = submitted.task_id
        if submitted.replayed and submitted.status not in (*LIVE, "SUCCESS"):
            await self._client.retry(submitted.task_id)
        return submitted

    async def _fetched(self, task_id: str) -> Task:
        async for task in self._client.watch(task_id):
            self._listener.saw(self._file.source, task)
        if refused := failure_of(task):
            raise refused
        await asyncio.to_thread(self._file.target.parent.mkdir, parents=True, exist_ok=True)
        await self._save(task)
        return task

    async def _save(self, task: Task) -> None:
        """Writes the result. Of several files the first lies where a result alone would, and appears last, so that a
        result that is there is whole; the others are `photo.mask.png` and so on."""
        result, directory, prefix = task.result, self._file.target.parent, f"{self._file.stem}."
        self._file = self._file.of_type(result.content_type if result else "")
        if result and len(result.files) > 1:
            first, *others = await self._client.download_all(task.task_id, directory, prefix=prefix)
            self._targets = [await asyncio.to_thread(first.replace, self._file.target), *others]
            return
        self._targets = [await self._client.download(task.task_id, self._file.target)]

    def _failed(self, why: Failure, *, hopeless: bool) -> FileOutcome:
        end = _ended(self._file, "failed", task_id=self._task_id, error=why)
        if hopeless:
            raise HopelessError(end)
        return end


def _fails_all(error: PenstockApiError, file: SourceFile) -> bool:
    """Whether the error is in the options or in the members of the input that all files share."""
    first, _, member = (error.param or "").partition(".")
    is_shared = first == "input" and member in (file.inputs or {}) and (file.inputs or {})[member] != file.source
    of_all = error.code == "invalid_request" and (is_shared or first in ("model", *SAID_OF_ALL))
    return of_all or error.code in ("unauthorized", "forbidden", "model_not_found")


def _ended(file: SourceFile, status: Literal["done", "skipped", "failed"], **more: Any) -> FileOutcome:
    return FileOutcome(
        source=readable(file.source),
        target=readable(file.target),
        source_bytes=_true_name(file.source),
        target_bytes=_true_name(file.target),
        status=status,
        **more,
    )


def _true_name(path: Path) -> str | UnsetType:
    """Returns the name in base64 if it is not UTF-8."""
    name = os.fsencode(path)
    return UNSET if name.decode("utf-8", "ignore").encode() == name else base64.b64encode(name).decode()


def _say(end: FileOutcome) -> None:
    click.echo(msgspec.json.encode(end))
