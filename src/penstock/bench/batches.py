"""Load in the form of batches: the tasks are the lines of a few requests, and each batch is polled until it has
ended."""

import asyncio
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import aiohttp
import msgspec

from penstock.bench.figures import Sample
from penstock.bench.load import POLL_MAX_S, POLL_MIN_S, Load, read, refusal

AT_ONCE = 4
"""Batches in flight; a server feeds as many at a time."""

MOST_LINES = 50_000
"""Most lines that the API takes in one body; the limit in bytes is a setting."""

PAGE = 100
"""Most tasks in one page of the list."""

RUNNING = ("RUNNING", "CANCELING")


class Lines(NamedTuple):
    """The lines of one request, and their samples."""

    samples: list[Sample]
    body: bytes


class BatchLoad(Load):
    """Sends tasks as JSONL batches, each line with its own image. Tasks count as ended when their batch has ended; the
    details of each task are read after the measurement."""

    async def run(self) -> list[Sample]:
        """Runs the load and returns the samples; `look_up` adds the timings."""
        self._sent: list[tuple[str, list[Sample]]] = []
        self._begin()
        waiting = self._requests()
        async with asyncio.TaskGroup() as senders:
            for _ in range(AT_ONCE):
                senders.create_task(self._send_all(waiting))
        samples = chain.from_iterable(samples for _, samples in self._sent)
        return sorted(samples, key=lambda sample: sample.number)

    async def look_up(self) -> None:
        """Reads the tasks of every batch and adds their timings to the samples."""
        for path, samples in self._sent:
            if path:
                await self._read_tasks(path.rpartition("/")[2], {f"{sample.number}": sample for sample in samples})

    def _requests(self) -> Iterator[Lines]:
        """Yields the requests; all senders share the iterator, so that a request is built when one of them is free."""
        most = self._plan.batch or MOST_LINES
        samples: list[Sample] = []
        lines: list[bytes] = []
        size = 0
        for sample in self._order():
            line = self._line(sample)
            if samples and (len(samples) == most or size + len(line) >= self._batch_bytes):
                yield Lines(samples, b"\n".join(lines))
                samples, lines, size = [], [], 0
            samples.append(sample)
            lines.append(line)
            size += len(line) + 1
        yield Lines(samples, b"\n".join(lines))

    def _line(self, sample: Sample) -> bytes:
        return msgspec.json.encode(
            {
                "custom_id": f"{sample.number}",
                "priority": sample.priority,
                "input": {"image_url": self._uris[sample.image]},
            }
        )

    async def _send_all(self, waiting: Iterator[Lines]) -> None:
        for samples, body in waiting:
            path, error = "", ""
            due_s, accepted_s = self._now(), None
            try:
                path, error = await self._send_batch(body)
                if path:
                    accepted_s = self._now()
                    await self._end_of_batch(path, accepted_s)
            except (aiohttp.ClientError, TimeoutError) as failure:
                error = f"no answer: {type(failure).__name__}"
            seen_s = self._now()
            for sample in samples:
                sample.due_s, sample.accepted_s, sample.seen_s, sample.error = due_s, accepted_s, seen_s, error
            self._sent.append((path, samples))

    async def _send_batch(self, body: bytes) -> tuple[str, str]:
        """Sends a batch; returns its URL, or the reason why it was refused."""
        options = msgspec.json.encode({"defaults": {"model": self._plan.model, "reuse": False}}).decode()
        headers = {"content-type": "application/jsonl", "content-length": str(len(body))}
        async with self._http.post(
            "/v1/batches", params={"options": options}, data=io.BytesIO(body), headers=headers
        ) as answer:
            told = await answer.read()
        return (answer.headers["location"], "") if answer.status < 400 else ("", refusal(answer, told))

    async def _end_of_batch(self, path: str, accepted_s: float) -> None:
        """Poll a batch until it has ended: again after half of the time that it should still take by its own estimate,
        or, without one, when twice the time has passed."""
        ended = 0
        while True:
            async with self._http.get(path, raise_for_status=True) as answer:
                view = msgspec.json.decode(await answer.read())
            self._on_ended(view["progress"]["done"] - ended)
            ended = view["progress"]["done"]
            if view["status"] not in RUNNING:
                return
            pause_s = self._now() - accepted_s if view["eta_s"] is None else view["eta_s"] / 2
            await asyncio.sleep(min(POLL_MAX_S, max(POLL_MIN_S, pause_s)))

    async def _read_tasks(self, batch_id: str, samples: dict[str, Sample]) -> None:
        """Adds the timings of the tasks; a line that never became a task gets none."""
        query: dict[str, Any] = {"batch_id": batch_id, "limit": PAGE}
        unknown = dict(samples)
        while True:
            async with self._http.get("/v1/tasks", params=query, raise_for_status=True) as answer:
                page = msgspec.json.decode(await answer.read())
            for view in page["data"]:
                read(unknown.pop(view["custom_id"]), view)
            if not page["has_more"]:
                break
            query["cursor"] = page["next_cursor"]
        for sample in unknown.values():
            sample.error = "no task"
