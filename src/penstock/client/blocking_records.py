"""The methods of `Client` about single records, and about the server itself."""

from collections.abc import AsyncGenerator, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar, Unpack

from penstock.client.asynchronous import AsyncClient
from penstock.client.inputs import Inputs, Source
from penstock.client.record_views import Explanation, Quote, Readiness, ServerSettings, StoredUpload
from penstock.client.requests import BatchOptions, Options
from penstock.client.views import Batch, Task

T = TypeVar("T")


class BlockingRecords:
    """What `Records` does, for a client that blocks."""

    _client: AsyncClient

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def _each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        raise NotImplementedError

    def quote(
        self, source: Source | None = None, model: str = "", *, inputs: Inputs | None = None, **options: Unpack[Options]
    ) -> Quote:
        """Returns what a `submit` of the same would lead to, and queues nothing. Large files are uploaded. Raises as
        `submit` does."""
        return self._wait_for(self._client.quote(source, model, inputs=inputs, **options))

    def explain(self, task_id: str) -> Explanation:
        """Returns why a task is not done yet: what is ahead of it, what blocks it, and when it should be done."""
        return self._wait_for(self._client.explain(task_id))

    def delete(self, task_id: str) -> None:
        """Deletes a task that has ended, and its files."""
        self._wait_for(self._client.delete(task_id))

    def redeliver(self, task_id: str) -> Task:
        """Sends the last event of a task to its webhook again."""
        return self._wait_for(self._client.redeliver(task_id))

    def submit_batch_file(self, path: str | Path, model: str = "", **options: Unpack[BatchOptions]) -> Batch:
        """Queues the lines of a JSONL file, all or none: at most 50,000 of at most 1 MiB. What a line does not say is
        as the model and the options have it; the default priority is low. Raises OSError if it cannot be read."""
        return self._wait_for(self._client.submit_batch_file(path, model, **options))

    def batches(self) -> Iterator[Batch]:
        """Yields all batches, newest first, reading page by page."""
        return self._each(self._client.batches())

    def delete_batch(self, batch_id: str) -> None:
        """Deletes a batch that has ended, with its lines. Its tasks stay."""
        self._wait_for(self._client.delete_batch(batch_id))

    def redeliver_batch(self, batch_id: str) -> Batch:
        """Sends the last event of a batch to its webhook again."""
        return self._wait_for(self._client.redeliver_batch(batch_id))

    def get_upload(self, upload_id: str) -> StoredUpload:
        """Returns whether the bytes of an upload are there, and how many tasks use them."""
        return self._wait_for(self._client.get_upload(upload_id))

    def delete_upload(self, upload_id: str) -> None:
        """Deletes an upload that no task uses."""
        self._wait_for(self._client.delete_upload(upload_id))

    def readiness(self) -> Readiness:
        """Returns whether the server can work, and what delays tasks, also when it cannot."""
        return self._wait_for(self._client.readiness())

    def server_settings(self) -> ServerSettings:
        """Returns the settings of the server without secrets, for a key with the scope `operate`."""
        return self._wait_for(self._client.server_settings())
