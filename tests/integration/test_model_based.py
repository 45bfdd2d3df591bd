"""The scripts against a model: random verbs on a real Redis, and after every step it holds what the model says.

`HYPOTHESIS_PROFILE=nightly` looks for half an hour instead of half a minute.
"""

import asyncio
import json
import os
import secrets
from collections import Counter, defaultdict
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from penstock.errors import PenstockError, ResultExpired, TaskNotFound
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Redis, TaskStore, connect
from penstock.store.keys import idempotency_digest
from penstock.task import (
    PRIORITIES,
    TENANT,
    TRANSITIONS,
    Lease,
    Outcome,
    Problem,
    Progress,
    Result,
    State,
    Submission,
    Verb,
)
from tests.integration.queue_model import Expected, QueueModel
from tests.integration.stores import drop, submission, worker_info

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
QUICK = settings(
    max_examples=70,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
PROFILE = settings(QUICK, max_examples=6000, stateful_step_count=80) if NIGHTLY else QUICK
INTERLEAVED_S = 60.0 if NIGHTLY else 3.0

TICK_MS = 2_100
"""Every limit of the queue (below, the reaper's 3 s, the rate's 60 s) is half a second or more from any multiple of
it, so that the few ms a step really takes never decide anything."""
LEASE_S = 5.25
RESULT_TTL_S = 20
DELAYS_MS = (1_050, 7_350)
LIMITS_S = (None, None, 1.05, 7.35)
SAME_MOMENT_MS = 500

CALLERS = ("alice", "bob")
WORKERS = ("w1", "w2", "w3")
MODELS = ("upscale", "score")
SETTLING = (Verb.COMPLETE, Verb.FAIL, Verb.RETRY, Verb.RELEASE)
LOST_ATTEMPT = Problem(code="input_download_failed", message="timed out", retryable=True)

SET_CLOCK = """
-- Give the namespace a clock of its own, which stands still until it is set again: what is due is moved instead.
-- ARGV  1 the moment it shall be (ms)  2 what this script has answered before, or ''
-- Answers how far the server's clock is ahead (ms).
local t = redis.call('TIME')
local ahead = t[1] * 1000 + math.floor(t[2] / 1000) - ARGV[1]
local by = ARGV[2] == '' and 0 or ahead - ARGV[2]
local function shift(name, by)
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1] .. name, 0, -1)) do
    redis.call('ZINCRBY', KEYS[1] .. name, by, member)
  end
end
for _, name in ipairs({'running', 'delayed', 'starting', 'deadlines', 'finals', 'workers:seen'}) do shift(name, by) end
for _, name in ipairs({'rate:alice', 'rate:bob'}) do shift(name, by * 1000) end
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. 'task:*')) do
  for _, field in ipairs({'start_by', 'deadline'}) do
    if redis.call('HEXISTS', key, field) == 1 then redis.call('HINCRBY', key, field, by) end
  end
end
if redis.call('EXISTS', KEYS[1] .. 'reaper') == 1 then redis.call('INCRBY', KEYS[1] .. 'reaper', by) end
return ahead
"""

SNAPSHOT = """
-- Everything in the namespace at one moment: {key, content, key, content ...}.
local read = {string = {'GET'}, hash = {'HGETALL'}, list = {'LRANGE', 0, -1}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}}
local answer = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  answer[#answer + 1] = string.sub(key, #KEYS[1] + 1)
  answer[#answer + 1] = kind
  answer[#answer + 1] = redis.call(read[kind][1], key, unpack(read[kind], 2))
end
return answer
"""

SUBMITS = st.fixed_dictionaries(
    {
        "caller": st.sampled_from(CALLERS),
        "priority": st.sampled_from(PRIORITIES),
        "model": st.sampled_from(MODELS),
        "cost": st.integers(1, 5000),
        "client_request_id": st.sampled_from((None, "one", "two")),
        "fingerprint": st.sampled_from(("f", "f", "another")),
        "start_within_s": st.sampled_from(LIMITS_S),
        "finish_within_s": st.sampled_from(LIMITS_S),
    }
)
CLAIMS = st.fixed_dictionaries(
    {
        "worker": st.sampled_from(WORKERS),
        "models": st.sampled_from((MODELS, MODELS[::-1], MODELS[:1], MODELS[1:])),
        "priorities": st.sampled_from((PRIORITIES, PRIORITIES, PRIORITIES[:1])),
    }
)
PROGRESS = st.sampled_from((("prepare", 0, 0), ("infer", 1, 4), ("infer", 4, 4)))

T = TypeVar("T")


class QueueMachine(RuleBasedStateMachine):
    """One rule for each thing that a caller, a worker, the maintenance or time does."""

    submissions: Bundle[Submission] = Bundle("submissions")
    held: Bundle[Lease] = Bundle("held")
    used: Bundle[Lease] = Bundle("used")

    def __init__(self, redis_url: str, *, guard: int) -> None:
        super().__init__()
        limits = {"max_depth": 8, "max_crashes": 3}
        self.model = QueueModel(lease_ms=int(LEASE_S * 1000), guard=guard, **limits)
        self.namespace = f"test-{secrets.token_hex(6)}"
        self.loop = asyncio.new_event_loop()
        self.closing = AsyncExitStack()
        connected = connect(RedisSettings(url=redis_url, namespace=self.namespace))
        self.client = self.loop.run_until_complete(self.closing.enter_async_context(connected))
        queue = QueueSettings(lease_s=LEASE_S, starvation_guard=guard, **limits)
        self.store = TaskStore(self.client, self.namespace, queue)
        self.clock_ahead: str = ""
        self.known: dict[str, list[Lease]] = {worker: [] for worker in WORKERS}
        self.pruned: set[str] = set()
        self.submitted = 0
        self.before = Snapshot([])

    def teardown(self) -> None:
        self.loop.run_until_complete(drop(self.client, self.namespace))
        self.loop.run_until_complete(self.closing.aclose())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def do(self, call: Awaitable[T]) -> T | type[PenstockError]:
        """The answer to this call at the model's moment, or the class of its refusal."""

        async def at_the_moment() -> T | type[PenstockError]:
            arguments = (1, f"{{{self.namespace}}}:", self.model.now, self.clock_ahead)
            self.clock_ahead = str(await self.client.eval(SET_CLOCK, *arguments))
            try:
                return await call
            except PenstockError as refusal:
                return type(refusal)

        return self.loop.run_until_complete(at_the_moment())

    # Callers

    @rule(target=submissions, many=st.lists(SUBMITS, min_size=1, max_size=3), rate_limit=st.sampled_from((0, 0, 4)))
    def submit(self, many: list[dict[str, Any]], rate_limit: int) -> Any:
        made = []
        for options in many:
            self.submitted += 1
            # Ids are counted up, so that an example runs the same way when it is run again.
            made.append(msgspec.structs.replace(as_submission(options), id=f"tsk_{self.submitted:032x}"))
            self.submit_one(made[-1], rate_limit)
        return multiple(*made)

    @rule(submission=submissions, rate_limit=st.sampled_from((0, 4)))
    def repeat_a_submit(self, submission: Submission, rate_limit: int) -> None:
        if submission.id not in self.pruned:
            self.submit_one(submission, rate_limit)

    def submit_one(self, submission: Submission, rate_limit: int) -> None:
        expected = self.model.submit(submission, rate_limit=rate_limit)

        answer = self.do(self.store.submit(submission, rate_limit=rate_limit))

        if isinstance(answer, type):
            assert answer is expected
        else:
            assert (answer.id, answer.replayed, answer.position) == expected
            assert not rate_limit or answer.rate_left == rate_limit - self.model.recent(submission.caller)

    @rule(submission=submissions)
    def cancel(self, submission: Submission) -> None:
        expected = self.model.cancel(submission.id)

        assert self.do(self.store.cancel(submission.id, TENANT)) == expected
        assert self.do(self.store.cancel(submission.id, "another")) is TaskNotFound

    @rule(submission=submissions)
    def resubmit(self, submission: Submission) -> None:
        expected = self.model.resubmit(submission.id)

        assert self.do(self.store.resubmit(submission.id, TENANT)) == expected
        assert self.do(self.store.resubmit(submission.id, "another")) is TaskNotFound

    @rule(submission=submissions)
    def look(self, submission: Submission) -> None:
        task = self.do(self.store.get(submission.id, TENANT))
        expected = self.model.tasks.get(submission.id)

        if isinstance(task, type):
            assert expected is None
            assert task is (ResultExpired if submission.id in self.pruned else TaskNotFound)
        else:
            assert expected is not None
            assert (task.state, task.stage) == (expected.state, expected.stage)
            assert task.position == self.model.position(submission.id)

    # Workers

    @rule(target=held, options=CLAIMS)
    def claim(self, options: dict[str, Any]) -> Any:
        lease = self.claim_one(options)
        if lease is None:
            return multiple()
        self.known[options["worker"]].append(lease)
        return lease

    @rule(options=CLAIMS)
    def claim_without_hearing_the_answer(self, options: dict[str, Any]) -> None:
        self.claim_one(options)

    def claim_one(self, options: dict[str, Any]) -> Lease | None:
        expected = self.model.claim(**options)

        answer = self.do(self.store.claim(device="cpu", **options))

        lease = answer.lease
        assert (lease and (lease.id, lease.epoch)) == expected
        if lease is None:
            due = min((t.score for t in self.model.tasks.values() if t.place == "delayed"), default=None)
            wait_s = None if due is None else pytest.approx((due - self.model.now) / 1000, abs=SAME_MOMENT_MS / 1000)
            assert answer.next_due_s == wait_s
        else:
            task = self.model.tasks[lease.id]
            assert (lease.request, lease.caller) == (task.submission.request, task.submission.caller)
            assert (lease.priority, lease.failures) == (task.submission.priority, task.failures)
        return lease

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        expected = self.model.renew(worker, self.known[worker])

        assert self.do(self.store.renew(worker_info(worker), self.known[worker])) == expected

    @rule(lease=held | used, progress=PROGRESS)
    def report(self, lease: Lease, progress: tuple[Any, int, int]) -> None:
        stage, done, total = progress
        expected = self.model.progress(lease, *progress)

        assert self.do(self.store.progress(lease, stage, Progress(done=done, total=total))) == expected

    @rule(target=used, lease=consumes(held), verb=st.sampled_from(SETTLING), delay_ms=st.sampled_from(DELAYS_MS))
    def settle(self, lease: Lease, verb: Verb, delay_ms: int) -> Lease:
        for leases in self.known.values():
            leases[:] = [other for other in leases if other != lease]
        self.settle_one(lease, verb, delay_ms)
        return lease

    @rule(lease=used, verb=st.sampled_from(SETTLING), delay_ms=st.sampled_from(DELAYS_MS))
    def settle_again(self, lease: Lease, verb: Verb, delay_ms: int) -> None:
        self.settle_one(lease, verb, delay_ms)

    def settle_one(self, lease: Lease, verb: Verb, delay_ms: int) -> None:
        expected = self.model.settle(verb, lease, delay_ms=delay_ms, ending=ending_of(verb, lease))

        assert self.do(settling(self.store, verb, lease, delay_ms=delay_ms)) == expected

    @rule(worker=st.sampled_from(WORKERS))
    def disown(self, worker: str) -> None:
        known = [lease.id for lease in self.known[worker]]
        expected = self.model.disown(worker, known)

        assert set(self.do(self.store.disown(worker, known))) == expected

    # Maintenance

    @rule(dead_worker=st.sampled_from(("", *WORKERS)))
    def reclaim(self, dead_worker: str) -> None:
        expected = self.model.reclaim(dead_worker)

        answer = self.do(self.store.reclaim(dead_worker))

        assert {taken.id: taken.state for taken in answer} == expected

    @rule()
    def expire(self) -> None:
        expected = self.model.expire()

        assert {task_id for task_id, _ in self.do(self.store.expire())} == expected

    @rule()
    def overrun(self) -> None:
        expected = self.model.overrun()

        assert {task_id: state for task_id, _, state in self.do(self.store.overrun())} == expected

    @rule()
    def prune(self) -> None:
        everything = list(self.model.tasks)
        expected = self.model.prune()

        assert self.do(self.store.prunable()).keys() == expected
        assert self.do(self.store.prune(everything)) == len(expected)
        self.pruned |= expected

    # Time, and the server

    @rule(ticks=st.integers(1, 5), alive=st.sets(st.sampled_from(WORKERS)))
    def time_passes(self, ticks: int, alive: set[str]) -> None:
        for _ in range(ticks):
            self.model.now += TICK_MS
            for worker in sorted(alive):
                self.renew(worker)
            self.reclaim("")

    @rule(ticks=st.sampled_from((1, 3, 10, 30, -2)))
    def the_clock_jumps(self, ticks: int) -> None:
        self.model.now += ticks * TICK_MS

    @rule()
    def forget_scripts(self) -> None:
        self.do(self.client.script_flush())

    @invariant()
    def redis_holds_what_the_model_says(self) -> None:
        snapshot = self.loop.run_until_complete(take_snapshot(self.client, self.namespace))
        check_places(snapshot)
        check_moves(self.before, snapshot)
        check_agreement(self.model, snapshot, ahead_ms=int(self.clock_ahead or 0))
        self.before = snapshot


class Snapshot:
    """All keys of a namespace, without its root."""

    def __init__(self, flat: Sequence[Any]) -> None:
        rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        self.keys = {key.decode(): _decoded(kind.decode(), value) for key, kind, value in rows}
        self.records: dict[str, dict[str, str]] = self.under("task:")

    def under(self, prefix: str) -> dict[str, Any]:
        """What comes after this prefix -> the content."""
        return {key.removeprefix(prefix): value for key, value in self.keys.items() if key.startswith(prefix)}

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        """The ended attempts of a task."""
        return [json.loads(entry) for entry in self.keys.get(f"attempts:{task_id}", [])]


def _decoded(kind: str, value: Any) -> Any:
    if kind == "string":
        return value.decode()
    texts = [part.decode() for part in value]
    if kind == "list":
        return texts
    values = map(float, texts[1::2]) if kind == "zset" else texts[1::2]
    return dict(zip(texts[::2], values, strict=True))


async def take_snapshot(client: Redis, namespace: str) -> Snapshot:
    """At one moment."""
    return Snapshot(await client.eval(SNAPSHOT, 1, f"{{{namespace}}}:"))


def check_places(snapshot: Snapshot) -> None:
    """Every task is exactly where its state says, and nothing is anywhere without its task."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for place in [key for key in snapshot.keys if key.startswith("queue:") or key in ("delayed", "running", "finals")]:
        for task_id in snapshot.keys[place]:
            found[task_id].add(place)
    index: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for task_id, record in snapshot.records.items():
        state = State(record["state"])
        waits = "delayed" if record["stage"] == "retry" else f"queue:{record['model']}:{record['priority']}"
        assert found.pop(task_id, set()) == {
            "finals" if state.is_final else "running" if state is State.RUNNING else waits
        }
        index[f"state:{record['tenant']}:{state}"][task_id] = int(record["created"])
        attempts = Counter(entry["outcome"] for entry in snapshot.attempts(task_id))
        assert attempts.total() == int(record["epoch"]) - (state is State.RUNNING), "each claim ends once"
        assert attempts["lost"] >= int(record["crashes"])
        assert attempts["fail"] + attempts["retry"] >= int(record["failures"])
        assert attempts["complete"] == (state is State.SUCCESS)
    assert found == {}, "in a place, but there is no such task"
    assert {key: value for key, value in snapshot.keys.items() if key.startswith("state:")} == index
    live = {t: record.keys() for t, record in snapshot.records.items() if not State(record["state"]).is_final}
    limited = {t for t, fields in live.items() if fields & {"start_by", "started"} == {"start_by"}}
    assert snapshot.keys.get("starting", {}).keys() == limited
    assert snapshot.keys.get("deadlines", {}).keys() == {t for t, fields in live.items() if "deadline" in fields}
    assert snapshot.under("body:").keys() == snapshot.records.keys()
    of_tasks = {key.partition(":")[2] for key in snapshot.keys if "tsk_" in key and not key.startswith("gone:")}
    assert of_tasks == snapshot.records.keys(), "a pruned task leaves nothing but the mark that it is gone"
    named = {record["idem"]: task_id for task_id, record in snapshot.records.items() if "idem" in record}
    assert {digest: value.split()[0] for digest, value in snapshot.under("idem:").items()} == named
    assert snapshot.keys.get("workers", {}).keys() == snapshot.keys.get("workers:seen", {}).keys()


def check_moves(before: Snapshot, after: Snapshot) -> None:
    """From one step to the next, a task makes at most one allowed move, and one that has ended does not change."""
    allowed = {(source, target) for (source, _), target in TRANSITIONS.items()}
    for task_id, old in before.records.items():
        source, new = State(old["state"]), after.records.get(task_id)
        if new is None:
            assert source.is_final, "only what is final is ever deleted"
            continue
        assert new["state"] == source or (source, State(new["state"])) in allowed
        started = (source, new["state"]) == (State.PENDING, State.RUNNING)
        assert int(new["epoch"]) == int(old["epoch"]) + started
        ended = before.attempts(task_id)
        assert after.attempts(task_id)[: len(ended)] == ended
        if source.is_final and new["state"] == source:
            assert unmoved(new) == unmoved(old)
            assert after.under("outcome:").get(task_id) == before.under("outcome:").get(task_id)


def unmoved(record: dict[str, str]) -> dict[str, str]:
    """All fields that our clock does not touch."""
    return {name: value for name, value in record.items() if name not in ("start_by", "deadline")}


def check_agreement(model: QueueModel, snapshot: Snapshot, *, ahead_ms: int) -> None:
    """Records, places, order and moments are those of the model."""
    tasks = model.tasks
    assert {t: seen_of(snapshot, t) for t in snapshot.records} == {t: seen_of_model(e) for t, e in tasks.items()}
    for task_id, task in tasks.items():
        digest = snapshot.records[task_id].get("idem")
        name = task.submission.request.client_request_id
        assert digest == (idempotency_digest(task.submission.caller, name) if name else None)
        if task.place == "queue":
            queue = f"queue:{task.submission.request.model}:{task.submission.priority}"
            assert snapshot.keys[queue][task_id] == task.score
    moments = {place: {t: e.score for t, e in tasks.items() if e.place == place} for place in ("delayed", "running")}
    moments["finals"] = {t: e.score for t, e in tasks.items() if e.state.is_final}
    moments["starting"] = {t: e.start_by for t, e in tasks.items() if e.starting}
    moments["deadlines"] = {t: e.deadline for t, e in tasks.items() if e.timed}
    moments["workers:seen"] = model.seen
    for place, expected in moments.items():
        found = {member: score - ahead_ms for member, score in snapshot.keys.get(place, {}).items()}
        assert found.keys() == expected.keys(), place
        assert all(abs(found[member] - expected[member]) < SAME_MOMENT_MS for member in found), (place, found, expected)


def seen_of(snapshot: Snapshot, task_id: str) -> tuple[Any, ...]:
    """What the model knows too of a record."""
    f = snapshot.records[task_id]
    outcome = msgspec.json.decode(snapshot.keys.get(f"outcome:{task_id}", "{}"), type=Outcome)
    ending = outcome.error.code if outcome.error else outcome.result and outcome.result.data["by"]
    progress = (int(f["done"]), int(f["total"])) if "total" in f else None
    attempts = [(entry["n"], entry["worker"], entry["outcome"]) for entry in snapshot.attempts(task_id)]
    counts = (int(f["epoch"]), int(f["failures"]), int(f["crashes"]), int(f["vft"]))
    return f["state"], f["stage"], counts, f.get("worker"), progress, f.get("receipt"), ending, attempts


def seen_of_model(e: Expected) -> tuple[Any, ...]:
    """The same, from the model."""
    counts = (e.epoch, e.failures, e.crashes, e.vft)
    return e.state, e.stage, counts, e.worker, e.progress, e.receipt, e.ending, e.attempts


def as_submission(options: dict[str, Any]) -> Submission:
    """With a retention that the clock can pass."""
    return submission(result_ttl_s=RESULT_TTL_S, **options)


def ending_of(verb: Verb, lease: Lease) -> str:
    """A mark in the outcome that says who wrote it."""
    return f"{verb} {lease.epoch}"


def settling(store: TaskStore, verb: Verb, lease: Lease, *, delay_ms: int) -> Awaitable[bool]:
    """The call of a verb that ends an attempt."""
    mark = ending_of(verb, lease)
    if verb is Verb.COMPLETE:
        return store.complete(lease, Outcome(result=Result(data={"by": mark})))
    if verb is Verb.FAIL:
        return store.fail(lease, Outcome(error=Problem(code=mark, message="it cannot be done", retryable=False)))
    if verb is Verb.RETRY:
        return store.retry(lease, LOST_ATTEMPT, delay_ms=delay_ms)
    return store.release(lease)


@pytest.mark.timeout(3600 if NIGHTLY else 180)
@pytest.mark.parametrize("guard", [0, 2])
def test_the_scripts_do_what_the_model_says(redis_url: str, guard: int) -> None:
    run_state_machine_as_test(lambda: QueueMachine(redis_url, guard=guard), settings=PROFILE)
