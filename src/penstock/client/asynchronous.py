"""The client for asyncio. Every method raises PenstockApiError if the server refuses the request or cannot be reached
within the patience of the client. A task goes on at the server if the call that waits for it is cancelled."""

import asyncio
import io
import math
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import IO, Self, Unpack

import msgspec
from msgspec.structs import replace

from penstock.client.administration import Administration
from penstock.client.bounded import as_they_end
from penstock.client.files import Contents, File, new_file, place_in
from penstock.client.filters import Filter, query_of
from penstock.client.inputs import Inputs, Source, large_files, source_of, with_uploads
from penstock.client.keys import KeyAdministration
from penstock.client.problems import Mapped, PenstockApiError, failure_of
from penstock.client.record_views import Quote
from penstock.client.records import JSONL, PAGE, Records
from penstock.client.requests import (
    BatchOptions,
    Options,
    Shared,
    batch_of,
    batch_options,
    batch_path,
    body_of,
    result_path,
    task_path,
)
from penstock.client.transport import NOT_MODIFIED, OnPause, Transport, decoded
from penstock.client.views import Acted, Batch, Hit, Line, Opened, Page, Submitted, Task, Upload

WAIT_S = 30
"""Seconds that one request waits for the end of a task; many proxies cut a connection that is silent for a minute."""

LOOK_EVERY_S = 0.25
"""Seconds between the reads of `watch`; while nothing changes, the answer is an empty 304."""


class AsyncClient(Records, Administration, KeyAdministration):
    """A client of one server with one API key; without arguments those of PENSTOCK_URL and PENSTOCK_API_KEY, else those
    of the `penstock up` in this directory.

    With `tenant` it reads and acts in another tenant, for which the key needs the scope `operate`; what nobody does for
    another, such as a submit, is refused then. With the `token` of a task instead of a key it reads that task.

    `patience_s` is how long a request is repeated while the server is unreachable, full or limits the rate, and how
    long the server may be silent (at least 2 s; in a file transfer, since the last byte). Submits are safe to repeat,
    since each has a `client_request_id`. `on_pause` is called before each repeat with the reason and the pause in
    seconds. After `close` every method raises RuntimeError."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        tenant: str | None = None,
        token: str | None = None,
        patience_s: float = 120.0,
        connections: int = 64,
        on_pause: OnPause | None = None,
    ) -> None:
        """Raises ConfigurationError if there is no key, or the URL is not valid."""
        self._transport = Transport(
            url, api_key, tenant=tenant, token=token, patience_s=patience_s, connections=connections, on_pause=on_pause
        )
        self.url = self._transport.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self._transport.close()

    async def submit(
        self, source: Source | None = None, model: str = "", *, inputs: Inputs | None = None, **options: Unpack[Options]
    ) -> Submitted:
        """Queues a task for one image, the `source`, or for the members of `inputs`. Files that are too big for the
        request are uploaded first. Raises OSError if a file cannot be read, and TypeError for an input that is none."""
        body = await self._written(source_of(source, inputs), model, options)
        answer = await self._transport.send("POST", "/v1/tasks", body=body)
        return replace(decoded(answer, Submitted), replayed="Idempotent-Replayed" in answer.headers)

    async def quote(
        self, source: Source | None = None, model: str = "", *, inputs: Inputs | None = None, **options: Unpack[Options]
    ) -> Quote:
        """Returns what a `submit` of the same would lead to, and queues nothing. Large files are uploaded. Raises as
        `submit` does."""
        body = await self._written(source_of(source, inputs), model, options)
        return await self._transport.ask("POST", "/v1/tasks/quote", Quote, body=body)

    async def upload(self, source: str | Contents) -> Upload:
        """Uploads a file, by its path or as bytes or as an open file, as an input of any number of tasks, without
        holding it in memory. Raises OSError if it cannot be read."""
        file = await asyncio.to_thread(File.of, source)
        asked = {"size": file.size, "sha256": file.sha256, "content_type": file.content_type}
        asked |= {"name": file.name} if file.name.isprintable() and file.name else {}
        opened = await self._transport.ask("POST", "/v1/uploads", Opened, body=msgspec.json.encode(asked))
        await self._transport.deliver(opened, file)
        return Upload(upload_id=opened.upload_id, size=file.size, sha256=file.sha256)

    async def get(self, task_id: str, *, wait_s: int = 0) -> Task:
        """Returns the task; with `wait_s` (300 at most), as soon as it has ended, or after that many seconds."""
        query = {"wait": wait_s or None}
        return await self._transport.ask("GET", task_path(task_id), Task, query=query, wait_s=wait_s)

    async def wait(self, task_id: str, *, timeout_s: float = math.inf) -> Task:
        """Waits until the task has ended, with or without a result. Raises TimeoutError after `timeout_s`."""
        clock = asyncio.get_running_loop().time
        until = clock() + timeout_s
        while True:
            left = max(0.0, until - clock())
            task = await self.get(task_id, wait_s=math.ceil(min(WAIT_S, left)))
            if task.is_final:
                return task
            if clock() >= until:
                raise TimeoutError(f"{task_id} has not ended within {timeout_s:g} s")

    async def watch(self, task_id: str, *, every_s: float = LOOK_EVERY_S) -> AsyncGenerator[Task, None]:
        """Yields the task now and after each change, until it has ended."""
        headers: dict[str, str] = {}
        while True:
            answer = await self._transport.send("GET", task_path(task_id), headers=headers)
            if answer.status_code != NOT_MODIFIED:
                task = decoded(answer, Task)
                yield task
                if task.is_final:
                    return
                headers = {"If-None-Match": answer.headers.get("ETag", "")}
            await asyncio.sleep(every_s)

    async def run(
        self, source: Source | None = None, model: str = "", *, inputs: Inputs | None = None, **options: Unpack[Options]
    ) -> Task:
        """Submits a task and waits for its end. Raises PenstockApiError also if it ends without a result."""
        task = await self.wait((await self.submit(source, model, inputs=inputs, **options)).task_id)
        if error := failure_of(task):
            raise error
        return task

    async def map(
        self,
        sources: Iterable[Source] | AsyncIterable[Source],
        model: str,
        *,
        concurrency: int = 16,
        **options: Unpack[Shared],
    ) -> AsyncGenerator[Mapped, None]:
        """Runs each source, `concurrency` at a time, and yields the outcomes in the order in which they end. Errors of
        a source are part of its outcome. Sources are taken when there is room, so that they may be endless; an iterable
        is read in a thread of its own, so that it may block. If it raises, the outcomes of earlier sources come
        first."""

        async def one(source: Source) -> Mapped:
            return await outcome_of(self, source, model, options)

        async with aclosing(as_they_end(one, sources, limit=concurrency)) as ended:
            async for mapped in ended:
                yield mapped

    async def list(self, **which: Unpack[Filter]) -> AsyncGenerator[Task, None]:
        """Yields all tasks that match, newest first, reading page by page."""
        async for page in self._transport.pages("/v1/tasks", Page, {**query_of(which), "limit": PAGE}):
            for task in page.data:
                yield task

    async def result(self, task_id: str, name: str | None = None) -> bytes:
        """Returns the bytes of the result, or its JSON if the model gives data; with a `name`, those of that file."""
        sink = io.BytesIO()
        await self._receive(task_id, name, sink)
        return sink.getvalue()

    async def download(self, task_id: str, path: str | Path, *, name: str | None = None) -> Path:
        """Writes the result, or its file of this `name`, to a file, which appears under its path when it is whole and
        its digest is right, and replaces an existing one. Raises OSError, with the path as its `filename`, if it cannot
        be written."""
        async with new_file(path) as (file, target):
            await self._receive(task_id, name, file)
        return target

    async def download_all(self, task_id: str, directory: str | Path, *, prefix: str = "") -> Sequence[Path]:
        """Writes all files of the result into a directory, under `prefix` and their names. They appear together, when
        all are whole and their digests are right. Data alone is no file. Raises OSError as `download` does."""
        result = (await self.get(task_id)).result
        if result is None:
            raise PenstockApiError(f"{task_id} has no result", code="result_not_ready")
        targets = [place_in(directory, prefix, file.name) for file in result.files]
        async with AsyncExitStack() as stack:
            for file, target in zip(result.files, targets, strict=True):
                sink, _ = await stack.enter_async_context(new_file(target))
                await self._transport.receive(result_path(task_id, file.name), sink, sha256=file.sha256)
                await asyncio.to_thread(sink.close)  # a result may have more files than a process may have open
        return targets

    async def log(self, task_id: str) -> str:
        """Returns what the code of the model has logged about the task, and its tracebacks."""
        return (await self._transport.send("GET", f"{task_path(task_id)}/log")).text

    async def cancel(self, task_id: str) -> Task:
        """Cancels a task that waits or runs. It may be called again."""
        return await self._transport.ask("POST", f"{task_path(task_id)}/cancel", Task)

    async def retry(self, task_id: str) -> Task:
        """Runs a task again that failed, was canceled or expired. A task that waits or runs is left alone."""
        return await self._transport.ask("POST", f"{task_path(task_id)}/retry", Task)

    async def cancel_matching(self, *, dry_run: bool = False, every: bool = False, **which: Unpack[Filter]) -> Hit:
        """Cancels all PENDING or RUNNING tasks that match. A filter of `status` alone needs `every`. With `dry_run`
        nothing is changed, and the answer counts what would be."""
        return await self._act_on_matching("cancel", dry_run, every, which)

    async def retry_matching(self, *, dry_run: bool = False, every: bool = False, **which: Unpack[Filter]) -> Hit:
        """Runs all FAILED, CANCELED or EXPIRED tasks that match again; `every` and `dry_run` as in
        `cancel_matching`."""
        return await self._act_on_matching("retry", dry_run, every, which)

    async def delete_matching(self, *, dry_run: bool = False, every: bool = False, **which: Unpack[Filter]) -> Hit:
        """Deletes all ended tasks that match, and their files; `every` and `dry_run` as in `cancel_matching`."""
        return await self._act_on_matching("delete", dry_run, every, which)

    async def submit_batch(
        self,
        sources: Mapping[str, Source],
        model: str,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Queues a task for each source, all or none: at most 50,000, each at most 1 MiB in base64, under a name of
        yours. The default priority is low. Raises OSError if a path cannot be read, and ValueError if a name is not
        Unicode."""
        body = await asyncio.to_thread(batch_of, sources)
        query = batch_options(model, options)
        answer = await self._transport.send("POST", "/v1/batches", query=query, body=body, headers=JSONL)
        return decoded(answer, Batch)

    async def get_batch(self, batch_id: str) -> Batch:
        """Returns the batch."""
        return await self._transport.ask("GET", batch_path(batch_id), Batch)

    async def wait_batch(self, batch_id: str, *, timeout_s: float = math.inf, every_s: float = 1.0) -> Batch:
        """Waits until all lines of the batch have ended. Raises TimeoutError after `timeout_s`."""
        async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
            while True:
                batch = await self.get_batch(batch_id)
                if batch.is_final:
                    return batch
                await asyncio.sleep(every_s)

    async def batch_lines(self, batch_id: str, *, start: int = 0) -> Sequence[Line]:
        """Yields the lines that have ended so far, in the order in which they ended, without the first `start`."""
        query = {"start": start or None}
        answer = await self._transport.send("GET", f"{batch_path(batch_id)}/results", query=query)
        return [msgspec.json.decode(row, type=Line) for row in answer.content.splitlines()]

    async def cancel_batch(self, batch_id: str) -> Batch:
        """Cancels the lines that have not ended; this may take a moment. It may be called again."""
        return await self._transport.ask("POST", f"{batch_path(batch_id)}/cancel", Batch)

    async def _written(self, source: Source, model: str, options: Options) -> bytes:
        large = await asyncio.to_thread(large_files, source)
        uploads = {name: await self.upload(contents) for name, contents in large.items()}
        return await asyncio.to_thread(body_of, with_uploads(source, uploads), model, options)

    async def _act_on_matching(self, act: str, dry_run: bool, every: bool, which: Filter) -> Hit:
        terms = {"dry_run": dry_run or None, "all": every or None}
        hit, cursor = Hit(matched=0, changed=0, task_ids=()), None
        while True:
            query = {**query_of(which), **terms, "cursor": cursor}
            page = await self._transport.ask("POST", f"/v1/tasks/{act}", Acted, query=query)
            hit = hit.and_of(page)
            cursor = page.next_cursor
            if cursor is None:
                return hit

    async def _receive(self, task_id: str, name: str | None, sink: IO[bytes]) -> None:
        result = (await self.get(task_id)).result
        files = [file for file in result.files if file.name == name] if result else []
        sha256 = files[0].sha256 if files else result.sha256 if result and name is None else None
        await self._transport.receive(result_path(task_id, name), sink, sha256=sha256)


async def outcome_of(client: AsyncClient, source: Source, model: str, options: Shared) -> Mapped:
    """Runs one source of `map`. Its errors are part of the outcome; RuntimeError of a closed client is raised."""
    try:
        task = await client.wait((await client.submit(source, model, **options)).task_id)
    except (PenstockApiError, OSError, TypeError, ValueError) as error:
        return Mapped(source=source, error=error)
    return Mapped(source=source, task=task, error=failure_of(task))
