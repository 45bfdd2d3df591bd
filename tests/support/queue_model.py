"""A model in plain Python of how the queue should behave."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from penstock.core.batch import ENDS, BatchState
from penstock.core.events import EVENTS
from penstock.core.lease import Lease
from penstock.core.submission import EnqueuePermit, Submission
from penstock.core.task import PRIORITIES, TRANSITIONS, Priority, State, Verb
from penstock.errors import (
    BatchAlreadyFinal,
    IdempotencyMismatch,
    QueueFull,
    RateLimited,
    ResultExpired,
    StoreUnavailable,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
    WorkerNotFound,
)
from penstock.store import NotItsTurn
from tests.support.share_model import Shares

REAPER_PAUSE_MS = 3_000
RATE_WINDOW_MS = 60_000
LONG_GAP_MS, GRACE_MS = 60_000, 600_000
LATE_MS = 1_800_000
AWAITED_MS = 7_200_000


@dataclass
class Expected:
    """The expected content of Redis for one task, which is in one place at a time, with one score."""

    submission: Submission
    order: int
    start_by: int | None
    deadline: int | None
    place: str = "queue"  # queue | following | delayed | running | finals
    score: int = 0
    state: State = State.PENDING
    stage: str = "queued"
    epoch: int = 0
    failures: int = 0
    crashes: int = 0
    worker: str | None = None
    progress: tuple[int, int] | None = None
    receipt: str | None = None
    ending: str | None = None
    reuse: str = "miss"
    origin: str | None = None
    leader_started: bool = False
    cut_off: int | None = None
    pool: tuple[str, ...] = ()
    charged: float = 0.0
    took_ms: float | None = None
    inline: int = 0
    inline_due: int = 0
    is_taken: bool = False
    is_capped: bool = False
    attempts: list[tuple[int, str, str]] = field(default_factory=list)
    told: list[State] = field(default_factory=list)

    @property
    def starting(self) -> bool:
        """Whether it has a start limit that still applies."""
        return self.start_by is not None and self.state is State.PENDING and not self.has_started

    @property
    def has_started(self) -> bool:
        """Whether it was claimed, or follows a task that had been claimed when its own start limit came."""
        return self.epoch > 0 or self.leader_started

    @property
    def timed(self) -> bool:
        """Whether it has a deadline that still applies."""
        return self.deadline is not None and not self.state.is_final


@dataclass
class ExpectedBatch:
    """The expected content of Redis for one batch; `is_fed` while a feeder may lease it."""

    total: int
    state: BatchState = BatchState.RUNNING
    fed: int = 0
    epoch: int = 0
    is_fed: bool = True
    open: set[int] = field(default_factory=set)
    rows: list[str] = field(default_factory=list)
    told: list[BatchState] = field(default_factory=list)

    def close(self) -> None:
        """Ends the batch if its last line has ended."""
        if self.fed == self.total and not self.open:
            self.was, self.state, self.is_fed = self.state, ENDS[self.state], False
            self.told.append(self.state)


class QueueModel:
    """The verbs of Store with a dict instead of Redis and a clock that only the test moves. Each returns what the
    real one should return."""

    def __init__(
        self, *, lease_ms: int, guard: int, max_depth: int, max_crashes: int, inline_budget_bytes: int
    ) -> None:
        self._lease_ms, self._max_depth, self._max_crashes = lease_ms, max_depth, max_crashes
        self._inline_budget = inline_budget_bytes
        self.now = 0
        self.tasks: dict[str, Expected] = {}
        self.seen: dict[str, int] = {}
        self.leaders: dict[str, str] = {}
        self.batches: dict[str, ExpectedBatch] = {}
        self.paused: set[tuple[str, Priority]] = set()
        self.drained: set[str] = set()
        self.gone: set[str] = set()
        self.awaited: dict[str, int] = {}
        self.condemned: dict[str, int] = {}
        self._reaped: int | None = None
        self._grace_until = 0
        self.cap = 0
        self.shares = Shares(guard, self._queue, self._is_at_cap)
        self._orders = count()
        self._accepted: defaultdict[str, list[int]] = defaultdict(list)

    def submit(
        self, s: Submission, *, rate_limit: int, is_stored: bool = True
    ) -> tuple[str, bool, int | None, str] | type[Exception] | None:
        """Returns (id, replayed, position, reuse), or None if the task would be queued, and its own input is not stored
        yet and does not stay in Redis."""
        if s.id in self.tasks:
            return self._known(s, s.id, replayed=False)
        if s.permit and (refusal := self._refusal_of(s.permit)):
            return refusal
        if twin := next((t for t in self.tasks.values() if _key(t.submission) == _key(s) is not None), None):
            same = twin.submission.fingerprint == s.fingerprint
            return self._known(s, twin.submission.id, replayed=True) if same else IdempotencyMismatch
        if rate_limit and self.recent(s.caller) >= rate_limit:
            return RateLimited
        role = self._role(s)
        waiting = [t for place in ("queue", "following") for t in self._at(place)]
        if role != "hit" and sum(t.submission.request.model == s.request.model for t in waiting) >= self._max_depth:
            return QueueFull
        if role != "hit" and s.own_input and not self._takes_input(s, is_stored):
            return None if is_stored or s.own_input in self.awaited else StoreUnavailable
        if s.permit:
            self.batches[s.permit.batch].open.add(s.permit.place)
            self.batches[s.permit.batch].fed += 1
        task = Expected(s, next(self._orders), self._in(s.start_within_s), self._in(s.finish_within_s))
        task.inline = s.input_bytes if role != "hit" and s.inline and not is_stored else 0
        self._begin(task, role)
        self.tasks[s.id] = task
        if task.place == "queue":
            self.shares.enqueue(s, is_paused=self._is_paused(s))
        if rate_limit:
            self._accepted[s.caller].append(self.now)
        return self._answer_to(task, replayed=False)

    def claim(self, worker: str, models: Sequence[str], priorities: Sequence[Priority]) -> tuple[str, int] | None:
        """Returns (id, epoch)."""
        if worker in self.drained:
            return None
        for task in self._at("delayed"):
            if task.score <= self.now:
                self._requeue(task)
        pool = self.shares.open_pool(models)
        while True:
            turn, passed_over = self.shares.choose(pool, priorities, self.paused)
            if turn is None:
                return None
            task = turn.task
            if task.timed and task.deadline <= self.now:
                self._finish_as(task, Verb.OVERRUN, "deadline_exceeded")
                continue
            if task.starting and task.start_by <= self.now:
                self._finish_as(task, Verb.EXPIRE, "start_deadline_exceeded")
                continue
            task.pool, task.charged = pool, self.shares.give(pool, turn, passed_over, self.paused)
            task.is_capped = task.is_capped or self.cap > 0
            self._move(task, Verb.CLAIM, "running", self.now + self._lease_ms, stage="fetch")
            task.epoch, task.worker, task.progress, task.took_ms = task.epoch + 1, worker, None, None
            return task.submission.id, task.epoch

    def holds(self, lease: Lease) -> bool:
        """Whether a lease is still valid."""
        task = self.tasks.get(lease.id)
        return task is not None and (task.place, task.epoch) == ("running", lease.epoch)

    def renew(self, worker: str, models: Sequence[str], leases: Iterable[Lease]) -> set[str]:
        """Returns the keys of the lost leases."""
        self.seen[worker] = self.now + self._lease_ms
        self.shares.open_pool(models)
        for lease in (kept for kept in leases if self.holds(kept)):
            self.tasks[lease.id].score = self.now + self._lease_ms
        return {lease.key for lease in leases if not self.holds(lease)}

    def progress(self, lease: Lease, stage: str, done: int, total: int, took_ms: float | None) -> bool:
        """Whether the progress was written."""
        if self.holds(lease):
            self.tasks[lease.id].stage = stage
            self.tasks[lease.id].progress = (done, total) if total else self.tasks[lease.id].progress
            self.tasks[lease.id].took_ms = self.tasks[lease.id].took_ms if took_ms is None else took_ms
        return self.holds(lease)

    def settle(self, verb: Verb, lease: Lease, *, delay_ms: int, ending: str, device_ms: float | None) -> bool:
        """Whether the outcome was accepted, now or before. `device_ms` is the device time of a success."""
        task = self.tasks.get(lease.id)
        receipt = f"{verb} {lease.token}"
        if task is None or task.receipt == receipt or not self.holds(lease):
            return task is not None and task.receipt == receipt
        task.receipt = receipt
        task.failures += verb in (Verb.FAIL, Verb.RETRY)
        self._end_attempt(task, verb, device_ms)
        if verb is Verb.COMPLETE:
            self._answer_equals(task, ending)
        if verb is Verb.RELEASE:
            self._requeue(task, verb)
        elif verb is Verb.RETRY:
            self._part(task)
            self._move(task, verb, "delayed", self.now + delay_ms, stage="retry")
        else:
            self._finish_as(task, verb, ending)
        if verb is Verb.COMPLETE and task.submission.reuse_digest:
            self.leaders[task.submission.reuse_digest] = lease.id
        if device_ms:
            self.shares.learn(task.submission.request.model, task.submission.cost, device_ms)
        return True

    def cancel(self, task_id: str) -> bool | type[Exception]:
        """Whether this call canceled the task."""
        task = self.tasks.get(task_id)
        if task is None:
            return self.absence_of(task_id)
        if task.state.is_final:
            return False if task.state is State.CANCELED else TaskAlreadyFinal
        if task.place == "running":
            self._cut_off(task, "cancel")
        self._finish_as(task, Verb.CANCEL, None)
        return True

    def release_unknown(self, worker: str, known: Iterable[Lease]) -> set[str]:
        """Returns the ids of the released tasks."""
        kept = {(lease.id, lease.epoch) for lease in known}
        held = [t for t in self._at("running") if t.worker == worker]
        unknown = [t for t in held if (t.submission.id, t.epoch) not in kept]
        for task in unknown:
            self._end_attempt(task, "release")
            self._requeue(task, Verb.RELEASE)
        return {task.submission.id for task in unknown}

    def reclaim(self, dead_worker: str = "") -> dict[str, State]:
        """Returns the reclaimed tasks and their new states."""
        last = self.now if self._reaped is None else self._reaped
        if not dead_worker:
            self._look_at_clock(last)
        if dead_worker:
            taken = [t for t in self._at("running") if t.worker == dead_worker]
            self.seen.pop(dead_worker, None)
            self.drained.discard(dead_worker)
        elif not 0 <= self.now - last <= REAPER_PAUSE_MS:
            taken, self._reaped = [], self.now
            for task in self._at("running"):
                task.score = self.now + self._lease_ms
            self.seen = {worker: max(until, self.now + self._lease_ms) for worker, until in self.seen.items()}
        else:
            taken, self._reaped = [t for t in self._at("running") if t.score <= self.now], self.now
            self.seen = {worker: until for worker, until in self.seen.items() if until > self.now}
        for task in taken:
            self._cut_off(task, "lost")
            task.crashes += 1
            if task.crashes >= self._max_crashes:
                self._finish_as(task, Verb.FAIL, "poison_input")
            else:
                self._requeue(task, Verb.RELEASE)
        return {task.submission.id: task.state for task in taken}

    def expire(self) -> set[str]:
        """Returns the ids of the expired tasks."""
        due = [t for t in self.tasks.values() if t.starting and t.start_by <= self.now]
        for task in due:
            leader = self.tasks[self.leaders[task.submission.reuse_digest]] if task.place == "following" else task
            task.leader_started = leader.has_started
        late = [task for task in due if task.starting]
        for task in late:
            self._finish_as(task, Verb.EXPIRE, "start_deadline_exceeded")
        return {task.submission.id for task in late}

    def overrun(self) -> dict[str, State]:
        """Returns the ended tasks and their states."""
        late = [t for t in self.tasks.values() if t.timed and t.deadline <= self.now]
        for task in late:
            if task.place == "running":
                self._cut_off(task, "overrun")
            self._finish_as(task, Verb.OVERRUN, "deadline_exceeded")
        return {task.submission.id: task.state for task in late}

    def resubmit(self, task_id: str) -> bool | type[Exception]:
        """Whether this call queued the task again."""
        task = self.tasks.get(task_id)
        if task is None:
            return self.absence_of(task_id)
        if task.state is State.SUCCESS or not task.state.is_final:
            return TaskAlreadyFinal if task.state is State.SUCCESS else False
        task.failures = task.crashes = 0
        task.start_by = task.deadline = task.receipt = task.progress = task.ending = None
        self._requeue(task, Verb.RESUBMIT)
        if permit := task.submission.permit:
            batch = self.batches[permit.batch]
            batch.open.add(permit.place)
            batch.state = batch.was if batch.state.is_final else batch.state
        return True

    def delete(self, task_id: str) -> set[str] | type[Exception] | None:
        """Returns the objects to delete from the storage, or None if the task is gone already."""
        task = self.tasks.get(task_id)
        if task is None:
            return None if task_id in self.gone else TaskNotFound
        return self._forget(task) if task.state.is_final else TaskNotFinal

    def prune(self) -> int:
        """Returns how many tasks were deleted."""
        over = [t for t in self._at("finals") if t.score <= self.now] if not self._has_grace else []
        for task in over:
            self._forget(task)
        return len(over)

    def take_inline(self, taken_ms: int) -> dict[str, dict[str, bytes]]:
        """Returns the inputs of ended tasks that are to be moved to the storage."""
        if sum(task.inline for task in self.tasks.values()) <= self._inline_budget // 2:
            return {}
        due = [t for t in self._at("finals") if t.inline and t.inline_due <= self.now]
        for task in due:
            task.is_taken, task.inline_due = True, self.now + taken_ms
        return {task.submission.id: dict(task.submission.inline) for task in due}

    def move_inline(self, task_ids: Iterable[str]) -> int:
        """Returns how many of these tasks still had their inputs in Redis."""
        moved = [t for t in map(self.tasks.get, task_ids) if t and t.inline and t.is_taken]
        for task in moved:
            task.inline = 0
        return len(moved)

    def take_condemned(self, taken_ms: int) -> set[str]:
        """Returns the objects to delete now, for any caller."""
        given_up = [key for key, due in self.awaited.items() if due <= self.now and not self._has_grace]
        for key in given_up:
            del self.awaited[key]
            self.condemned[key] = self.now
        taken = {entry for entry, due in self.condemned.items() if due <= self.now}
        self.condemned |= dict.fromkeys(taken, self.now + taken_ms)
        return taken

    def bury(self, entries: Iterable[str]) -> None:
        """Records that the objects are deleted."""
        for entry in entries:
            self.condemned.pop(entry, None)

    def absence_of(self, task_id: str) -> type[Exception]:
        """Returns the error for a task that does not exist."""
        return ResultExpired if task_id in self.gone else TaskNotFound

    def pause(self, model: str, priorities: Iterable[Priority], *, is_on: bool) -> int:
        """Returns how many queues have changed."""
        queues = {(model, priority) for priority in priorities}
        changed = queues - self.paused if is_on else queues & self.paused
        self.paused ^= changed
        if not is_on:
            self.shares.resume(model, priorities)
        for task in [t for t in self._at("following") if t.submission.request.model == model]:
            leader = self.tasks[self.leaders[task.submission.reuse_digest]]
            if leader.place == "queue" and self._class_of(task) < self._class_of(leader):
                self._unfollow(task)
        return len(changed)

    def purge(self, model: str, priorities: Iterable[Priority]) -> int:
        """Returns how many tasks were canceled."""
        of_model = [t for t in self.tasks.values() if t.submission.request.model == model]
        waiting = [t for t in of_model if t.state is State.PENDING and t.submission.priority in priorities]
        for task in reversed(waiting):
            self._finish_as(task, Verb.CANCEL, None)
        return len(waiting)

    def drain(self, worker: str, *, is_on: bool) -> type[Exception] | None:
        """Drains or resumes a worker, which must be registered."""
        if worker not in self.seen and worker not in self.drained:
            return WorkerNotFound
        (self.drained.add if is_on else self.drained.discard)(worker)
        return None

    def set_cap(self, cap: int) -> bool:
        """Sets how many tasks of the tenant may run; 0 is no limit. Whether that is new."""
        changed, self.cap = cap != self.cap, cap
        return changed

    def review_caps(self, tenant: str) -> int:
        """Returns in how many places the tenant was parked, and is no longer."""
        return 0 if self._is_at_cap(tenant) else self.shares.unpark(tenant)

    def _is_at_cap(self, _tenant: str) -> bool:
        return bool(self.cap) and len(self._at("running")) >= self.cap

    def position(self, task_id: str) -> int | None:
        """Returns how many tasks are served before this one."""
        task = self.tasks[task_id]
        if task.place != "queue":
            return None
        model, own = task.submission.request.model, task.submission.priority
        higher = [p for p in PRIORITIES[: PRIORITIES.index(own)] if (model, p) not in self.paused]
        return sum(len(self._queue(model, p)) for p in higher) + self.shares.ahead_in_class(task)

    def recent(self, caller: str) -> int:
        """Returns the submits that count against the rate limit. The others are dropped, whatever the clock does
        later."""
        known = self._accepted[caller]
        self._accepted[caller] = [moment for moment in known if self.now - RATE_WINDOW_MS < moment <= self.now]
        return len(self._accepted[caller])

    def _known(self, s: Submission, task_id: str, *, replayed: bool) -> tuple[str, bool, int | None, str]:
        self.recent(s.caller)
        return self._answer_to(self.tasks[task_id], replayed=replayed)

    def _answer_to(self, task: Expected, *, replayed: bool) -> tuple[str, bool, int | None, str]:
        task_id = task.submission.id
        return task_id, replayed, self.position(task_id), task.reuse

    # Batches

    def start_batch(self, batch_id: str, total: int) -> None:
        """Starts a batch of this many lines."""
        self.batches[batch_id] = ExpectedBatch(total)

    def lease_batches(self) -> dict[str, int]:
        """Returns the epochs of all batches to feed, by their ids."""
        for batch in self.batches.values():
            batch.epoch += batch.is_fed
        return {batch_id: batch.epoch for batch_id, batch in self.batches.items() if batch.is_fed}

    def skip_lines(self, batch_id: str, epoch: int, place: int, count: int, state: State) -> bool:
        """Whether the lines have ended without tasks."""
        batch = self.batches[batch_id]
        if (epoch, place) != (batch.epoch, batch.fed):
            return False
        batch.rows += [f"{line} -{state}" for line in range(place, place + count)]
        batch.fed += count
        batch.close()
        return True

    def cancel_batch(self, batch_id: str) -> type[Exception] | None:
        """Returns why the batch cannot be canceled, if so."""
        batch = self.batches[batch_id]
        if not batch.state.is_final:
            batch.state, batch.epoch, batch.is_fed = BatchState.CANCELING, batch.epoch + 1, True
        return BatchAlreadyFinal if batch.state is BatchState.COMPLETED else None

    def _refusal_of(self, permit: EnqueuePermit) -> type[Exception] | None:
        batch = self.batches[permit.batch]
        is_due = (permit.epoch, permit.place) == (batch.epoch, batch.fed)
        return NotItsTurn if not is_due or len(batch.open) >= permit.window else None

    # Equal tasks

    def _role(self, s: Submission) -> str:
        if s.reuse_digest is None or s.must_run:
            return "alone"
        leader = self.tasks.get(self.leaders.get(s.reuse_digest, ""))
        if leader is not None and leader.state is State.SUCCESS and leader.score > self.now:
            return "hit"
        if leader is None or leader.state is State.SUCCESS:
            return "lead"
        if self._is_paused(leader.submission) != self._is_paused(s):
            return "alone"
        ranks = PRIORITIES.index(leader.submission.priority), PRIORITIES.index(s.priority)
        return "follow" if ranks[0] <= ranks[1] else "lead"

    def _begin(self, task: Expected, role: str) -> None:
        digest = task.submission.reuse_digest
        if role == "hit":
            leader = self.tasks[self.leaders[digest]]
            self._answer_from(leader, task, "hit", leader.ending)
        elif role == "follow":
            self._follow(task)
        elif role == "lead":
            self._step_down(digest)
            self.leaders[digest] = task.submission.id

    def _followers(self, digest: str) -> list[Expected]:
        return [task for task in self._at("following") if task.submission.reuse_digest == digest]

    def _follow(self, task: Expected) -> None:
        task.place, task.reuse = "following", "coalesced"

    def _step_down(self, digest: str) -> None:
        leader = self.tasks.get(self.leaders.get(digest, ""))
        if leader is not None and leader.place == "queue":
            self._follow(leader)

    def _answer_equals(self, task: Expected, ending: str) -> None:
        if digest := task.submission.reuse_digest:
            self._step_down(digest)
            for follower in self._followers(digest):
                self._answer_from(task, follower, "coalesced", ending)

    def _answer_from(self, origin: Expected, task: Expected, how: str, ending: str | None) -> None:
        self._finish_as(task, Verb.REUSE, ending)
        task.reuse, task.origin = how, origin.submission.id

    def _part(self, task: Expected) -> None:
        digest = task.submission.reuse_digest
        if task.place == "following":
            task.reuse = "miss"
        elif digest is not None and self.leaders.get(digest) == task.submission.id:
            del self.leaders[digest]
            followers = self._followers(digest)
            if followers:  # the one that would be served first leads the others
                first = min(followers, key=lambda t: (self._class_of(t), t.order))
                self._unfollow(first)
                first.crashes = max(first.crashes, task.crashes)
                self.leaders[digest] = first.submission.id

    def _unfollow(self, task: Expected) -> None:
        task.place, task.reuse = "queue", "miss"
        self.shares.enqueue(task.submission, is_paused=self._is_paused(task.submission))

    def _class_of(self, task: Expected) -> tuple[bool, int]:
        """Returns the rank of the task's class in the order of service; classes of paused queues come last."""
        return self._is_paused(task.submission), PRIORITIES.index(task.submission.priority)

    # The storage, and the clock

    def _takes_input(self, s: Submission, is_stored: bool) -> bool:
        """Whether the input stays in Redis, or is stored and was awaited. A missing input is awaited from now on
        unless it is to be deleted; one that comes too late is to be deleted."""
        key = str(s.own_input)
        if not is_stored:
            if s.inline and s.input_bytes + sum(t.inline for t in self.tasks.values()) <= self._inline_budget:
                return True
            if not self.condemned.keys() & {key, f"again {key}"}:
                self.awaited[key] = self.now + AWAITED_MS
        elif self.awaited.pop(key, None) is None:
            self._condemn(key, self.now + LATE_MS)
        else:
            return True
        return False

    def _condemn(self, entry: str, late: int | None = None) -> set[str]:
        self.condemned[entry] = self.now
        if late is not None and late > self.now:
            self.condemned[f"again {entry}"] = late
        return {entry}

    def _forget(self, task: Expected) -> set[str]:
        of, condemned = task.submission, set[str]()
        self._part(task)
        del self.tasks[of.id]
        self.gone.add(of.id)
        if task.reuse != "hit" and of.own_input and (task.is_taken or not task.inline):
            condemned |= self._condemn(of.own_input, self.now + LATE_MS if task.inline else None)
        origin = task.origin or of.id
        if not any(origin in (t.origin, t.submission.id) for t in self.tasks.values()):
            late = max(task.cut_off or 0, task.score - task.submission.result_ttl_s * 1000) + LATE_MS
            if task.origin:  # whether an attempt at the origin was cut off is no longer known
                late = self.now + LATE_MS
            condemned |= self._condemn(f"results/{of.tenant}/{origin}/", late)
        return condemned

    @property
    def _has_grace(self) -> bool:
        """Whether a jump of the clock gives leases more time: it was noticed, or no call has seen it yet."""
        unseen = self._reaped is not None and self.now - self._reaped > LONG_GAP_MS
        return self.now < self._grace_until or unseen

    def _look_at_clock(self, last: int) -> None:
        if self.now < last:
            self._grace_until = 0
            for task in self._at("delayed"):
                task.score -= last - self.now
            self.condemned = {entry: due - (last - self.now) for entry, due in self.condemned.items()}
            self.seen = {worker: until - (last - self.now) for worker, until in self.seen.items()}
        elif self.now - last > LONG_GAP_MS:
            self._grace_until = self.now + min(self.now - last, GRACE_MS)

    # Places

    def _in(self, seconds: float | None) -> int | None:
        return None if seconds is None else self.now + int(seconds * 1000)

    def _at(self, place: str) -> list[Expected]:
        return [task for task in self.tasks.values() if task.place == place]

    def _queue(self, model: str, priority: Priority) -> list[Expected]:
        of = [(t, t.submission) for t in self._at("queue")]
        return [t for t, s in of if (s.request.model, s.priority) == (model, priority)]

    def _is_paused(self, of: Submission) -> bool:
        return (of.request.model, of.priority) in self.paused

    def _move(self, task: Expected, verb: Verb, place: str, score: int, *, stage: str) -> None:
        task.state = TRANSITIONS[task.state, verb]
        task.place, task.score, task.stage = place, score, stage

    def _requeue(self, task: Expected, verb: Verb | None = None) -> None:
        """Puts the task back at its former place."""
        self._part(task)
        task.state = TRANSITIONS[task.state, verb] if verb else task.state
        task.place, task.stage = "queue", "queued"
        self.shares.enqueue(task.submission, is_paused=self._is_paused(task.submission))

    def _finish_as(self, task: Expected, verb: Verb, ending: str | None) -> None:
        self._part(task)
        self._move(task, verb, "finals", self.now + task.submission.result_ttl_s * 1000, stage="done")
        task.inline_due = self.now
        task.ending = ending
        webhook = task.submission.request.webhook
        if webhook is not None and EVENTS[task.state] in webhook.events:
            task.told.append(task.state)
        if permit := task.submission.permit:
            batch = self.batches[permit.batch]
            batch.rows.append(f"{permit.place} {task.state}")
            batch.open.discard(permit.place)
            batch.close()

    def _cut_off(self, task: Expected, outcome: str) -> None:
        """Ends an attempt whose worker may still store a result."""
        task.cut_off = self.now
        self._end_attempt(task, outcome)

    def _end_attempt(self, task: Expected, outcome: str, device_ms: float | None = None) -> None:
        took = device_ms if device_ms is not None else _taken_ms(task)
        self.shares.recharge(task.pool, task.submission, took - task.charged)
        if task.is_capped:
            self.shares.unpark(task.submission.tenant)
        task.attempts.append((task.epoch, str(task.worker), outcome))


def _key(s: Submission) -> tuple[str, str] | None:
    return (s.caller, s.request.client_request_id) if s.request.client_request_id else None


def _taken_ms(task: Expected) -> float:
    """Returns the device time in ms as far as the progress shows it."""
    if task.stage in ("fetch", "load", "prepare"):
        return 0.0
    if task.stage != "infer":
        return task.charged if task.took_ms is None else task.took_ms
    if task.progress is None:
        return 0.0 if task.took_ms is None else task.charged
    done, total = task.progress
    tiles = min(total, done + 1)
    return task.charged * tiles / total if task.took_ms is None else task.took_ms * tiles / done
