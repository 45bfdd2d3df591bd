"""Lines of a batch become tasks, in order, while the batch is leased."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby

from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from penstock.core.access import Caller
from penstock.core.batch import Batch, FeedLease, StoredLine, task_id_of
from penstock.core.request import Line
from penstock.core.submission import EnqueuePermit, Submission
from penstock.core.task import State
from penstock.errors import (
    Internal,
    NotReady,
    PenstockError,
    QueueFull,
    QuotaExceeded,
    StorageUnavailable,
    StoreUnavailable,
)
from penstock.intake.batch_lines import defaults_of, line_of, task_of
from penstock.intake.call import SubmitCall, checked_call
from penstock.intake.deps import Deps
from penstock.intake.enqueue import discard, items_of, submission_of
from penstock.intake.examine import Examined, examine, look_at, weigh
from penstock.intake.inline import is_long
from penstock.intake.requests import BatchDefaults
from penstock.intake.reuse_digest import look_for_files
from penstock.intake.webhook import webhook_of
from penstock.pixels.headers import ImageHeader
from penstock.storage import Item
from penstock.store import NotItsTurn, ResultFound, Submitted
from penstock.telemetry import endings, metrics

TOGETHER = 8
"""Lines enqueued by one round trip, which takes Redis about a millisecond: others wait no longer for their answers."""


class _ReadLine(Struct, frozen=True, eq=False):
    """A line as the call that it stands for, and the header of its inline image, known since the line was received."""

    place: int
    call: SubmitCall
    header: ImageHeader | None


class _ReadyLine(Struct, eq=False):
    """A line that can be enqueued. It is tried before its input is stored where its result `may_be_there`, or its input
    `may_stay` in Redis."""

    place: int
    submission: Submission
    examined: Examined
    may_be_there: bool = False
    may_stay: bool = False
    is_stored: bool = False
    """Or perhaps: of a put that fails nobody knows what it has done."""
    is_needed: bool = False
    """There is a task that reads the stored input."""

    @property
    def is_ready(self) -> bool:
        """Whether its input is stored, or all of it is in the record."""
        return self.is_stored or self.submission.own_input is None

    @property
    def is_lacking(self) -> bool:
        """Whether its input has to be stored before it is tried."""
        return not (self.is_ready or self.may_be_there or self.may_stay)

    @property
    def items(self) -> list[Item]:
        """What of its input has to be stored, unless it stays in Redis; nothing where all is in the record."""
        return items_of(self.submission, self.examined)

    def set_file_seen(self, file_seen: str) -> None:
        """Record what was seen of the file of a result; without the file, the line runs."""
        self.submission = replace(self.submission, file_seen=file_seen)
        self.may_be_there = self.may_be_there and not file_seen.endswith("gone")


class BatchEnqueuer:
    """Enqueues lines of one batch under one lease.

    The first line goes alone, and twice as many each time from then on: little is stored for lines that cannot go on
    since the queue is full. What is stored here has names of its own, so that it can be deleted whoever else feeds the
    same lines, now or later.
    """

    def __init__(self, batch: Batch, lease: FeedLease, deps: Deps) -> None:
        self._batch = batch
        self._lease = lease
        self._deps = deps
        self._caller = Caller(batch.caller, batch.tenant)
        self._together = 1
        self._mark = secrets.token_hex(4)

    async def enqueue(self, rows: Sequence[StoredLine], place: int) -> None:
        """Make tasks of the lines from this place on. A line fails without a task where the models that are served, or
        the settings, have changed since the batch was submitted.

        Raises NotItsTurn, NotReady, QueueFull, QuotaExceeded, StoreUnavailable, StorageUnavailable; some of the lines
        may be tasks by then.
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
                    await self._enqueue_ready([ready[one] for one in places])
            place += len(some)

    async def fail(self, place: int, count: int, code: str) -> None:
        """End this many lines from this place on without tasks, with the code of an error. Raises NotItsTurn."""
        log = logger.bind(batch_id=self._batch.id, place=place, lines=count, code=code)
        log.warning("lines have failed before they became tasks")
        if not await self._deps.store.batches.skip(self._lease, place, count, State.FAILED, code):
            raise NotItsTurn
        metrics.report("batches.lines", count, outcome="refused")

    @cached_property
    def _defaults(self) -> BatchDefaults:
        return defaults_of(self._batch.plan.defaults)

    async def _prepare(self, rows: Sequence[StoredLine], place: int, refused: dict[int, str]) -> dict[int, _ReadyLine]:
        """Return the lines that are all right, by place; `refused` gets the codes of the others."""
        lines: list[_ReadLine] = []
        for at, stored in enumerate(rows, place):
            with self._noting(at, refused):
                lines.append(self._read(at, stored))
        seen = await self._look_again([line for line in lines if line.header and line.call.inline_image], refused)
        ready: dict[int, _ReadyLine] = {}

        async def finish(line: _ReadLine) -> None:
            with self._noting(line.place, refused):
                ready[line.place] = await self._finish(line, seen.get(line.place))

        finished = [finish(line) for line in lines if line.place not in refused]
        for answer in await asyncio.gather(*finished, return_exceptions=True):  # all have ended before one is heard
            if isinstance(answer, BaseException):
                raise answer
        return ready

    @contextmanager
    def _noting(self, place: int, refused: dict[int, str]) -> Iterator[None]:
        """Note the code of what is wrong with a line: it must not hold up all others."""
        try:
            yield
        except (NotReady, StoreUnavailable, StorageUnavailable):
            raise
        except PenstockError as error:
            refused[place] = error.code
        except Exception:  # noqa: BLE001
            logger.bind(batch_id=self._batch.id, place=place).exception("a line cannot become a task")
            refused[place] = Internal.code

    def _read(self, place: int, stored: StoredLine) -> _ReadLine:
        batch, line = self._batch, line_of(stored.text, was_checked=True)
        task = task_of(line, self._defaults)
        call = checked_call(
            replace(task, model=batch.plan.versions.get(task.model, task.model)),
            self._deps.models,
            caller=self._caller,
            base_url=batch.plan.base_url,
            traceparent=batch.plan.traceparent,
            line=Line(batch=batch.id, custom_id=line.custom_id, number=stored.number),
        )
        return _ReadLine(place, call, ImageHeader(*stored.header) if stored.header else None)

    async def _look_again(self, lines: Sequence[_ReadLine], refused: dict[int, str]) -> dict[int, Examined]:
        """Look at the inline images, in a thread where there is much to look at."""

        def look() -> dict[int, Examined]:
            examined: dict[int, Examined] = {}
            for line in lines:
                with self._noting(line.place, refused):
                    examined[line.place] = self._weigh(line)
            return examined

        if any(is_long(str(line.call.inline_image)) for line in lines):
            return await asyncio.to_thread(look)
        return look()

    def _weigh(self, line: _ReadLine) -> Examined:
        call, settings = line.call, self._deps.settings
        webhook = webhook_of(call.task.webhook, self._deps, base_url=call.base_url)
        return weigh(call, (look_at(call, settings, line.header),), settings, webhook=webhook)

    async def _finish(self, line: _ReadLine, examined: Examined | None) -> _ReadyLine:
        if examined is None:
            examined = await examine(line.call, self._deps)
        task_id = task_id_of(self._batch.id, line.place)
        input_name, permit = f"{task_id}-{self._mark}", self._permit(line.place)
        submission = await submission_of(task_id, line.call, examined, self._deps, input_name=input_name, permit=permit)
        return _ReadyLine(line.place, submission, examined, may_stay=bool(submission.inline))

    def _permit(self, place: int) -> EnqueuePermit:
        return EnqueuePermit(
            batch=self._batch.id,
            epoch=self._lease.epoch,
            place=place,
            window=self._deps.settings.queue.batch_window,
            lease_ms=int(self._lease.lasts_s * 1000),
        )

    async def _enqueue_ready(self, lines: Sequence[_ReadyLine]) -> None:
        try:
            await self._find_results(lines)
            await self._make_tasks(lines)
        except StoreUnavailable:
            raise  # perhaps only the answer is lost, and the tasks are there: their inputs stay
        except Exception:
            await self._discard_inputs(lines)
            raise
        await self._discard_inputs(lines)

    async def _make_tasks(self, lines: Sequence[_ReadyLine]) -> None:
        while lines:
            await self._store_inputs(lines)
            answers = await self._deps.store.tasks.submit_each([(line.submission, line.is_ready) for line in lines])
            taken = list(_leading(answers))
            for line, submitted in zip(lines, taken, strict=False):
                line.is_needed = not submitted.is_hit
            _report(lines[: len(taken)], taken)
            lines = lines[len(taken) :]
            if lines:
                lines = await self._after(answers[len(taken)], lines)

    async def _after(self, answer: Submitted | Exception | None, lines: Sequence[_ReadyLine]) -> Sequence[_ReadyLine]:
        """Return the lines that are to be tried next, when the first of these was not taken but answered so."""
        if isinstance(answer, ResultFound):
            lines[0].set_file_seen(await look_for_files(answer, self._deps.storage))
            return lines
        if (
            answer is None
        ):  # the result is gone that was there, or the budget of Redis is used up: so for the next lines
            for line in lines:
                line.may_be_there = line.may_stay = False
            return lines
        if isinstance(answer, PenstockError) and not isinstance(answer, QueueFull | QuotaExceeded | StoreUnavailable):
            await self.fail(lines[0].place, 1, answer.code)
            return lines[1:]
        assert isinstance(answer, Exception)  # noqa: S101  it was not taken
        raise answer

    async def _find_results(self, lines: Sequence[_ReadyLine]) -> None:
        """Look which lines have results already, and whether the files of these are there."""
        reusing = [line for line in lines if not line.submission.must_run and line.submission.reuse_digest]
        digests = [str(line.submission.reuse_digest) for line in reusing]
        if not digests:
            return
        store, storage = self._deps.store, self._deps.storage
        have_results, files = await asyncio.gather(store.tasks.have_results(digests), store.tasks.results_of(digests))
        for line, has_result in zip(reusing, have_results, strict=True):
            line.may_be_there = has_result and not line.is_ready
        with_files = [(line, file) for line, file in zip(reusing, files, strict=True) if file]
        looks = await asyncio.gather(*(look_for_files(files, storage) for _, files in with_files))
        for (line, _), file_seen in zip(with_files, looks, strict=True):
            line.set_file_seen(file_seen)

    async def _store_inputs(self, lines: Sequence[_ReadyLine]) -> None:
        """Store what is lacking, only while the lease is held: the tasks of these lines may be gone by now.

        Raises NotItsTurn.
        """
        lacking = [line for line in lines if line.is_lacking]
        if not lacking:
            return
        if await self._deps.store.batches.keep(self._lease):
            raise NotItsTurn
        await self._deps.store.tasks.await_inputs([str(line.submission.own_input) for line in lacking])
        for line in lacking:
            line.is_stored = True
        await self._deps.storage.put_all([item for line in lacking for item in line.items])

    async def _discard_inputs(self, lines: Sequence[_ReadyLine]) -> None:
        """Delete what is stored for lines that are no tasks, or have their results already."""
        needless = [item for line in lines if line.is_stored and not line.is_needed for item in line.items]
        if needless:
            await discard(self._deps, needless)


def _leading(answers: Sequence[Submitted | Exception | None]) -> Iterator[Submitted]:
    """Yield the answers before the first line that was not taken."""
    for answer in answers:
        if not isinstance(answer, Submitted):
            return
        yield answer


def _report(lines: Sequence[_ReadyLine], taken: Sequence[Submitted]) -> None:
    if not lines:
        return
    metrics.report("batches.lines", len(lines), outcome="queued")
    requests = Counter((line.submission.request.model, line.submission.priority) for line in lines)
    for (model, priority), count in requests.items():
        metrics.report("tasks.submitted", count, model=model, priority=priority)
    hits = [line for line, submitted in zip(lines, taken, strict=True) if submitted.is_hit]
    for model, count in Counter(line.submission.request.model for line in hits).items():
        endings.count_hits(model, tasks=count)
