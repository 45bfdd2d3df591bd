"""The overview of a server: what it does now, and what is wrong."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import groupby

from msgspec import Struct

from penstock.client import AsyncClient, Queue, Readiness, Stats, Worker

ENDED = ("SUCCESS", "FAILED", "CANCELED", "EXPIRED")

KEPT = 60
"""Paces that are kept for the line of them."""

LONG_S = 60.0
"""A task that has waited for this long in a queue is worth a word."""

FAILURES = 100
"""Failed tasks of the last hour, the newest first, whose codes are counted."""

HOUR = timedelta(hours=1)

COUNT_EVERY_S = 30.0
"""Failures that are shown are counted again after this time, since they grow older than an hour."""


class Overview(Struct, frozen=True, kw_only=True):
    """What a server does at a moment. `ended_per_s` is None at the first read; `paces` are those before, the latest
    last. `failures` are counts of the last hour by code."""

    at: str
    url: str
    status: str
    wrong: tuple[str, ...]
    tasks: dict[str, int]
    ended_per_s: float | None
    paces: tuple[float, ...]
    queues: tuple[Queue, ...]
    workers: tuple[Worker, ...]
    failures: dict[str, int]


class Observer:
    """Reads the overview of a server again and again."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._paces: deque[float] = deque(maxlen=KEPT)
        self._before: tuple[float, int] | None = None
        self._failed, self._counted_at = 0, 0.0
        self._failures: dict[str, int] = {}

    async def look(self) -> Overview:
        """Returns the overview of now, by three requests, and one more if tasks have failed since the last, or the
        failures that are shown were counted some time ago."""
        ready = await self._client.readiness()
        stats, workers = await self._client.stats(), await self._client.workers()
        return Overview(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            url=self._client.url,
            status=ready.status,
            wrong=tuple(wrong_in(ready, stats, tuple(workers))),
            tasks=stats.tasks,
            ended_per_s=self._pace(sum(stats.tasks.get(status, 0) for status in ENDED)),
            paces=tuple(self._paces),
            queues=stats.queues,
            workers=tuple(workers),
            failures=await self._count(stats.tasks.get("FAILED", 0)),
        )

    def _pace(self, ended: int) -> float | None:
        """Returns how many tasks have ended each second since the last look; deleted ones count for nothing."""
        now, before = time.monotonic(), self._before
        self._before = (now, ended)
        if before is None:
            return None
        pace = round(max(0, ended - before[1]) / max(now - before[0], 0.001), 2)
        self._paces.append(pace)
        return pace

    async def _count(self, failed: int) -> dict[str, int]:
        is_old = bool(self._failures) and time.monotonic() - self._counted_at >= COUNT_EVERY_S
        if failed != self._failed or is_old:
            codes: Counter[str] = Counter()
            async with aclosing(self._client.list(status=["FAILED"], created_after=datetime.now(UTC) - HOUR)) as tasks:
                async for task in tasks:
                    codes[task.error.code if task.error else "unknown"] += 1
                    if codes.total() == FAILURES:
                        break
            self._failed, self._counted_at = failed, time.monotonic()
            self._failures = dict(codes.most_common())
        return self._failures


def wrong_in(ready: Readiness, stats: Stats, workers: tuple[Worker, ...]) -> Iterator[str]:
    """Yields what is wrong, or delays tasks, each in a sentence."""
    if ready.detail:
        yield ready.detail
    yield from ready.warnings
    up = [worker for worker in workers if worker.state == "READY"]
    if not up:
        yield "no worker is ready; tasks wait"
    for worker in workers:
        if worker.state == "DOWN":
            yield f"{worker.id} is down: {worker.reason}"
        elif worker.state == "DRAINING":
            yield f"{worker.id} drains: it claims no more tasks until `penstock workers resume`"
    yield from _paused(stats.queues)
    for queue in stats.queues:
        if queue.depth and queue.oldest_s > LONG_S and not queue.paused:
            yield f"{queue.model}, {queue.priority}: {queue.depth} wait, the oldest for {queue.oldest_s:.0f} s"


def _paused(queues: tuple[Queue, ...]) -> Iterator[str]:
    for model, of_model in groupby(queues, key=lambda queue: queue.model):
        known = list(of_model)
        paused = [queue for queue in known if queue.paused]
        if paused:
            which = "" if len(paused) == len(known) else f" ({', '.join(queue.priority for queue in paused)})"
            waiting = sum(queue.depth for queue in paused)
            yield f"{model}{which} is paused, {waiting} wait: `penstock queues resume {model}`"
