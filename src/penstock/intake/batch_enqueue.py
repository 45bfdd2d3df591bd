"""Lines of a batch that become tasks, in their turn."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from typing import Any

from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from penstock.api.http.auth import Caller
from penstock.api.routes.webhooks import accepted
from penstock.api.services import Services
from penstock.core.batch import Batch, FeedLease, StoredLine, task_id_of
from penstock.core.request import Line
from penstock.core.submission import EnqueuePermit, Submission
from penstock.core.task import State
from penstock.errors import Internal, PenstockError, QueueFull, StorageUnavailable, StoreUnavailable
from penstock.intake.batch_lines import defaults_of, line_of, task_of
from penstock.intake.enqueue import Examined, check_params, discard, examine, look_again, submission_of, weigh
from penstock.intake.inline import is_long
from penstock.intake.requests import TaskRequest
from penstock.intake.reuse_digest import seen
from penstock.models.imaging import Header
from penstock.storage import Item
from penstock.store import NotItsTurn, ResultFound, Submitted
from penstock.telemetry import endings, metrics

TOGETHER = 8
"""Lines handed in by one round trip, which takes Redis about a millisecond: others wait no longer for their answers."""


class _Said(Struct, frozen=True, eq=False):
    """A line that has been read."""

    place: int
    number: int
    custom_id: str
    asked: TaskRequest
    header: Header | None


class _Ready(Struct, eq=False):
    """A line that can be submitted. One whose result `may_be_there` is tried without its input first."""

    place: int
    submission: Submission
    examined: Examined
    may_be_there: bool = False
    is_stored: bool = False
    """Or perhaps: of a put that fails nobody knows what it has done."""
    is_read: bool = False
    """There is a task that needs it."""

    @property
    def input_key(self) -> str | None:
        """Under which its input has to be stored, if it does not go with the record."""
        return None if self.examined.image is None else self.submission.request.source.key

    def look_said(self, file_seen: str) -> None:
        """Somebody has looked for the file of a result; without it, the line runs."""
        self.submission = replace(self.submission, file_seen=file_seen)
        self.may_be_there = self.may_be_there and not file_seen.endswith("gone")

    @property
    def has_input(self) -> bool:
        """Whether it could run."""
        return self.is_stored or self.input_key is None


class Turns:
    """Of one batch, while it is leased. The first line goes alone, and twice as many each time from then on: little is
    stored for lines whose turn does not come since the queue is full. What is stored here has names of its own, so that
    it can be deleted whoever else feeds the same lines, now or later."""

    def __init__(self, batch: Batch, lease: FeedLease, services: Services) -> None:
        self._batch = batch
        self._lease = lease
        self._services = services
        self._caller = Caller(batch.caller, batch.tenant)
        self._together = 1
        self._mark = secrets.token_hex(4)

    async def hand_in(self, rows: Sequence[StoredLine], place: int) -> None:
        """The lines from this place on are tasks afterwards, or have failed without one: they were right when the batch
        was submitted, but the models that are served, or the settings, may have changed.

        Raises NotItsTurn, QueueFull, StoreUnavailable, StorageUnavailable; some of the lines may be tasks then.
        """
        while rows:
            some, rows = rows[: self._together], rows[self._together :]
            self._together = min(TOGETHER, 2 * self._together)
            refused: dict[int, str] = {}
            ready = await self._prepare(some, place, refused)
            for is_refused, places in groupby(range(place, place + len(some)), key=refused.__contains__):
                if is_refused:
                    for one in places:
                        await self.fail(one, 1, refused[one])
                else:
                    await self._submit([ready[one] for one in places])
            place += len(some)

    async def fail(self, place: int, count: int, code: str) -> None:
        """So many lines from this place on end without tasks. Raises NotItsTurn."""
        told = logger.bind(batch_id=self._batch.id, place=place, lines=count, code=code)
        told.warning("lines have failed as no tasks")
        if not await self._services.batches.skip(self._lease, place, count, State.FAILED, code):
            raise NotItsTurn
        metrics.report("batches.lines", count, outcome="refused")

    @cached_property
    def _defaults(self) -> Any:
        return defaults_of(self._batch.plan.defaults)

    async def _prepare(self, rows: Sequence[StoredLine], place: int, refused: dict[int, str]) -> dict[int, _Ready]:
        """By place; of the others `refused` has the codes."""
        said: list[_Said] = []
        for at, stored in enumerate(rows, place):
            with self._noting(at, refused):
                said.append(self._read(at, stored))
        seen = await self._look_again([line for line in said if line.header], refused)
        ready: dict[int, _Ready] = {}

        async def finish(line: _Said) -> None:
            with self._noting(line.place, refused):
                ready[line.place] = await self._finish(line, seen.get(line.place))

        finished = [finish(line) for line in said if line.place not in refused]
        for answer in await asyncio.gather(*finished, return_exceptions=True):  # all have ended before one is heard
            if isinstance(answer, BaseException):
                raise answer
        return ready

    @contextmanager
    def _noting(self, place: int, refused: dict[int, str]) -> Iterator[None]:
        """What is wrong with a line must not hold up all others."""
        try:
            yield
        except (StoreUnavailable, StorageUnavailable):
            raise
        except PenstockError as error:
            refused[place] = error.code
        except Exception:  # noqa: BLE001
            logger.bind(batch_id=self._batch.id, place=place).exception("a line cannot become a task")
            refused[place] = Internal.code

    def _read(self, place: int, stored: StoredLine) -> _Said:
        line = line_of(stored.text)
        asked = task_of(line, self._defaults)
        check_params(asked, self._services.models)
        return _Said(place, stored.number, line.custom_id, asked, Header(*stored.header) if stored.header else None)

    async def _look_again(self, lines: Sequence[_Said], refused: dict[int, str]) -> dict[int, Examined]:
        """At inline images; in a thread where there is much to look at."""

        def look() -> dict[int, Examined]:
            found: dict[int, Examined] = {}
            for line in lines:
                with self._noting(line.place, refused):
                    found[line.place] = self._examined(line)
            return found

        if any(is_long(str(line.asked.input.image_url)) for line in lines):
            return await asyncio.to_thread(look)
        return look()

    def _examined(self, line: _Said) -> Examined:
        assert line.header is not None  # noqa: S101  by `_prepare`
        settings = self._services.settings
        webhook = accepted(line.asked.webhook, self._services, self._batch.plan.base_url)
        image = look_again(line.asked, line.header, settings)
        return weigh(line.asked, image, line.header, settings, self._caller, webhook=webhook)

    async def _finish(self, line: _Said, examined: Examined | None) -> _Ready:
        batch, services = self._batch, self._services
        if examined is None:
            examined = await examine(line.asked, services, self._caller, base_url=batch.plan.base_url)
        task_id = task_id_of(batch.id, line.place)
        submission = await submission_of(
            task_id,
            line.asked,
            examined,
            caller=self._caller,
            traceparent=batch.plan.traceparent,
            services=services,
            input_name=f"{task_id}-{self._mark}",
            line=Line(batch=batch.id, custom_id=line.custom_id, number=line.number),
            permit=EnqueuePermit(
                batch=batch.id,
                epoch=self._lease.epoch,
                place=line.place,
                window=services.settings.queue.batch_window,
                lease_ms=int(self._lease.lasts_s * 1000),
            ),
        )
        return _Ready(line.place, submission, examined)

    async def _submit(self, lines: Sequence[_Ready]) -> None:
        try:
            await self._find_results(lines)
            await self._make_tasks(lines)
        except StoreUnavailable:
            raise  # perhaps only the answer is lost, and the tasks are there: their inputs stay
        except Exception:
            await self._take_back(lines)
            raise
        await self._take_back(lines)

    async def _make_tasks(self, lines: Sequence[_Ready]) -> None:
        while lines:
            await self._store_inputs(lines)
            answers = await self._services.store.tasks.submit_each(
                [(line.submission, line.has_input) for line in lines]
            )
            taken = list(_leading(answers))
            for line, submitted in zip(lines, taken, strict=False):
                line.is_read = not submitted.is_hit
            self._report(lines[: len(taken)], taken)
            lines = lines[len(taken) :]
            if lines:
                lines = await self._after(answers[len(taken)], lines)

    async def _after(self, answer: Submitted | Exception | None, lines: Sequence[_Ready]) -> Sequence[_Ready]:
        """What is to be submitted next, when the first of these lines was answered so."""
        if isinstance(answer, ResultFound):
            lines[0].look_said(await seen(answer, self._services.storage))
            return lines
        if answer is None:  # the result is gone that was there, and so may be those of the next lines
            for line in lines:
                line.may_be_there = False
            return lines
        if isinstance(answer, PenstockError) and not isinstance(answer, QueueFull | StoreUnavailable):
            await self.fail(lines[0].place, 1, answer.code)
            return lines[1:]
        assert isinstance(answer, Exception)  # noqa: S101  it was not taken
        raise answer

    async def _find_results(self, lines: Sequence[_Ready]) -> None:
        asking = [line for line in lines if not line.submission.must_run and line.submission.reuse_digest]
        digests = [str(line.submission.reuse_digest) for line in asking]
        if not digests:
            return
        store, storage = self._services.store, self._services.storage
        there, files = await asyncio.gather(store.tasks.have_results(digests), store.tasks.results_of(digests))
        for line, is_there in zip(asking, there, strict=True):
            line.may_be_there = is_there and line.input_key is not None
        said = await asyncio.gather(*(seen(found, storage) for found in files if found))
        for line, one in zip((line for line, found in zip(asking, files, strict=True) if found), said, strict=True):
            line.look_said(one)

    async def _store_inputs(self, lines: Sequence[_Ready]) -> None:
        """Only while the lease is held: the tasks of these lines may be gone by now. Raises NotItsTurn."""
        lacking = [line for line in lines if not line.has_input and not line.may_be_there]
        if not lacking:
            return
        if await self._services.batches.keep(self._lease):
            raise NotItsTurn
        await self._services.store.tasks.await_inputs([line.input_key for line in lacking if line.input_key])
        for line in lacking:
            line.is_stored = True
        await self._services.storage.put_all(
            [
                Item(line.input_key, line.examined.image, line.examined.content_type)
                for line in lacking
                if line.input_key and line.examined.image
            ]
        )

    async def _take_back(self, lines: Sequence[_Ready]) -> None:
        """Delete what is stored for lines that are no tasks, or have their results already."""
        needless = [line.input_key for line in lines if line.is_stored and not line.is_read and line.input_key]
        if needless:
            await discard(self._services, *needless)

    def _report(self, lines: Sequence[_Ready], taken: Sequence[Submitted]) -> None:
        """Count the tasks."""
        if not lines:
            return
        metrics.report("batches.lines", len(lines), outcome="queued")
        requests = Counter((line.submission.request.model, line.submission.priority) for line in lines)
        for (model, priority), count in requests.items():
            metrics.report("tasks.submitted", count, model=model, priority=priority)
        hits = [line for line, submitted in zip(lines, taken, strict=True) if submitted.is_hit]
        for model, count in Counter(line.submission.request.model for line in hits).items():
            endings.count_hits(model, tasks=count)


def _leading(answers: Sequence[Submitted | Exception | None]) -> Iterator[Submitted]:
    """Until the first that is none."""
    for answer in answers:
        if not isinstance(answer, Submitted):
            return
        yield answer
