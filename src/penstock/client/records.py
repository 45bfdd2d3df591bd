"""The methods of `AsyncClient` about single records: why a task waits, what is sent again, what is deleted."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Unpack

from penstock.client.record_views import BatchPage, Explanation, StoredUpload
from penstock.client.requests import BatchOptions, batch_options, batch_path, task_path, upload_path
from penstock.client.transport import Transport, decoded
from penstock.client.views import Batch, Task

PAGE = 100

JSONL = {"content-type": "application/jsonl"}


class Records:
    """Explains, lists and deletes tasks, batches and uploads."""

    _transport: Transport

    async def explain(self, task_id: str) -> Explanation:
        """Returns why a task is not done yet: what is ahead of it, what blocks it, and when it should be done."""
        return await self._transport.ask("GET", f"{task_path(task_id)}/explain", Explanation)

    async def delete(self, task_id: str) -> None:
        """Deletes a task that has ended, and its files."""
        await self._transport.send("DELETE", task_path(task_id))

    async def redeliver(self, task_id: str) -> Task:
        """Sends the last event of a task to its webhook again."""
        return await self._transport.ask("POST", f"{task_path(task_id)}/webhook/redeliver", Task)

    async def submit_batch_file(self, path: str | Path, model: str = "", **options: Unpack[BatchOptions]) -> Batch:
        """Queues the lines of a JSONL file, all or none: at most 50,000 of at most 1 MiB. What a line does not say is
        as the model and the options have it; the default priority is low. Raises OSError if it cannot be read."""
        lines = await asyncio.to_thread(Path(path).read_bytes)
        said = batch_options(model, options)
        answer = await self._transport.send("POST", "/v1/batches", query=said, body=lines, headers=JSONL)
        return decoded(answer, Batch)

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Yields all batches, newest first, reading page by page."""
        async for page in self._transport.pages("/v1/batches", BatchPage, {"limit": PAGE}):
            for batch in page.data:
                yield batch

    async def delete_batch(self, batch_id: str) -> None:
        """Deletes a batch that has ended, with its lines. Its tasks stay."""
        await self._transport.send("DELETE", batch_path(batch_id))

    async def redeliver_batch(self, batch_id: str) -> Batch:
        """Sends the last event of a batch to its webhook again."""
        return await self._transport.ask("POST", f"{batch_path(batch_id)}/webhook/redeliver", Batch)

    async def get_upload(self, upload_id: str) -> StoredUpload:
        """Returns whether the bytes of an upload are there, and how many tasks use them."""
        return await self._transport.ask("GET", upload_path(upload_id), StoredUpload)

    async def delete_upload(self, upload_id: str) -> None:
        """Deletes an upload that no task uses."""
        await self._transport.send("DELETE", upload_path(upload_id))
