"""The blocking client: an `AsyncClient` on an event loop in a thread of its own, so that it works in scripts, threads
and notebooks."""

import math
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from datetime import date
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from penstock.client.asynchronous import LOOK_EVERY_S, AsyncClient, outcome_of
from penstock.client.background import Background
from penstock.client.blocking_records import BlockingRecords
from penstock.client.bounded import as_they_end_here
from penstock.client.files import Contents
from penstock.client.filters import Filter
from penstock.client.inputs import Inputs, Source
from penstock.client.key_views import AuditEntry, Key, NewKey, Tenant, TenantQuotas
from penstock.client.keys import DAY_S, LIFE_S
from penstock.client.model_views import FaultyModel, Model, ModelList
from penstock.client.operator_views import Queue, Stats, Worker
from penstock.client.problems import Mapped
from penstock.client.processes import PerProcess
from penstock.client.requests import BatchOptions, Options, Shared
from penstock.client.transport import CLOSED
from penstock.client.usage_views import UsageReport
from penstock.client.views import Batch, Hit, Line, Submitted, Task, Upload

T = TypeVar("T")


class Client(BlockingRecords):
    """One server, spoken to with one key, as `AsyncClient` says. It may be shared by threads and by forked processes,
    each of which has connections of its own; an interrupted call is given up here and goes on at the server. After
    `close` every method raises RuntimeError, also in threads that wait in one."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        tenant: str | None = None,
        token: str | None = None,
        patience_s: float = 120.0,
        connections: int = 64,
    ) -> None:
        """Raises ConfigurationError if there is no key, or the URL is not valid."""
        self._client = AsyncClient(
            url, api_key, tenant=tenant, token=token, patience_s=patience_s, connections=connections
        )
        self._background = PerProcess(Background)
        self.url = self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections of this process. It may be called again."""
        self._background.get().end(self._client.close())

    def submit(
        self, source: Source | None = None, model: str = "", *, inputs: Inputs | None = None, **options: Unpack[Options]
    ) -> Submitted:
        """Queues a task for one image, the `source`, or for the members of `inputs`. Files that are too big for the
        request are uploaded first. Raises OSError if a file cannot be read, and TypeError for an input that is none."""
        return self._wait_for(self._client.submit(source, model, inputs=inputs, **options))

    def upload(self, source: str | Contents) -> Upload:
        """Uploads a file, by its path or as bytes or as an open file, as an input of any number of tasks, without
        holding it in memory. Raises OSError if it cannot be read."""
        return self._wait_for(self._client.upload(source))

    def get(self, task_id: str, *, wait_s: int = 0) -> Task:
        """Returns the task; with `wait_s` (300 at most), as soon as it has ended, or after that many seconds."""
        return self._wait_for(self._client.get(task_id, wait_s=wait_s))

    def wait(self, task_id: str, *, timeout_s: float = math.inf) -> Task:
        """Waits until the task has ended, with or without a result. Raises TimeoutError after `timeout_s`."""
        return self._wait_for(self._client.wait(task_id, timeout_s=timeout_s))

    def watch(self, task_id: str, *, every_s: float = LOOK_EVERY_S) -> Iterator[Task]:
        """Yields the task now and after each change, until it has ended."""
        return self._each(self._client.watch(task_id, every_s=every_s))

    def run(
        self, source: Source | None = None, model: str = "", *, inputs: Inputs | None = None, **options: Unpack[Options]
    ) -> Task:
        """Submits a task and waits for its end. Raises PenstockApiError also if it ends without a result."""
        return self._wait_for(self._client.run(source, model, inputs=inputs, **options))

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

    def list(self, **which: Unpack[Filter]) -> Iterator[Task]:
        """Yields all tasks that match, newest first, reading page by page."""
        return self._each(self._client.list(**which))

    def result(self, task_id: str, name: str | None = None) -> bytes:
        """Returns the bytes of the result, or its JSON if the model gives data; with a `name`, those of that file."""
        return self._wait_for(self._client.result(task_id, name))

    def download(self, task_id: str, path: str | Path, *, name: str | None = None) -> Path:
        """Writes the result, or its file of this `name`, to a file, which appears under its path when it is whole and
        its digest is right, and replaces an existing one. Raises OSError, with the path as its `filename`, if it cannot
        be written."""
        return self._wait_for(self._client.download(task_id, path, name=name))

    def download_all(self, task_id: str, directory: str | Path, *, prefix: str = "") -> Sequence[Path]:
        """Writes all files of the result into a directory, under `prefix` and their names. They appear together, when
        all are whole and their digests are right. Data alone is no file. Raises OSError as `download` does."""
        return self._wait_for(self._client.download_all(task_id, directory, prefix=prefix))

    def log(self, task_id: str) -> str:
        """Returns what the code of the model has logged about the task, and its tracebacks."""
        return self._wait_for(self._client.log(task_id))

    def cancel(self, task_id: str) -> Task:
        """Cancels a task that waits or runs. It may be called again."""
        return self._wait_for(self._client.cancel(task_id))

    def retry(self, task_id: str) -> Task:
        """Runs a task again that failed, was canceled or expired. A task that waits or runs is left alone."""
        return self._wait_for(self._client.retry(task_id))

    def cancel_matching(self, *, dry_run: bool = False, every: bool = False, **which: Unpack[Filter]) -> Hit:
        """Cancels all PENDING or RUNNING tasks that match. A filter of `status` alone needs `every`. With `dry_run`
        nothing is changed, and the answer counts what would be."""
        return self._wait_for(self._client.cancel_matching(dry_run=dry_run, every=every, **which))

    def retry_matching(self, *, dry_run: bool = False, every: bool = False, **which: Unpack[Filter]) -> Hit:
        """Runs all FAILED, CANCELED or EXPIRED tasks that match again; `every` and `dry_run` as in
        `cancel_matching`."""
        return self._wait_for(self._client.retry_matching(dry_run=dry_run, every=every, **which))

    def delete_matching(self, *, dry_run: bool = False, every: bool = False, **which: Unpack[Filter]) -> Hit:
        """Deletes all ended tasks that match, and their files; `every` and `dry_run` as in `cancel_matching`."""
        return self._wait_for(self._client.delete_matching(dry_run=dry_run, every=every, **which))

    def submit_batch(
        self,
        sources: Mapping[str, Source],
        model: str,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Queues a task for each source, all or none: at most 50,000, each at most 1 MiB in base64, under a name of
        yours. The default priority is low. Raises OSError if a path cannot be read, and ValueError if a name is not
        Unicode."""
        return self._wait_for(self._client.submit_batch(sources, model, **options))

    def get_batch(self, batch_id: str) -> Batch:
        """Returns the batch."""
        return self._wait_for(self._client.get_batch(batch_id))

    def wait_batch(self, batch_id: str, *, timeout_s: float = math.inf, every_s: float = 1.0) -> Batch:
        """Waits until all lines of the batch have ended. Raises TimeoutError after `timeout_s`."""
        return self._wait_for(self._client.wait_batch(batch_id, timeout_s=timeout_s, every_s=every_s))

    def batch_lines(self, batch_id: str, *, start: int = 0) -> Sequence[Line]:
        """Yields the lines that have ended so far, in the order in which they ended, without the first `start`."""
        return self._wait_for(self._client.batch_lines(batch_id, start=start))

    def cancel_batch(self, batch_id: str) -> Batch:
        """Cancels the lines that have not ended; this may take a moment. It may be called again."""
        return self._wait_for(self._client.cancel_batch(batch_id))

    def models(self) -> Sequence[Model]:
        """Returns the models that the server runs, each with its versions."""
        return self._wait_for(self._client.models())

    def faulty_models(self) -> Sequence[FaultyModel]:
        """Returns the versions that workers have found and cannot serve."""
        return self._wait_for(self._client.faulty_models())

    def catalogue(self) -> ModelList:
        """Returns what `models` and `faulty_models` do, in one call."""
        return self._wait_for(self._client.catalogue())

    def model(self, name: str) -> Model:
        """Returns the default version of a model, or a certain one for `name@version`."""
        return self._wait_for(self._client.model(name))

    def set_default_model(self, name: str, version: str) -> Model:
        """Makes the version the one that `name` means. Tasks that were submitted keep theirs. It may be called
        again."""
        return self._wait_for(self._client.set_default_model(name, version))

    def load_model(self, name: str) -> Model:
        """Lets the workers load a model, `name` or `name@version`, before its first task comes, and does not wait for
        it. It may be called again."""
        return self._wait_for(self._client.load_model(name))

    def unload_model(self, name: str) -> Model:
        """Lets the workers give back the memory of a model, `name` or `name@version`, when its running tasks have
        ended; the next task loads it again. It may be called again."""
        return self._wait_for(self._client.unload_model(name))

    def workers(self) -> Sequence[Worker]:
        """Returns the workers that reported within their lease."""
        return self._wait_for(self._client.workers())

    def drain_worker(self, worker_id: str) -> Worker:
        """Lets a worker finish its tasks and claim no more. It may be called again."""
        return self._wait_for(self._client.drain_worker(worker_id))

    def resume_worker(self, worker_id: str) -> Worker:
        """Lets a drained worker claim tasks again. It may be called again."""
        return self._wait_for(self._client.resume_worker(worker_id))

    def queues(self) -> Sequence[Queue]:
        """Returns the queues of all models, highest priority first."""
        return self._wait_for(self._client.queues())

    def pause_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Stops starting tasks of a model, of one priority or of all, and returns its queues."""
        return self._wait_for(self._client.pause_queue(model, priority=priority))

    def resume_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Starts tasks of a model again, of one priority or of all, and returns its queues."""
        return self._wait_for(self._client.resume_queue(model, priority=priority))

    def purge_queue(self, model: str, *, priority: str | None = None, dry_run: bool = False) -> int:
        """Cancels the waiting tasks of a model, of one priority or of all, and returns their number; running tasks go
        on. With `dry_run` nothing is changed, and the number is that of those that would be, 100,000 at most."""
        return self._wait_for(self._client.purge_queue(model, priority=priority, dry_run=dry_run))

    def create_key(
        self,
        tenant: str,
        *,
        scopes: Sequence[str] = ("read", "submit"),
        name: str | None = None,
        expires_in_s: int | None = LIFE_S,
    ) -> NewKey:
        """Makes a key of a tenant, which works for 90 days, or until it is revoked with `expires_in_s=None`. It is sent
        once, whatever happens, since each call makes a key. Raises ValueError for a time that is over."""
        return self._wait_for(self._client.create_key(tenant, scopes=scopes, name=name, expires_in_s=expires_in_s))

    def keys(self, *, tenant: str | None = None) -> Sequence[Key]:
        """Returns the managed keys of all tenants, or of one, the newest first."""
        return self._wait_for(self._client.keys(tenant=tenant))

    def key(self, key_id: str) -> Key:
        """Returns one managed key."""
        return self._wait_for(self._client.key(key_id))

    def rotate_key(self, key_id: str, *, overlap_s: int = DAY_S) -> NewKey:
        """Makes a key that takes the place of another, which works for `overlap_s` more. It is sent once, whatever
        happens."""
        return self._wait_for(self._client.rotate_key(key_id, overlap_s=overlap_s))

    def revoke_key(self, key_id: str) -> Key:
        """Lets a key work no longer. It may be called again."""
        return self._wait_for(self._client.revoke_key(key_id))

    def revoke_tokens(self, tenant: str) -> None:
        """Ends all task tokens that the tenant was given so far. It may be called again."""
        return self._wait_for(self._client.revoke_tokens(tenant))

    def tenants(self) -> Sequence[Tenant]:
        """Returns the tenants that have keys, tasks, batches, or quotas of their own, by name."""
        return self._wait_for(self._client.tenants())

    def quotas(self, tenant: str) -> TenantQuotas:
        """Returns what a tenant may use."""
        return self._wait_for(self._client.quotas(tenant))

    def set_quotas(self, tenant: str, quotas: Mapping[str, int]) -> TenantQuotas:
        """Lets a tenant have these quotas in place of those of the settings, and of all that were set for it before. It
        may be called again."""
        return self._wait_for(self._client.set_quotas(tenant, quotas))

    def reset_quotas(self, tenant: str) -> TenantQuotas:
        """Lets a tenant have the quotas of the settings. It may be called again."""
        return self._wait_for(self._client.reset_quotas(tenant))

    def audit(self) -> Iterator[AuditEntry]:
        """Yields who did what to the work or the keys of others, newest first, reading page by page."""
        return self._each(self._client.audit())

    def usage(
        self, *, tenant: str | None = None, first: date | str | None = None, last: date | str | None = None
    ) -> UsageReport:
        """Returns what a tenant holds and has used from the day `first` (the 1st of this month) to the day `last`
        (today), in UTC: the tenant of the key, or another one, or every one as `*`, for a key with the scope
        `operate`."""
        return self._wait_for(self._client.usage(tenant=tenant, first=first, last=last))

    def stats(self) -> Stats:
        """Returns the number of tasks by status, the queues, and the number of workers by state."""
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
