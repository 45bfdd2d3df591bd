"""The scripts against a model: random verbs on a real Redis, and after every step it holds what the model says.

`HYPOTHESIS_PROFILE=nightly` looks for half an hour instead of half a minute.
"""

import asyncio
import json
import random
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import zip_longest
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.core.access import TENANT
from penstock.core.batch import BatchPlan, FeedLease, Started, task_id_of
from penstock.core.lease import Lease
from penstock.core.request import Request
from penstock.core.submission import EnqueuePermit, Forecast, Submission
from penstock.core.task import (
    PRIORITIES,
    Artifact,
    ErrorRecord,
    Outcome,
    Priority,
    Progress,
    Result,
    State,
    Verb,
)
from penstock.errors import (
    BatchNotFound,
    IdempotencyMismatch,
    PenstockError,
    QueueFull,
    ResultExpired,
    StoreUnavailable,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
)
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import BatchStore, Condemned, Engine, NotItsTurn, Redis, Store, UploadStore, connect
from penstock.store.condemned import HELD_MS
from penstock.store.inline import HELD_MS as INLINE_HELD_MS
from tests.support.lengths import IS_LONG
from tests.support.queue_model import QueueModel
from tests.support.queue_snapshot import (
    SAME_MOMENT_MS,
    Snapshot,
    check_agreement,
    check_history,
    check_leaders,
    check_places,
    check_step,
    take_snapshot,
)
from tests.support.stores import (
    MODEL,
    drop,
    hook,
    lease_of,
    open_batch,
    open_store,
    open_upload,
    own_input,
    submission,
    submit,
    worker_info,
)

QUICK = settings(
    max_examples=12,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=set(Phase) - {Phase.explain},  # traces every line, for nothing that the shrunk steps do not say
    suppress_health_check=[HealthCheck.too_slow],
)
PROFILE = settings(QUICK, max_examples=2500, stateful_step_count=80) if IS_LONG else QUICK
INTERLEAVED_S = 60.0 if IS_LONG else 3.0
LONGEST_S = 60.0
CONTESTED = ("settle", "renew", "report", "cancel", "resubmit", "delete", "clear_storage", "move_inline")
"""Verbs that some client must have come too late for, or there was no contest."""


TICK_MS = 2_100
"""No limit of the queue (below, the reaper's 3 s, the rate's 60 s) is passed within 0.9 s after any multiple of it, so
that the few ms a step really takes never decide anything."""
LEASE_S = 5.25
RESULT_TTL_S = 20
RETRIES_AFTER_MS = (1_050, 7_350)
LIMITS_S = (None, None, None, 1.05, 7.35)

CALLERS = ("alice", "bob")
WORKERS = ("w1", "w2")
MODELS = ("upscale", "score")
UPLOADS = ("upl_one", "upl_two")
SETTLING = (Verb.COMPLETE, Verb.FAIL, Verb.RETRY, Verb.RELEASE)
LOST_ATTEMPT = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)

SET_CLOCK = """
-- Give the namespace a clock of its own, which stands still until it is set again: what is due is moved instead.
-- ARGV  1 the moment it shall be (ms)  2 what this script has answered before, or ''
-- Answers how far the server's clock is ahead (ms).
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ahead = now - ARGV[1]
local by = ARGV[2] == '' and 0 or ahead - ARGV[2]
local function shift(name, by)
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1] .. name, 0, -1)) do
    redis.call('ZINCRBY', KEYS[1] .. name, by, member)
  end
end
for _, name in ipairs({'running', 'delayed', 'starting', 'deadlines', 'finals', 'workers:seen'}) do shift(name, by) end
-- What may be due at the very moment of another call is moved to the begin of its tick: those are multiples of 300 ms.
local function exactly(moment) return math.floor((moment - ahead + 50) / 300) * 300 + ahead end
for _, name in ipairs({'condemned', 'awaited', 'inline:ended'}) do
  shift(name, by)
  local found = redis.call('ZRANGE', KEYS[1] .. name, 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do redis.call('ZADD', KEYS[1] .. name, exactly(found[i + 1]), found[i]) end
end
for _, name in ipairs({'rate:default/alice', 'rate:default/bob'}) do
  shift(name, by * 1000)
  local found = redis.call('ZRANGE', KEYS[1] .. name, 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do redis.call('ZADD', KEYS[1] .. name, exactly(found[i + 1] / 1000) * 1000, found[i]) end
end
local grace = redis.call('GET', KEYS[1] .. 'grace')
if grace then redis.call('SET', KEYS[1] .. 'grace', exactly(grace + by)) end
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. 'task:*')) do
  for _, field in ipairs({'start_by', 'deadline', 'cut_off'}) do
    if redis.call('HEXISTS', key, field) == 1 then redis.call('HINCRBY', key, field, by) end
  end
end
local last = redis.call('GET', KEYS[1] .. 'reaper')
if last then
  last = last + by
  -- That its last run was a few ms after the moment is no jump of the clock.
  redis.call('SET', KEYS[1] .. 'reaper', (last > now and last < now + 900) and now or last)
end
return ahead
"""

INPUTS = (
    *("", "own", "own own", *UPLOADS, "upl_one upl_two", "upl_two upl_two", "own upl_one"),
    *("inline own", "inline own own", "inline own upl_one"),
)
SUBMITS = st.fixed_dictionaries(
    {
        "caller": st.sampled_from(CALLERS),
        "priority": st.sampled_from(PRIORITIES),
        "model": st.sampled_from(MODELS),
        "cost": st.integers(1, 5000),
        "own_ms": st.sampled_from((None, 0.5, 700.0)),
        "client_request_id": st.sampled_from((None, "one", "two")),
        "start_within_s": st.sampled_from(LIMITS_S),
        "finish_within_s": st.sampled_from(LIMITS_S),
        "image": st.sampled_from((None, "cat", "cat")),
        "input": st.sampled_from(INPUTS),
        "tell": st.sampled_from(((), ("succeeded", "failed", "canceled", "expired"), ("failed", "expired"))),
    }
)
CLAIMS = st.fixed_dictionaries(
    {
        "worker": st.sampled_from(WORKERS),
        "models": st.sampled_from((MODELS, MODELS[::-1], MODELS[:1], MODELS[1:])),
        "priorities": st.sampled_from((PRIORITIES, PRIORITIES, PRIORITIES[:1])),
    }
)
EQUAL_ONES = st.lists(
    st.fixed_dictionaries(
        {
            "priority": st.sampled_from(PRIORITIES),
            "start_within_s": st.sampled_from(LIMITS_S),
            "finish_within_s": st.sampled_from(LIMITS_S),
            "result_ttl_s": st.sampled_from((RESULT_TTL_S, 3 * RESULT_TTL_S)),
            "must_run": st.sampled_from((False, False, False, False, False, True)),
        }
    ),
    min_size=1,
    max_size=3,
)
CLASSES = st.lists(st.sampled_from(PRIORITIES), min_size=1, unique=True)
ENDINGS = st.tuples(st.sampled_from((Verb.COMPLETE, *SETTLING)), st.sampled_from(RETRIES_AFTER_MS))
ASKING = st.sampled_from(("cancel", "resubmit", "delete", "look"))
PROGRESS = st.sampled_from(
    (
        ("load", 0, 0, None),
        ("prepare", 0, 0, None),
        ("infer", 0, 0, None),
        ("infer", 0, 0, 0.0),
        ("infer", 1, 4, None),
        ("infer", 2, 4, 300.0),
        ("infer", 4, 4, 700.5),
        ("postprocess", 0, 0, 900.25),
    )
)

T = TypeVar("T")


class QueueMachine(RuleBasedStateMachine):
    """One rule for each thing that a caller, a worker, the maintenance or time does."""

    submissions: Bundle[Submission] = Bundle("submissions")
    held: Bundle[Lease] = Bundle("held")
    leases: Bundle[Lease] = Bundle("leases")
    batch_ids: Bundle[str] = Bundle("batch_ids")

    def __init__(self, redis_url: str, *, guard: int, pauses: list[float]) -> None:
        """What took so long that it proves nothing is added to `pauses` (s)."""
        super().__init__()
        self.pauses = pauses
        limits = {"max_depth": 4, "max_crashes": 3, "inline_budget_bytes": 350}
        self.model = QueueModel(lease_ms=int(LEASE_S * 1000), guard=guard, **limits)
        self.namespace = f"test-{secrets.token_hex(6)}"
        self.loop = asyncio.new_event_loop()
        self.closing = AsyncExitStack()
        connected = connect(RedisSettings(url=redis_url, namespace=self.namespace))
        self.client = self.loop.run_until_complete(self.closing.enter_async_context(connected))
        queue = QueueSettings(lease_s=LEASE_S, starvation_guard=guard, **limits)
        self.store = Store(Engine(self.client, self.namespace, queue))
        self.loop.run_until_complete(self.upload_all(UploadStore(Engine(self.client, self.namespace, queue))))
        self.batches = BatchStore(Engine(self.client, self.namespace, queue))
        self.condemned = Condemned(Engine(self.client, self.namespace, queue))
        self.clock_ahead: str = ""
        self.known: dict[str, list[Lease]] = {worker: [] for worker in WORKERS}
        self.submitted = 0
        self.before = Snapshot([])

    async def upload_all(self, uploads: UploadStore) -> None:
        """By the clock of the server, and for longer than any test."""
        for upload_id in UPLOADS:
            await open_upload(uploads, upload_id=upload_id, unused_ttl_s=86_400)
            await uploads.arrive(upload_id)

    def teardown(self) -> None:
        self.loop.run_until_complete(drop(self.client, self.namespace))
        self.loop.run_until_complete(self.closing.aclose())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def do(self, call: Awaitable[T]) -> T | type[PenstockError]:
        """The answer to this call, or the class of its refusal. The model has done the same before, so that Redis
        is compared with it after each call."""
        return self.loop.run_until_complete(self.call_and_compare(call))

    async def call_and_compare(self, call: Awaitable[T]) -> T | type[PenstockError]:
        root, begun = f"{{{self.namespace}}}:", time.monotonic()
        self.clock_ahead = str(await self.client.eval(SET_CLOCK, 1, root, self.model.now, self.clock_ahead))
        answer: T | type[PenstockError]
        try:
            answer = await call
        except (PenstockError, NotItsTurn) as refusal:
            answer = type(refusal)
        if (took := time.monotonic() - begun) * 1000 > SAME_MOMENT_MS / 2:
            self.pauses.append(took)
        snapshot = await take_snapshot(self.client, self.namespace)
        check_places(snapshot)
        check_leaders(snapshot)
        check_history(self.before, snapshot)
        check_step(self.before, snapshot)
        check_agreement(self.model, snapshot, ahead_ms=int(self.clock_ahead))
        self.before = snapshot
        return answer

    def any_is(self, *places: str) -> bool:
        """Whether a task is in one of these places."""
        return any(task.place in places for task in self.model.tasks.values())

    def live(self) -> int:
        """Tasks that wait or run."""
        return sum(not task.state.is_final for task in self.model.tasks.values())

    # Callers

    @initialize(target=submissions, many=st.lists(SUBMITS, min_size=2, max_size=4))
    def begin(self, many: list[dict[str, Any]]) -> Any:
        return self.submit(many, rate_limit=0)

    @precondition(lambda self: self.live() < 8)
    @rule(target=submissions, many=st.lists(SUBMITS, min_size=1, max_size=3), rate_limit=st.sampled_from((0, 0, 2)))
    def submit(self, many: list[dict[str, Any]], rate_limit: int) -> Any:
        made = []
        for options in many:
            made.append(with_id(as_submission(options), self.new_id()))
            self.store_input_and_submit(made[-1], rate_limit)
        return multiple(*made)

    @precondition(lambda self: self.live() < 8)
    @rule(target=submissions, submission=submissions, same_call=st.booleans(), rate_limit=st.sampled_from((0, 2)))
    def submit_again(self, submission: Submission, same_call: bool, rate_limit: int) -> Submission:
        """A task whose own input is not awaited is refused."""
        if not same_call or submission.id in self.model.gone:
            submission = with_id(submission, self.new_id())
        self.submit_one(submission, rate_limit)
        return submission

    @precondition(lambda self: self.live() < 8)
    @rule(target=submissions, submission=submissions, many=EQUAL_ONES)
    def submit_equal_ones(self, submission: Submission, many: list[dict[str, Any]]) -> Any:
        """As the API does it: the store is first asked whether the input is needed."""
        request = msgspec.structs.replace(submission.request, client_request_id=None)
        first = msgspec.structs.replace(submission, request=request)
        equal = [with_id(msgspec.structs.replace(first, **one), self.new_id()) for one in many]
        for one in equal:
            self.store_input_and_submit(one, rate_limit=0)
        return multiple(*equal)

    def new_id(self) -> str:
        """Counted up, so that an example runs the same way when it is run again."""
        self.submitted += 1
        return f"tsk_{self.submitted:024x}{0:08x}"

    def store_input_and_submit(self, submission: Submission, rate_limit: int) -> None:
        if submission.own_input is None or self.is_to_be_queued(submission, rate_limit):
            self.submit_one(submission, rate_limit)

    def is_to_be_queued(self, submission: Submission, rate_limit: int) -> bool:
        expected = self.model.submit(submission, rate_limit=rate_limit, is_stored=False)

        answer = self.do(self.store.tasks.submit_unstored(submission, rate_limit=rate_limit))

        self.compare(answer, expected, submission, rate_limit)
        return answer is None

    def submit_one(self, submission: Submission, rate_limit: int) -> None:
        expected = self.model.submit(submission, rate_limit=rate_limit)

        answer = self.do(self.store.tasks.submit(submission, rate_limit=rate_limit))

        self.compare(answer, StoreUnavailable if expected is None else expected, submission, rate_limit)

    def compare(self, answer: Any, expected: Any, submission: Submission, rate_limit: int) -> None:
        if answer is None or isinstance(answer, type):
            assert answer is expected
        else:
            assert (answer.id, answer.replayed, answer.position, answer.reuse) == expected
            assert not rate_limit or answer.rate_left == rate_limit - self.model.recent(submission.caller)

    @rule(submission=submissions, verb=ASKING)
    def ask(self, submission: Submission, verb: str) -> None:
        getattr(self, verb)(submission.id)

    @rule(lease=held, verb=ASKING)
    def ask_of_a_started_one(self, lease: Lease, verb: str) -> None:
        getattr(self, verb)(lease.id)

    def cancel(self, task_id: str) -> None:
        expected = self.model.cancel(task_id)

        assert self.do(self.store.tasks.cancel(task_id, TENANT)) == expected
        assert self.do(self.store.tasks.cancel(task_id, "another")) is TaskNotFound

    def resubmit(self, task_id: str) -> None:
        expected = self.model.resubmit(task_id)

        assert self.do(self.store.tasks.resubmit(task_id, TENANT)) == expected
        assert self.do(self.store.tasks.resubmit(task_id, "another")) is TaskNotFound

    def delete(self, task_id: str) -> None:
        expected = self.model.delete(task_id)

        answer = self.do(self.store.tasks.delete(task_id, TENANT))

        assert (set(answer) if isinstance(answer, list) else answer) == expected
        assert self.do(self.store.tasks.delete(task_id, "another")) is TaskNotFound

    def look(self, task_id: str) -> None:
        task = self.do(self.store.tasks.get(task_id, TENANT))
        expected = self.model.tasks.get(task_id)

        if expected is None:
            assert task is self.model.absence_of(task_id)
        else:
            assert (task.state, task.stage, task.reuse) == (expected.state, expected.stage, expected.reuse)
            assert task.position == self.model.position(task_id)

    # Batches

    @precondition(lambda self: len(self.model.batches) < 3)
    @rule(target=batch_ids, lines=st.integers(1, 3))
    def start_batch(self, lines: int) -> str:
        batch_id = f"bat_{len(self.model.batches):032x}"
        self.loop.run_until_complete(
            self.batches.open(batch_id, TENANT, "alice", rate_limit=0, most=9, client_request_id=None)
        )
        self.model.start_batch(batch_id, lines)
        plan = BatchPlan(defaults={}, starts=(0,), base_url="", traceparent="", webhook=hook("completed", "canceled"))
        start = self.batches.start(batch_id, TENANT, "alice", plan, total=lines, ttl_s=3600, fingerprint="f")
        assert self.do(start) == Started(id=batch_id, replayed=False)
        return batch_id

    @precondition(lambda self: self.live() < 8)
    @rule(
        target=submissions,
        batch_id=batch_ids,
        many=st.lists(SUBMITS, min_size=1, max_size=3),
        wrong=st.sampled_from(("", "", "", "epoch", "place")),
    )
    def feed(self, batch_id: str, many: list[dict[str, Any]], wrong: str) -> Any:
        """A window of two; a feeder may have lost its lease to another, or be at the wrong line."""
        late_epoch = self.model.batches[batch_id].epoch
        expected = self.model.lease_batches()
        leases, _ = self.do(self.batches.lease(lease_s=0, most=9))
        assert {lease.id: lease.epoch for lease in leases} == expected
        fed = []
        for options in many:
            place = self.model.batches[batch_id].fed - (wrong == "place")
            epoch = late_epoch if wrong == "epoch" else self.model.batches[batch_id].epoch
            permit = EnqueuePermit(batch=batch_id, epoch=epoch, place=place, window=2, lease_ms=0)
            line = as_submission(options | {"client_request_id": None})
            if place < self.model.batches[batch_id].total:
                fed.append(with_id(msgspec.structs.replace(line, permit=permit), self.new_id()))
                self.store_input_and_submit(fed[-1], rate_limit=0)
        return multiple(*fed)

    @rule(batch_id=batch_ids, state=st.sampled_from((State.FAILED, State.CANCELED)), is_late=st.booleans())
    def skip(self, batch_id: str, state: State, is_late: bool) -> None:
        batch = self.model.batches[batch_id]
        lease = FeedLease(id=batch_id, tenant=TENANT, epoch=batch.epoch - is_late, lasts_s=0)
        place, count = batch.fed, min(2, batch.total - batch.fed)
        if count:
            expected = self.model.skip_lines(batch_id, lease.epoch, place, count, state)
            assert self.do(self.batches.skip(lease, place, count, state, "internal")) == expected

    @rule(batch_id=batch_ids)
    def cancel_batch(self, batch_id: str) -> None:
        expected = self.model.cancel_batch(batch_id)

        assert self.do(self.batches.cancel(batch_id, TENANT)) == expected
        assert self.do(self.batches.cancel(batch_id, "another")) is BatchNotFound

    @rule(batch_id=batch_ids)
    def look_at_batch(self, batch_id: str) -> None:
        batch, expected = self.do(self.batches.batch(batch_id, TENANT)), self.model.batches[batch_id]

        assert (batch.state, batch.fed, batch.unfinished) == (expected.state, expected.fed, len(expected.open))
        assert self.do(self.batches.open_places(batch_id, 9)) == sorted(expected.open)

    # Workers

    @precondition(lambda self: self.any_is("queue", "delayed"))
    @rule(targets=(held, leases), options=CLAIMS, is_heard=st.sampled_from((True, True, True, False)))
    def claim(self, options: dict[str, Any], is_heard: bool) -> Any:
        lease = self.claim_one(options)
        if lease is None or not is_heard:
            return multiple()
        self.known[options["worker"]].append(lease)
        return lease

    @precondition(lambda self: self.any_is("queue", "delayed"))
    @rule(targets=(held, leases), options=CLAIMS, endings=st.lists(ENDINGS, min_size=1, max_size=4))
    def claim_and_settle(self, options: dict[str, Any], endings: list[tuple[Verb, int]]) -> Any:
        leases = [(self.claim_one(options), *ending) for ending in endings]
        for lease, verb, delay_ms in leases:
            if lease is not None:
                self.settle_one(lease, verb, delay_ms)
        return multiple(*(lease for lease, _, _ in leases if lease is not None))

    def claim_one(self, options: dict[str, Any]) -> Lease | None:
        expected = self.model.claim(**options)

        answer = self.do(self.store.leases.claim(device="cpu", **options))

        lease = answer.lease
        assert (lease and (lease.id, lease.epoch)) == expected
        if lease is None:
            due = min((t.score for t in self.model.tasks.values() if t.place == "delayed"), default=None)
            wait_s = None if due is None else pytest.approx((due - self.model.now) / 1000, abs=SAME_MOMENT_MS / 1000)
            assert answer.is_drained == (options["worker"] in self.model.drained)
            assert answer.next_due_s == (None if answer.is_drained else wait_s)
        else:
            task = self.model.tasks[lease.id]
            of = task.submission
            assert (lease.request, lease.caller) == (request_of(of, is_inline=task.inline > 0), of.caller)
            assert (lease.priority, lease.failures, lease.crashes) == (of.priority, task.failures, task.crashes)
            assert lease.device_ms == (task.charged if of.request.model in self.model.shares.ms else None)
        return lease

    @precondition(lambda self: self.any_is("running"))
    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        expected = self.model.renew(worker, [MODEL], self.known[worker])

        assert self.do(self.store.leases.renew(worker_info(worker), self.known[worker])) == expected

    @rule(lease=leases, progress=PROGRESS)
    def report(self, lease: Lease, progress: tuple[Any, int, int, float | None]) -> None:
        stage, done, total, took_ms = progress
        expected = self.model.progress(lease, *progress)

        assert (
            self.do(self.store.leases.progress(lease, stage, Progress(done=done, total=total), took_ms=took_ms))
            == expected
        )

    @rule(lease=consumes(held), ending=ENDINGS)
    def settle(self, lease: Lease, ending: tuple[Verb, int]) -> None:
        for leases in self.known.values():
            leases[:] = [other for other in leases if other != lease]
        self.settle_one(lease, *ending)

    @rule(lease=leases, ending=ENDINGS)
    def settle_again(self, lease: Lease, ending: tuple[Verb, int]) -> None:
        self.settle_one(lease, *ending)

    def settle_one(self, lease: Lease, verb: Verb, delay_ms: int) -> None:
        took = device_ms_of(verb, lease)
        expected = self.model.settle(verb, lease, delay_ms=delay_ms, ending=ending_of(verb, lease), device_ms=took)

        assert bool(self.do(settling(self.store, verb, lease, delay_ms=delay_ms))) == expected

    @precondition(lambda self: self.any_is("running"))
    @rule(worker=st.sampled_from(WORKERS))
    def release_unknown(self, worker: str) -> None:
        expected = self.model.release_unknown(worker, self.known[worker])

        assert set(self.do(self.store.leases.release_unknown(worker, self.known[worker], before=0))) == expected

    @precondition(lambda self: self.live() < 8)
    @rule(
        target=leases,
        submission=submissions,
        many=EQUAL_ONES,
        worker=st.sampled_from(WORKERS),
        endings=st.lists(ENDINGS, min_size=1, max_size=3),
    )
    def run_equal_ones(
        self, submission: Submission, many: list[dict[str, Any]], worker: str, endings: list[tuple[Verb, int]]
    ) -> Any:
        """Some start while others come, so that each may find the others waiting, running or ended."""
        leases = []
        for one, ending in zip_longest(many, endings):
            if one:
                self.submit_equal_ones(submission, [one])
            if ending and (lease := self.claim_one({"worker": worker, "models": MODELS, "priorities": PRIORITIES})):
                leases.append((lease, *ending))
        for lease, verb, delay_ms in leases:
            self.settle_one(lease, verb, delay_ms)
        return multiple(*(lease for lease, _, _ in leases))

    # Operators

    @rule(model=st.sampled_from(MODELS), priorities=CLASSES, is_on=st.booleans())
    def pause(self, model: str, priorities: list[Priority], is_on: bool) -> None:
        expected = self.model.pause(model, priorities, is_on=is_on)

        queues = self.store.queues
        call = queues.pause(model, priorities, by="alice") if is_on else queues.resume(model, priorities)
        assert self.do(call) == expected

    @rule(model=st.sampled_from(MODELS), priorities=CLASSES)
    def purge(self, model: str, priorities: list[Priority]) -> None:
        expected = self.model.purge(model, priorities)

        purged = self.do(self.store.queues.purge(TENANT, model, priorities, limit=100))

        assert (purged.canceled, purged.has_more) == (expected, False)
        assert self.do(self.store.queues.purge("another", model, priorities, limit=100)).canceled == 0

    @rule(worker=st.sampled_from(WORKERS), is_on=st.booleans())
    def drain(self, worker: str, is_on: bool) -> None:
        expected = self.model.drain(worker, is_on=is_on)

        assert self.do(self.store.workers.drain(worker) if is_on else self.store.workers.resume(worker)) is expected

    @rule(cap=st.sampled_from((0, 1, 2)))
    def cap(self, cap: int) -> None:
        expected = self.model.set_cap(cap)

        assert self.do(self.store.caps.set({TENANT: cap})) == expected

    # Maintenance

    @rule()
    def review_caps(self) -> None:
        expected = self.model.review_caps(TENANT)

        assert self.do(self.store.caps.review()) == expected

    @precondition(lambda self: self.any_is("running"))
    @rule(dead_worker=st.sampled_from(("", *WORKERS)))
    def reclaim(self, dead_worker: str) -> None:
        expected = self.model.reclaim(dead_worker)

        answer = self.do(self.store.overdue.reclaim(dead_worker))

        assert {taken.id: taken.state for taken in answer} == expected

    @rule(verbs=st.lists(st.sampled_from(("expire", "overrun", "prune")), min_size=1, unique=True))
    def maintain(self, verbs: list[str]) -> None:
        for verb in verbs:
            getattr(self, verb)()

    def expire(self) -> None:
        expected = self.model.expire()

        assert {task_id for task_id, _ in self.do(self.store.overdue.expire())} == expected

    def overrun(self) -> None:
        expected = self.model.overrun()

        assert {task_id: state for task_id, _, state in self.do(self.store.overdue.overrun())} == expected

    def prune(self) -> None:
        expected = self.model.prune()

        assert self.do(self.store.overdue.prune()) == expected

    @rule(dies=st.booleans())
    def clear_storage(self, dies: bool) -> None:
        expected = self.model.take_condemned(HELD_MS)

        taken = self.do(self.condemned.take())

        assert set(taken) == expected
        if not dies:
            self.model.bury(taken)
            self.do(self.condemned.bury(taken))

    @rule(dies=st.booleans())
    def move_inline(self, dies: bool) -> None:
        expected = self.model.take_inline(INLINE_HELD_MS)

        taken = self.do(self.store.inline.due())

        assert taken == expected
        if not dies:
            moved = self.model.move_inline(taken)
            assert self.do(self.store.inline.moved(list(taken))) == moved

    # Time, and the server

    @rule(ticks=st.integers(1, 4), alive=st.sets(st.sampled_from(WORKERS)))
    def time_passes(self, ticks: int, alive: set[str]) -> None:
        for _ in range(ticks):
            self.model.now += TICK_MS
            for worker in sorted(alive):
                self.renew(worker)
            self.reclaim("")

    @rule(ticks=st.sampled_from((1, 3, 10, 30, 60, -2)), scripts_are_lost=st.booleans(), reaper_is_first=st.booleans())
    def redis_was_away(self, ticks: int, scripts_are_lost: bool, reaper_is_first: bool) -> None:
        self.model.now += ticks * TICK_MS
        if scripts_are_lost:
            self.do(self.client.script_flush())
        if reaper_is_first:
            self.reclaim("")


def as_submission(options: dict[str, Any]) -> Submission:
    """With a retention that the clock can pass, a fingerprint that differs where the body does, and a digest that is
    the same where the result is."""
    image, model, caller = options["image"], options["model"], options["caller"]
    made = submission(
        result_ttl_s=RESULT_TTL_S,
        fingerprint=f"{model}-{options['priority']}-{image}",
        reuse_digest=image and f"{caller}-{model}-{image}",
        uploads=[word for word in options["input"].split() if word in UPLOADS],
        **{name: option for name, option in options.items() if name not in ("image", "input", "own_ms")},
    )
    if options["own_ms"]:
        made = msgspec.structs.replace(made, forecast=Forecast(ahead_ms=100.0, own_ms=options["own_ms"]))
    own = options["input"].split().count("own")
    return own_input(made, members=own, inline="inline" in options["input"]) if own else made


def with_id(made: Submission, task_id: str) -> Submission:
    """Another one, with as many inputs of its own as the first has."""
    renamed = msgspec.structs.replace(made, id=task_id)
    own = sum(not source.upload and source.key is not None for source in made.request.inputs.values())
    return own_input(renamed, members=own, inline=bool(made.inline)) if own else renamed


def request_of(made: Submission, *, is_inline: bool) -> Request:
    """The request that a worker is given, with the inputs that stayed in Redis."""
    if not is_inline:
        return made.request
    inputs = {
        name: msgspec.structs.replace(one, key=None, data=made.inline[str(one.key)]) if not one.upload else one
        for name, one in made.request.inputs.items()
    }
    return msgspec.structs.replace(made.request, inputs=inputs)


def ending_of(verb: Verb, lease: Lease) -> str:
    """A mark in the outcome that says who wrote it."""
    return f"{verb} {lease.epoch}"


def device_ms_of(verb: Verb, lease: Lease) -> float | None:
    """What an attempt says that it has taken, where it succeeds."""
    return 700.0 * lease.epoch if verb is Verb.COMPLETE else None


def settling(store: Store, verb: Verb, lease: Lease, *, delay_ms: int) -> Awaitable[int]:
    """The call of a verb that ends an attempt."""
    mark = ending_of(verb, lease)
    if verb is Verb.COMPLETE:
        file = Artifact(name="result.png", s3_key=lease.id, size=1, sha256="", content_type="image/png")
        execution = {"device_ms": device_ms_of(verb, lease)}
        return store.leases.complete(
            lease, Outcome(result=Result(artifacts=(file,), data={"by": mark}), execution=execution)
        )
    if verb is Verb.FAIL:
        return store.leases.fail(
            lease, Outcome(error=ErrorRecord(code=mark, message="it cannot be done", retryable=False))
        )
    if verb is Verb.RETRY:
        return store.leases.retry(lease, LOST_ATTEMPT, delay_ms=delay_ms)
    return store.leases.release(lease)


class Told:
    """What the clients were told, to be compared with what is there in the end."""

    def __init__(self) -> None:
        self.tasks: defaultdict[str | None, set[tuple[str, str]]] = defaultdict(set)
        self.leases: list[Lease] = []
        self.accepted: defaultdict[tuple[str, int], set[Verb]] = defaultdict(set)
        self.answers: Counter[tuple[str, bool]] = Counter()
        self.answered = 0
        self.reused: Counter[str] = Counter()

    @property
    def has_met_in_every_way(self) -> bool:
        """Whether every contest has been won and lost, and every other thing that the test is about has happened."""
        contests = all(self.answers[verb, answer] for verb in CONTESTED for answer in (True, False))
        reuse = all(self.reused[how] for how in ("miss", "coalesced", "hit"))
        return bool(
            contests and reuse and self.answers["reclaim", True] and self.answers["feed", True] and self.answered
        )

    def check(self, snapshot: Snapshot) -> None:
        """Nothing acknowledged is lost, nothing happened twice, and the records say what was answered."""
        claims = [(lease.id, lease.epoch) for lease in self.leases]
        assert len(claims) == len(set(claims)), "one holder for each epoch"
        assert all(len(verbs) == 1 for verbs in self.accepted.values()), "an attempt ends in one way"
        completed = Counter(task_id for (task_id, _), verbs in self.accepted.items() if Verb.COMPLETE in verbs)
        assert not completed or max(completed.values()) == 1, "at most one complete"
        assert all(len(tasks) == 1 for key, tasks in self.tasks.items() if key), "one task and one body for each key"
        acknowledged = {task_id for tasks in self.tasks.values() for task_id, _ in tasks}
        assert snapshot.records.keys() <= acknowledged
        assert all(snapshot.is_gone(task_id) for task_id in acknowledged - snapshot.records.keys())
        logged = {
            (task_id, entry["n"]): entry["outcome"]
            for task_id in snapshot.records
            for entry in snapshot.attempts(task_id)
        }
        accepted = {key: str(*verbs) for key, verbs in self.accepted.items() if key[0] in snapshot.records}
        assert {key: logged.get(key) for key in accepted} == accepted
        assert {key for key, outcome in logged.items() if outcome in ("complete", "fail", "retry")} <= accepted.keys()
        for task_id, record in snapshot.records.items():
            if record["state"] == State.SUCCESS and "origin" not in record:
                outcome = json.loads(snapshot.keys[f"outcome:{task_id}"])
                assert outcome["result"]["data"] == {"by": f"complete {record['epoch']}"}


class Client:
    """Caller, worker and maintenance in one, doing one thing after another by chance."""

    def __init__(
        self,
        store: Store,
        batches: BatchStore,
        condemned: Condemned,
        name: str,
        told: Told,
        chance: random.Random,
    ) -> None:
        self.store, self.batches, self.name = store, batches, name
        self.condemned = condemned
        self.told, self.chance = told, chance
        self.verbs = {
            self.submit: 6, self.claim: 12, self.settle: 8, self.renew: 2, self.report: 2, self.cancel: 2,
            self.resubmit: 2, self.reclaim: 1, self.release_unknown: 1, self.maintain: 1, self.feed: 3, self.pause: 1,
            self.purge: 0.2, self.delete: 1, self.clear_storage: 0.5, self.move_inline: 1,
        }  # fmt: skip

    async def work(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            (verb,) = self.chance.choices(list(self.verbs), list(self.verbs.values()))
            with suppress(
                QueueFull, IdempotencyMismatch, TaskNotFound, ResultExpired, TaskAlreadyFinal, TaskNotFinal, NotItsTurn
            ):
                answer = await verb()
                self.told.answers[verb.__name__, bool(answer)] += 1

    async def submit(self) -> str:
        key = self.chance.choice((None, f"key-{self.chance.randrange(300)}"))
        handed_in = submission(
            priority=self.chance.choice(PRIORITIES),
            cost=self.chance.randint(1, 5000),
            client_request_id=key,
            fingerprint=self.chance.choice("aaab") if key else "a",
            start_within_s=self.chance.choice((None, None, 0.05)),
            finish_within_s=self.chance.choice((None, None, 0.2)),
            result_ttl_s=3600 if key else 1,
            # In turns, so that equal tasks are there at the same time.
            reuse_digest=self.chance.choice((None, f"digest-{self.told.reused.total() // 12}")),
            must_run=self.chance.random() < 0.2,
        )
        answer = None
        if self.chance.random() < 0.3:
            handed_in = own_input(handed_in, inline=self.chance.random() < 0.7)
            answer = await self.store.tasks.submit_unstored(handed_in, rate_limit=0)
        answer = answer or await self.store.tasks.submit(handed_in, rate_limit=0)
        self.told.tasks[key].add((answer.id, handed_in.fingerprint))
        self.told.reused[answer.reuse] += 1
        return answer.id

    async def claim(self) -> bool:
        lease = (await self.store.leases.claim(worker=self.name, device="cpu", models=[MODEL])).lease
        if lease is not None:
            self.told.leases.append(lease)
        return lease is not None

    async def settle(self) -> bool:
        lease, verb = self.a_lease(), self.chance.choice(SETTLING)
        accepted = await settling(self.store, verb, lease, delay_ms=self.chance.randint(1, 50))
        self.told.answered += max(0, (accepted or 0) - 1)  # None: the task has been deleted meanwhile
        if accepted:
            self.told.accepted[lease.id, lease.epoch].add(verb)
        return bool(accepted)

    async def renew(self) -> bool:
        return not await self.store.leases.renew(worker_info(self.name), [self.a_lease(), self.a_lease()])

    async def report(self) -> bool:
        return await self.store.leases.progress(self.a_lease(), "infer", Progress(done=1, total=2))

    async def cancel(self) -> bool:
        return await self.store.tasks.cancel(self.a_lease().id, TENANT)

    async def resubmit(self) -> bool:
        return await self.store.tasks.resubmit(self.a_lease().id, TENANT)

    async def reclaim(self) -> bool:
        return bool(await self.store.overdue.reclaim(self.chance.choice(("", "", "w0"))))

    async def release_unknown(self) -> bool:
        return bool(await self.store.leases.release_unknown(self.name, self.told.leases[-3:], before=0))

    async def pause(self) -> int:
        """For a moment."""
        some = self.chance.sample(PRIORITIES, 2)
        await self.store.queues.pause(MODEL, some, by=self.name)
        await asyncio.sleep(0.005)
        return await self.store.queues.resume(MODEL, some)

    async def purge(self) -> int:
        return (await self.store.queues.purge(TENANT, MODEL, self.chance.sample(PRIORITIES, 1), limit=10)).canceled

    async def maintain(self) -> bool:
        late = [*await self.store.overdue.expire(), *await self.store.overdue.overrun()]
        return await self.store.overdue.prune() + await self.store.overdue.answer_waiting() > 0 or bool(late)

    async def delete(self) -> bool:
        """One that never comes again under its client_request_id."""
        task_id = self.a_lease().id
        if (await self.store.tasks.get(task_id, TENANT)).request.client_request_id:
            return False
        return await self.store.tasks.delete(task_id, TENANT) is not None

    async def clear_storage(self) -> bool:
        taken = await self.condemned.take()
        await self.condemned.bury(taken)
        return bool(taken)

    async def move_inline(self) -> bool:
        taken = await self.store.inline.due()
        return await self.store.inline.moved(list(taken)) > 0

    async def feed(self) -> bool:
        """A few lines of a batch, with a lease that others take away."""
        leases, _ = await self.batches.lease(lease_s=0.01, most=1)
        for lease in leases:
            batch = await self.batches.batch(lease.id, TENANT)
            if self.chance.random() < 0.1:
                return await self.batches.skip(lease, batch.fed, min(3, batch.total - batch.fed), State.FAILED)
            for place in range(batch.fed, min(batch.total, batch.fed + 3)):
                permit = EnqueuePermit(batch=batch.id, epoch=lease.epoch, place=place, window=20, lease_ms=10)
                line = submission(result_ttl_s=1, fingerprint="a")
                line = msgspec.structs.replace(line, id=task_id_of(batch.id, place), permit=permit)
                answer = await self.store.tasks.submit(line, rate_limit=0)
                self.told.tasks[None].add((answer.id, "a"))
        return bool(leases)

    def a_lease(self) -> Lease:
        """A recent one, of any client."""
        return self.chance.choice(self.told.leases[-12:])


async def watch(client: Redis, namespace: str, is_over: Callable[[], bool]) -> Snapshot:
    """Everything is in its place at every moment, not only at the end."""
    before = Snapshot([])
    while not is_over():
        now = await take_snapshot(client, namespace)
        check_places(now)
        check_history(before, now)
        before = now
        await asyncio.sleep(0.1)
    return before


@pytest.mark.slow
@pytest.mark.timeout(7200 if IS_LONG else 600)  # when it fails, finding the shortest example takes minutes
@pytest.mark.parametrize("guard", [0, 2])
def test_the_scripts_do_what_the_model_says(redis_url: str, guard: int) -> None:
    """Time goes on while a busy machine stands still, and the model's does not: then it is done anew."""
    for tries_left in reversed(range(3)):
        pauses: list[float] = []
        machine = partial(QueueMachine, redis_url, guard=guard, pauses=pauses)
        try:
            run_state_machine_as_test(machine, settings=PROFILE)
        except Exception:
            if not pauses or not tries_left:
                raise
        else:
            return


@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_at_the_same_time_leave_the_queue_whole(redis_url: str, namespace: str, seed: int) -> None:
    told = Told()
    async with AsyncExitStack() as opened:
        queue = {"lease_s": 0.1, "max_crashes": 4, "max_depth": 60, "inline_budget_bytes": 400}
        stores = [
            await opened.enter_async_context(open_store(redis_url, namespace=namespace, **queue)) for _ in range(4)
        ]
        client = await opened.enter_async_context(connect(RedisSettings(url=redis_url)))
        batches = BatchStore(Engine(client, namespace, QueueSettings()))
        for _ in range(3):
            await open_batch(batches, lines=100_000)

        told.tasks[None].add((await submit(stores[0]), "a"))
        told.leases.append(await lease_of(stores[0]))
        begun = time.monotonic()

        def is_over() -> bool:
            """A busy machine may need longer until the clients have met in every way."""
            lasted_s = time.monotonic() - begun
            return lasted_s > INTERLEAVED_S and (told.has_met_in_every_way or lasted_s > INTERLEAVED_S + LONGEST_S)

        condemned = Condemned(Engine(client, namespace, QueueSettings()))
        async with asyncio.TaskGroup() as running:
            for n, store in enumerate(stores):
                client_n = Client(store, batches, condemned, f"w{n}", told, random.Random(f"{seed} {n}"))
                running.create_task(client_n.work(is_over))
            watching = running.create_task(watch(client, namespace, is_over))
        last = await take_snapshot(client, namespace)

    check_places(last)
    check_leaders(last)
    check_history(watching.result(), last)
    told.check(last)
    assert told.has_met_in_every_way
