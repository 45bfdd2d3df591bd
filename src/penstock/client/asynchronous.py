"""The client for asyncio. Every method raises PenstockApiError when the server refuses, or cannot be reached for as
long as the patience lasts; what is cancelled here goes on at the server."""

import asyncio
import io
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import IO, Self, Unpack
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.client.bounded import as_they_end
from penstock.client.files import File, is_large
from penstock.client.problems import PenstockApiError, failure_of
from penstock.client.requests import Options, Shared, Source, batch_of, body_of, file_in, new_request_id
from penstock.client.transport import NOT_MODIFIED, OnPause, Transport, decoded
from penstock.client.views import (
    Batch,
    Line,
    Model,
    ModelList,
    Opened,
    Page,
    Purged,
    Queue,
    QueueList,
    Stats,
    Submitted,
    Task,
    Upload,
    Worker,
    WorkerList,
)

WAIT_S = 30
"""Of one request that waits for an end; many proxies cut off what is silent for a minute."""

LOOK_EVERY_S = 0.25
"""How often `watch` looks at a task; while nothing changes, the answer is an empty 304."""

PAGE = 100

JSONL = {"content-type": "application/jsonl"}


class Mapped(Struct, frozen=True, kw_only=True):
    """One of many: its source, and a task that has succeeded, or why there is none (then `task` is set if one ran)."""

    source: Source
    task: Task | None = None
    error: PenstockApiError | OSError | TypeError | ValueError | None = None


class AsyncClient:
    """One server, spoken to with one key. Without arguments: PENSTOCK_URL and PENSTOCK_API_KEY, else the
    `penstock up` of this directory. `patience_s` is how long a request is repeated while the server is away, full or
    limits the rate, and how long it may be silent (2 s at least), in a transfer of a file since the last byte; a
    submit is safe to repeat, since each has a `client_request_id`. `on_pause` is called before each repeat with the
    reason and the pause in seconds. After `close` every method raises RuntimeError.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = 120.0,
        connections: int = 64,
        on_pause: OnPause | None = None,
    ) -> None:
        """Raises ConfigurationError when there is no key, or the URL is none."""
        self._transport = Transport(url, api_key, patience_s=patience_s, connections=connections, on_pause=on_pause)
        self.url = self._transport.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def submit(self, source: Source, model: str, **options: Unpack[Options]) -> Submitted:
        """Queue a task; a file that is too big for it is sent before, as by `upload`. Raises OSError when a path cannot
        be read."""
        file = file_in(source)
        if file is not None and await asyncio.to_thread(is_large, file):
            source = await self.upload(file)
        body = await asyncio.to_thread(body_of, source, model, options)
        answer = await self._transport.send("POST", "/v1/tasks", body=body)
        return replace(decoded(answer, Submitted), replayed="Idempotent-Replayed" in answer.headers)

    async def upload(self, source: str | bytes | Path) -> Upload:
        """Send a file, from the disk and never whole in memory, to be the source of any number of tasks. Raises OSError
        when it cannot be read."""
        file = await asyncio.to_thread(File.of, source)
        asked = {"size": file.size, "sha256": file.sha256, "content_type": file.content_type}
        opened = await self._transport.ask("POST", "/v1/uploads", Opened, body=msgspec.json.encode(asked))
        await self._transport.deliver(opened, file)
        return Upload(upload_id=opened.upload_id, size=file.size, sha256=file.sha256)

    async def get(self, task_id: str, *, wait_s: int = 0) -> Task:
        """The task as it is, or as it is when it has ended, after `wait_s` (300 at most) at the latest."""
        query = {"wait": wait_s or None}
        return await self._transport.ask("GET", _path(task_id), Task, query=query, wait_s=wait_s)

    async def wait(self, task_id: str, *, timeout_s: float = math.inf) -> Task:
        """The task when it has ended, however it has. Raises TimeoutError when it has not by then."""
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
        """The task as it is, and again whenever it has changed; the last one has ended."""
        headers: dict[str, str] = {}
        while True:
            answer = await self._transport.send("GET", _path(task_id), headers=headers)
            if answer.status_code != NOT_MODIFIED:
                task = decoded(answer, Task)
                yield task
                if task.is_final:
                    return
                headers = {"If-None-Match": answer.headers.get("ETag", "")}
            await asyncio.sleep(every_s)

    async def run(self, source: Source, model: str, **options: Unpack[Options]) -> Task:
        """Submit, and wait for the end. Raises PenstockApiError too when the task ends without a result."""
        task = await self.wait((await self.submit(source, model, **options)).task_id)
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
        """`run` for each source, that many at a time, in the order in which they end. Errors are values here; sources
        are taken as room becomes free, so that they may be endless. An iterable is run in a thread of its own, so that
        it may wait. When it raises, the results of what it gave before come first."""

        async def one(source: Source) -> Mapped:
            return await outcome_of(self, source, model, options)

        async with aclosing(as_they_end(one, sources, limit=concurrency)) as ended:
            async for mapped in ended:
                yield mapped

    async def list(
        self, *, status: Sequence[str] = (), model: str | None = None, priority: str | None = None
    ) -> AsyncGenerator[Task, None]:
        """All tasks that match, newest first, page by page."""
        query = {"status": list(status) or None, "model": model, "priority": priority, "limit": PAGE}
        cursor: str | None = None
        while True:
            page = await self._transport.ask("GET", "/v1/tasks", Page, query={**query, "cursor": cursor})
            for task in page.data:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    async def result(self, task_id: str) -> bytes:
        """The bytes of the result; of a model that gives data, its JSON."""
        sink = io.BytesIO()
        await self._receive(task_id, sink)
        return sink.getvalue()

    async def download(self, task_id: str, path: str | Path) -> Path:
        """The same as a file, which appears under its name when it is whole and its digest is right; one that is there
        already is replaced. Raises OSError, with the path as its `filename`, when it cannot be written."""
        target = Path(path)
        part = target.with_name(
            f".penstock-{secrets.token_hex(8)}.part"
        )  # a name has 255 bytes, which are the target's
        try:
            file = await asyncio.to_thread(part.open, "wb")
            try:
                try:
                    await self._receive(task_id, file)
                finally:
                    await asyncio.to_thread(file.close)
                await asyncio.to_thread(part.replace, target)
            finally:
                await asyncio.to_thread(part.unlink, missing_ok=True)
        except OSError as error:
            error.filename, error.filename2 = str(target), None
            raise
        return target

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task that waits or runs; repeating it is fine."""
        return await self._transport.ask("POST", f"{_path(task_id)}/cancel", Task)

    async def retry(self, task_id: str) -> Task:
        """Run a task again that failed, was canceled or expired; one that waits or runs is left alone."""
        return await self._transport.ask("POST", f"{_path(task_id)}/retry", Task)

    async def submit_batch(
        self,
        sources: Mapping[str, Source],
        model: str,
        *,
        client_request_id: str | None = None,
        **options: Unpack[Shared],
    ) -> Batch:
        """Queue a task for each source, under a name of yours (50,000 at most, each of 1 MiB in base64): all or none.
        Priority is low unless said otherwise. Raises OSError when a path cannot be read, and ValueError when a name is
        no Unicode text."""
        body, said = await asyncio.to_thread(batch_of, sources, model, options)
        said["client_request_id"] = client_request_id or new_request_id()
        query = {"options": msgspec.json.encode(said).decode()}
        answer = await self._transport.send("POST", "/v1/batches", query=query, body=body, headers=JSONL)
        return decoded(answer, Batch)

    async def get_batch(self, batch_id: str) -> Batch:
        """The batch as it is."""
        return await self._transport.ask("GET", _batch_path(batch_id), Batch)

    async def wait_batch(self, batch_id: str, *, timeout_s: float = math.inf, every_s: float = 1.0) -> Batch:
        """The batch when all its lines have ended. Raises TimeoutError when they have not by then."""
        async with asyncio.timeout(None if math.isinf(timeout_s) else timeout_s):
            while True:
                batch = await self.get_batch(batch_id)
                if batch.is_final:
                    return batch
                await asyncio.sleep(every_s)

    async def batch_lines(self, batch_id: str, *, start: int = 0) -> Sequence[Line]:
        """The lines that have ended by now, in the order in which they did, but for the first `start`."""
        query = {"start": start or None}
        answer = await self._transport.send("GET", f"{_batch_path(batch_id)}/results", query=query)
        return [msgspec.json.decode(row, type=Line) for row in answer.content.splitlines()]

    async def cancel_batch(self, batch_id: str) -> Batch:
        """End the lines that have not ended, soon; repeating it is fine."""
        return await self._transport.ask("POST", f"{_batch_path(batch_id)}/cancel", Batch)

    async def models(self) -> Sequence[Model]:
        """The models that are served."""
        return (await self._transport.ask("GET", "/v1/models", ModelList)).data

    async def model(self, name: str) -> Model:
        """One model that is served."""
        return await self._transport.ask("GET", f"/v1/models/{_segment(name)}", Model)

    async def workers(self) -> Sequence[Worker]:
        """The workers heard of within their lease."""
        return (await self._transport.ask("GET", "/v1/workers", WorkerList)).data

    async def drain_worker(self, worker_id: str) -> Worker:
        """Let a worker claim nothing more; what it runs goes on. Repeating it is fine."""
        return await self._act_on_worker(worker_id, "drain")

    async def resume_worker(self, worker_id: str) -> Worker:
        """Let a drained worker claim again; repeating it is fine."""
        return await self._act_on_worker(worker_id, "resume")

    async def queues(self) -> Sequence[Queue]:
        """Of all models, highest priority first."""
        return (await self._transport.ask("GET", "/v1/queues", QueueList)).data

    async def pause_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Let nothing of a model start, of one priority or of all; its queues as they are now."""
        return await self._act_on_queue(model, "pause", priority)

    async def resume_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Let it go on; its queues as they are now."""
        return await self._act_on_queue(model, "resume", priority)

    async def purge_queue(self, model: str, *, priority: str | None = None) -> int:
        """Cancel what waits for a model, of one priority or of all, and nothing that runs; how many."""
        canceled, has_more = 0, True
        while has_more:
            path = f"/v1/queues/{_segment(model)}/purge"
            purged = await self._transport.ask("POST", path, Purged, query={"priority": priority})
            canceled, has_more = canceled + purged.canceled, purged.has_more
        return canceled

    async def stats(self) -> Stats:
        """Tasks by status, queues by model and priority, workers by state."""
        return await self._transport.ask("GET", "/v1/stats", Stats)

    async def _act_on_worker(self, worker_id: str, act: str) -> Worker:
        return await self._transport.ask("POST", f"/v1/workers/{_segment(worker_id)}/{act}", Worker)

    async def _act_on_queue(self, model: str, act: str, priority: str | None) -> Sequence[Queue]:
        path = f"/v1/queues/{_segment(model)}/{act}"
        return (await self._transport.ask("POST", path, QueueList, query={"priority": priority})).data

    async def _receive(self, task_id: str, sink: IO[bytes]) -> None:
        result = (await self.get(task_id)).result
        await self._transport.receive(f"{_path(task_id)}/result", sink, sha256=result.sha256 if result else None)


async def outcome_of(client: AsyncClient, source: Source, model: str, options: Shared) -> Mapped:
    """Runs one of many; raises nothing but what says that there are no more to come, as RuntimeError of a closed
    client."""
    try:
        task = await client.wait((await client.submit(source, model, **options)).task_id)
    except (PenstockApiError, OSError, TypeError, ValueError) as error:
        return Mapped(source=source, error=error)
    return Mapped(source=source, task=task, error=failure_of(task))


def _batch_path(batch_id: str) -> str:
    if not batch_id:
        raise ValueError("the id of a batch is empty")
    return f"/v1/batches/{quote(batch_id, safe='')}"


def _path(task_id: str) -> str:
    if not task_id:
        raise ValueError("the id of a task is empty")  # the path of all tasks would be left
    return f"/v1/tasks/{_segment(task_id)}"


def _segment(name: str) -> str:
    return quote(name, safe="")
