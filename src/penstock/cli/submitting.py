"""`penstock submit`: submits files and fetches the results; a second run continues where the first was stopped."""

import asyncio
import base64
import errno
import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

import click
import msgspec
from msgspec import UNSET, Struct, UnsetType

from penstock.cli.advice import advice_for_all
from penstock.cli.progress_bars import ProgressBars
from penstock.cli.run_plan import SubmitOptions, asked_of, counted, files_for, said_of_all, sorted_by_result, taken_by
from penstock.cli.run_records import RunRecord
from penstock.cli.sources import SourceFile, request_id
from penstock.cli.terminal import console, failures_of, plain, readable
from penstock.client import AsyncClient, Model, PenstockApiError, Shared, Submitted, Task, failure_of
from penstock.client.bounded import as_they_end
from penstock.client.problems import UNREACHABLE
from penstock.client.views import LIVE, Failure

PATIENCE_S = 600.0
"""How long the server may be unreachable or full before a file counts as failed."""

GONE = "result_expired"

SAID_OF_ALL = Shared.__annotations__.keys()

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors after which no other file can be written either."""

DENIED = (errno.EACCES, errno.EPERM)
"""Errors of one source, or of the output and then of all."""


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
    passed_over: Counter[str] = Counter()
    files = await asyncio.to_thread(files_for, model, options, passed_over)
    record = RunRecord(options.output, asked_of(model, options))
    skipped, left, anew = await asyncio.to_thread(sorted_by_result, files, record, overwrite=options.overwrite)
    out = console(stderr=options.as_json)
    ends = [_ended(file, "skipped") for file in skipped]
    for end in ends if options.as_json else ():
        _say(end)
    with ProgressBars(out, total=len(left), skipped=len(skipped), output=options.output) as bars:
        async for end in _all(client, record, options, left, bars):
            ends.append(end)
            if options.as_json:
                _say(end)
            elif not out.is_terminal:
                click.echo(plain(f"{end.status}  {end.source} → {end.target}").plain)
    failed = [(end.source, end.error, end.task_id) for end in ends if end.error is not None]
    out.print(bars.summary(done=len(ends) - len(skipped) - len(failed), failed=len(failed)))
    if anew:
        out.print(f"{anew} of them had a result of another request: of other options, another model or source")
    if passed_over:
        out.print(plain(f"passed over: {counted(passed_over)}", "yellow"))
        takes = taken_by(model, options)
        out.print(plain(f"{options.model} takes {takes}; a file that you name yourself is sent anyway", "dim"))
    if failed:
        out.print(failures_of(failed, out))
    if len(ends) < len(files):
        advice = advice_for_all(failed[-1][1].code, options.model) if failed else ""
        why = ["stopped: the other files would fail as this one did", "their tasks at the server go on", advice]
        out.print(plain("; ".join(filter(None, why))))
    return 1 if failed else 0


async def _all(
    client: AsyncClient,
    record: RunRecord,
    options: SubmitOptions,
    files: Iterable[SourceFile],
    listener: ProgressListener,
) -> AsyncGenerator[FileOutcome, None]:
    """Yields how each file ended; ends early, with the cause, if every other file would fail too."""

    async def one(file: SourceFile) -> FileOutcome:
        try:
            return await _FileRun(client, options, record, file, listener).end()
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
        self,
        client: AsyncClient,
        options: SubmitOptions,
        record: RunRecord,
        file: SourceFile,
        listener: ProgressListener,
    ) -> None:
        self._client, self._options, self._record = client, options, record
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
            return self._failed(why, hopeless=_ends_all(error, self._options.output))
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
        asked_for = self._file
        name = await asyncio.to_thread(request_id, self._file.sent, self._record.asked)
        for generation in count():
            try:
                submitted = await self._submitted(name, generation)
            except PenstockApiError as error:
                if error.code != GONE:
                    raise
                continue
            try:
                task = await self._fetched(submitted.task_id)
            except PenstockApiError as error:
                if error.code != GONE or (generation and not submitted.replayed):
                    raise
                continue
            await asyncio.to_thread(self._record.note, asked_for, self._file.target, name)
            return task
        raise AssertionError("unreachable")

    async def _submitted(self, name: str, generation: int) -> Submitted:
        """Submits the file, or finds the task of an earlier run and retries it if it has no result."""
        said = said_of_all(self._options)
        if generation:
            said, name = {**said, "reuse": False}, f"{name}-{generation}"
        submitted = await self._client.submit(self._file.sent, self._options.model, client_request_id=name, **said)
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
    is_away = error.retryable and (error.status != 0 or error.code == UNREACHABLE)  # for as long as one may wait
    return of_all or is_away or error.code in ("unauthorized", "forbidden", "model_not_found")


def _ends_all(error: OSError, output: Path) -> bool:
    """Whether no other result could be written either."""
    place = Path(os.fsdecode(error.filename or ""))
    return error.errno in NO_ROOM or (error.errno in DENIED and place.absolute().is_relative_to(output.absolute()))


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
