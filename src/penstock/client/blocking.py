"""The client for everybody else: `AsyncClient` on an event loop in a thread of its own, so that it works in scripts,
in threads and in notebooks alike, and so that there is one client and not two."""

import math
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from penstock.client.asynchronous import LOOK_EVERY_S, AsyncClient, Mapped, outcome_of
from penstock.client.background import Background
from penstock.client.bounded import as_they_end_here
from penstock.client.processes import PerProcess
from penstock.client.requests import Options, Shared, Source
from penstock.client.transport import CLOSED
from penstock.client.views import Batch, Line, Model, Queue, Stats, Submitted, Task, Upload, Worker

T = TypeVar("T")


class Client:
    """One server, spoken to with one key, as `AsyncClient` says. It may be shared by threads and by forked processes,
    each of which has connections of its own; an interrupted call is given up here and goes on at the server. After
    `close` every method raises RuntimeError, also in threads that wait in one."""

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, patience_s: float = 120.0, connections: int = 64
    ) -> None:
        """Raises ConfigurationError when there is no key, or the URL is none."""
        self._client = AsyncClient(url, api_key, patience_s=patience_s, connections=connections)
        self._background = PerProcess(Background)
        self.url = self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections of this process; repeating it is fine."""
        self._background.get().end(self._client.close())

    def submit(self, source: Source, model: str, **options: Unpack[Options]) -> Submitted:
        """Queue a task; a file that is too big for it is sent before, as by `upload`. Raises OSError when a path cannot
        be read."""
        return self._wait_for(self._client.submit(source, model, **options))

    def upload(self, source: str | bytes | Path) -> Upload:
        """Send a file, from the disk and never whole in memory, to be the source of any number of tasks. Raises OSError
        when it cannot be read."""
        return self._wait_for(self._client.upload(source))

    def get(self, task_id: str, *, wait_s: int = 0) -> Task:
        """The task as it is, or as it is when it has ended, after `wait_s` (300 at most) at the latest."""
        return self._wait_for(self._client.get(task_id, wait_s=wait_s))

    def wait(self, task_id: str, *, timeout_s: float = math.inf) -> Task:
        """The task when it has ended, however it has. Raises TimeoutError when it has not by then."""
        return self._wait_for(self._client.wait(task_id, timeout_s=timeout_s))

    def watch(self, task_id: str, *, every_s: float = LOOK_EVERY_S) -> Iterator[Task]:
        """The task as it is, and again whenever it has changed; the last one has ended."""
        return self._each(self._client.watch(task_id, every_s=every_s))

    def run(self, source: Source, model: str, **options: Unpack[Options]) -> Task:
        """Submit, and wait for the end. Raises PenstockApiError too when the task ends without a result."""
        return self._wait_for(self._client.run(source, model, **options))

    def map(
        self, sources: Iterable[Source], model: str, *, concurrency: int = 16, **options: Unpack[Shared]
    ) -> Iterator[Mapped]:
        """`run` for each source, that many at a time, in the order in which they end. Errors are values here; sources
        are taken as room becomes free, so that they may be endless, and by the thread that takes the results, so that
        a generator may use this client. When it raises, the results of what it gave before come first.

        Raises RuntimeError in a process that was forked off meanwhile: the tasks in flight are its parent's.
        """
        begun_in = self._background.get()

        def start(source: Source) -> Future[Mapped]:
            return self._start(outcome_of(self._client, source, model, options))

        try:
            for mapped in as_they_end_here(start, sources, limit=concurrency):
                yield mapped
                if self._background.get() is not begun_in:
                    raise RuntimeError("this goes on in the process that has begun it, and not in one forked from it")
        except CancelledError:
            raise RuntimeError(CLOSED) from None

    def list(
        self, *, status: Sequence[str] = (), model: str | None = None, priority: str | None = None
    ) -> Iterator[Task]:
        """All tasks that match, newest first, page by page."""
        return self._each(self._client.list(status=status, model=model, priority=priority))

    def result(self, task_id: str) -> bytes:
        """The bytes of the result; of a model that gives data, its JSON."""
        return self._wait_for(self._client.result(task_id))

    def download(self, task_id: str, path: str | Path) -> Path:
        """The same as a file, which appears under its name when it is whole and its digest is right; one that is there
        already is replaced. Raises OSError, with the path as its `filename`, when it cannot be written."""
        return self._wait_for(self._client.download(task_id, path))

    def cancel(self, task_id: str) -> Task:
        """Cancel a task that waits or runs; repeating it is fine."""
        return self._wait_for(self._client.cancel(task_id))

    def retry(self, task_id: str) -> Task:
        """Run a task again that failed, was canceled or expired; one that waits or runs is left alone."""
        return self._wait_for(self._client.retry(task_id))

    def submit_batch(
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
        submitted = self._client.submit_batch(sources, model, client_request_id=client_request_id, **options)
        return self._wait_for(submitted)

    def get_batch(self, batch_id: str) -> Batch:
        """The batch as it is."""
        return self._wait_for(self._client.get_batch(batch_id))

    def wait_batch(self, batch_id: str, *, timeout_s: float = math.inf, every_s: float = 1.0) -> Batch:
        """The batch when all its lines have ended. Raises TimeoutError when they have not by then."""
        return self._wait_for(self._client.wait_batch(batch_id, timeout_s=timeout_s, every_s=every_s))

    def batch_lines(self, batch_id: str, *, start: int = 0) -> Sequence[Line]:
        """The lines that have ended by now, in the order in which they did, but for the first `start`."""
        return self._wait_for(self._client.batch_lines(batch_id, start=start))

    def cancel_batch(self, batch_id: str) -> Batch:
        """End the lines that have not ended, soon; repeating it is fine."""
        return self._wait_for(self._client.cancel_batch(batch_id))

    def models(self) -> Sequence[Model]:
        """The models that are served."""
        return self._wait_for(self._client.models())

    def model(self, name: str) -> Model:
        """One model that is served."""
        return self._wait_for(self._client.model(name))

    def workers(self) -> Sequence[Worker]:
        """The workers heard of within their lease."""
        return self._wait_for(self._client.workers())

    def drain_worker(self, worker_id: str) -> Worker:
        """Let a worker claim nothing more; what it runs goes on. Repeating it is fine."""
        return self._wait_for(self._client.drain_worker(worker_id))

    def resume_worker(self, worker_id: str) -> Worker:
        """Let a drained worker claim again; repeating it is fine."""
        return self._wait_for(self._client.resume_worker(worker_id))

    def queues(self) -> Sequence[Queue]:
        """Of all models, highest priority first."""
        return self._wait_for(self._client.queues())

    def pause_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Let nothing of a model start, of one priority or of all; its queues as they are now."""
        return self._wait_for(self._client.pause_queue(model, priority=priority))

    def resume_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Let it go on; its queues as they are now."""
        return self._wait_for(self._client.resume_queue(model, priority=priority))

    def purge_queue(self, model: str, *, priority: str | None = None) -> int:
        """Cancel what waits for a model, of one priority or of all, and nothing that runs; how many."""
        return self._wait_for(self._client.purge_queue(model, priority=priority))

    def stats(self) -> Stats:
        """Tasks by status, queues by model and priority, workers by state."""
        return self._wait_for(self._client.stats())

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        future = self._background.get().start(work)
        if future is None:
            raise RuntimeError(CLOSED)
        return future

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        future = self._start(work)
        try:
            return future.result()
        except CancelledError:  # by `close`
            raise RuntimeError(CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def _each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """When nobody wants more of them, the loop closes the items by itself: to wait for that here could be to wait
        on the loop's own thread, where garbage is collected too."""
        while True:
            try:
                yield self._wait_for(_next(items))
            except StopAsyncIteration:
                return


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)
