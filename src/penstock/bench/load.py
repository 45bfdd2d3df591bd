"""The load: sends tasks as the plan says and polls each until it ends, as a client would."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count, islice
from typing import Any, NamedTuple

import aiohttp
import msgspec

from penstock.bench.figures import Sample
from penstock.bench.images import Image
from penstock.bench.plan import Plan, arrivals, priorities

CONNECTIONS = 32

AT_ONCE = 8
"""Requests of a burst in flight; more would only wait for one another in the client and in the server."""

POLL_MIN_S = 0.005
POLL_MAX_S = 0.25
POLL_SHARE = 0.05
"""A task is polled again after this share of the time that it has taken so far, so that `seen` is exact to 5 %."""

POLLS_PER_S = 500
"""Most polls per second of all clients together; more would be a load of their own."""

PREFER = {"prefer": "wait=30"}


class Accepted(NamedTuple):
    """The answer to a submit: the URL of the task, and its state."""

    path: str
    view: dict[str, Any]


class Load:
    """One load on one server. `on_ended` hears how many more tasks have ended; a batch has `batch_bytes` at most."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        plan: Plan,
        images: Sequence[Image],
        *,
        batch_bytes: int,
        on_ended: Callable[[int], None],
    ) -> None:
        self._http = http
        self._plan = plan
        self._images = images
        self._uris = [image.uri for image in images]
        self._batch_bytes = batch_bytes
        self._on_ended = on_ended
        # Requests wait here: what a connector makes wait would count as being sent.
        self._room = asyncio.Semaphore(connections(plan))
        self._in_flight = 0
        self._clock = asyncio.get_running_loop().time
        self._zero = self._clock()

    async def warm_up(self) -> None:
        """Runs one task that is not counted."""
        await self._follow(Sample(number=-1, image=0, priority="normal", due_s=0.0))

    async def run(self) -> list[Sample]:
        """Runs the load and returns the samples in the order of their submits."""
        self._begin()
        rate = self._plan.rate
        if rate is None:
            samples = await self._closed()
        else:
            samples = await (self._burst() if rate == float("inf") else self._open(rate))
        return sorted(samples, key=lambda sample: sample.number)

    async def look_up(self) -> None:
        """Does nothing: every task has been followed to its end already."""

    def _begin(self) -> None:
        self._zero = self._clock()

    async def _closed(self) -> list[Sample]:
        """Runs a closed loop: each client sends its next task when it has seen the end of the one before."""
        samples: list[Sample] = []
        order = self._order()

        async def client() -> None:
            for sample in order:
                sample.due_s = self._now()
                if self._plan.duration_s is not None and sample.due_s >= self._plan.duration_s:
                    return
                samples.append(sample)
                await self._counted(sample)

        async with asyncio.TaskGroup() as clients:
            for _ in range(self._plan.clients or 1):
                clients.create_task(client())
        return samples

    async def _open(self, rate: float) -> list[Sample]:
        """Runs an open loop: tasks are sent when they are due, however many are in flight."""
        samples: list[Sample] = []
        async with asyncio.TaskGroup() as tasks:
            for sample, due_s in zip(self._order(), arrivals(rate), strict=False):
                if self._plan.duration_s is not None and due_s >= self._plan.duration_s:
                    break
                await asyncio.sleep(max(0.0, due_s - self._now()))
                sample.due_s = due_s
                samples.append(sample)
                tasks.create_task(self._counted(sample))
        return samples

    async def _burst(self) -> list[Sample]:
        """Sends everything at once. Polling begins when all is sent, with a few tasks at a time: more polling would
        slow down the rest."""
        samples, room = list(self._order()), asyncio.Semaphore(AT_ONCE)

        async def send(sample: Sample) -> Accepted | None:
            async with room:
                sample.due_s = self._now()
                return await self._send(sample)

        async def watch(sample: Sample, answer: Accepted | None) -> None:
            async with room:
                await self._counted(sample, answer)

        answers = await asyncio.gather(*map(send, samples))
        await asyncio.gather(*map(watch, samples, answers))
        return samples

    def _order(self) -> Iterator[Sample]:
        """Yields the tasks of the plan: images in turn, priorities by their shares."""
        numbers = count() if self._plan.tasks is None else range(self._plan.tasks)
        for number, priority in zip(numbers, priorities(self._plan.mix), strict=False):
            yield Sample(number=number, image=number % len(self._images), priority=priority, due_s=0.0)

    def _now(self) -> float:
        return self._clock() - self._zero

    async def _counted(self, sample: Sample, answer: Accepted | None = None) -> None:
        await self._follow(sample, answer)
        self._on_ended(1)

    async def _follow(self, sample: Sample, answer: Accepted | None = None) -> None:
        """Sends a task, unless its answer is given, and polls it until it has ended."""
        self._in_flight += 1
        try:
            if answer is None and not sample.error:
                async with self._room:
                    answer = await self._send(sample)
            if answer is not None:
                read(sample, await self._end_of(answer, self._now()))
        except (aiohttp.ClientError, TimeoutError) as error:
            sample.error = f"no answer: {type(error).__name__}"
        finally:
            self._in_flight -= 1
            sample.seen_s = self._now()

    async def _send(self, sample: Sample) -> Accepted | None:
        """Submits a task. Returns None if it was refused, and notes the reason in the sample."""
        body = {
            "model": self._plan.model,
            "priority": sample.priority,
            "input": {"image_url": self._uris[sample.image]},
            "reuse": False,
        }
        headers = {"content-type": "application/json"} | (PREFER if self._plan.wait else {})
        try:
            async with self._http.post("/v1/tasks", data=msgspec.json.encode(body), headers=headers) as answer:
                told = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            sample.error = f"no answer: {type(error).__name__}"
            return None
        if answer.status >= 400:
            sample.error = refusal(answer, told)
            return None
        sample.accepted_s = self._now()
        return Accepted(answer.headers["location"], msgspec.json.decode(told))

    async def _end_of(self, accepted: Accepted, since_s: float) -> dict[str, Any]:
        """Waits for the end of the task, if the submit has not done so already."""
        path, view = accepted
        while view["status"] in ("PENDING", "RUNNING"):
            share = min(POLL_MAX_S, POLL_SHARE * (self._now() - since_s))
            await asyncio.sleep(max(POLL_MIN_S, share, self._in_flight / POLLS_PER_S))
            async with self._room, self._http.get(path, raise_for_status=True) as answer:
                view = msgspec.json.decode(await answer.read())
        return view


def connections(plan: Plan) -> int:
    """Returns the number of connections that the clients of a plan share."""
    return max(CONNECTIONS, plan.clients or 0)


def halves(plan: Plan, images: int) -> tuple[list[int], list[int]]:
    """Splits the images of a plan with a number of tasks, in order: half for the bare loop before the load, half after
    it."""
    order = [number % images for number in islice(count(), plan.tasks)]
    return order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]


def read(sample: Sample, view: dict[str, Any]) -> None:
    """Copies the timings from the record of the task to its sample."""
    result, attempts = view["result"] or {}, view["attempts"]
    if view["status"] != "SUCCESS":
        sample.error = f"{view['status']} {(view['error'] or {}).get('code', '')}".strip()
    sample.created = datetime.fromisoformat(view["created_at"]).timestamp()
    sample.started = datetime.fromisoformat(attempts[-1]["started_at"]).timestamp() if attempts else None
    sample.timing = view["timing"]
    sample.device_ms = view["execution"].get("device_ms", 0.0)
    sample.output_megapixels = (result.get("width") or 0) * (result.get("height") or 0) / 1e6


def refusal(answer: aiohttp.ClientResponse, body: bytes) -> str:
    """Returns the error code of a refused request, or its HTTP status."""
    problem = msgspec.json.decode(body) if "json" in answer.content_type else {}
    return f"refused {problem.get('code', answer.status)}"
