"""A model in plain Python of how device time should be shared."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from penstock.core.submission import Submission
from penstock.core.task import PRIORITIES, Priority

UNMEASURED_MS, SHORTEST_MS = 1000.0, 0.1
PARKED = math.inf
FEW = 3


class Waiting(Protocol):
    """What the model needs to know of a waiting task."""

    submission: Submission
    order: int


@dataclass
class Turn:
    """The next owner to serve in a class, and the task."""

    priority: Priority
    tenant: str
    caller: str
    task: Waiting


@dataclass
class Clock:
    """The clock of one class in one pool: the start times of tenants and of their callers, and of those who have
    left. `unseen` are models whose callers may be missing."""

    v: float = 0.0
    v_of: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tenants: dict[str, float] = field(default_factory=dict)
    callers: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    left: dict[str, float] = field(default_factory=dict)
    passed: int = 0
    unseen: set[str] = field(default_factory=set)

    def enter(self, tenant: str, caller: str) -> None:
        """Adds an owner who has a task waiting."""
        if caller not in self.callers[tenant]:
            self.tenants.setdefault(tenant, max(self.v, self.left.get(tenant, 0.0)))
            self.callers[tenant][caller] = max(self.v_of[tenant], self.left.get(f"{tenant}/{caller}", 0.0))

    def charge(self, turn: Turn, ms: float) -> None:
        """Charges a claimed task."""
        callers = self.callers[turn.tenant]
        self.v = max(self.v, self.tenants[turn.tenant])
        self.v_of[turn.tenant] = max(self.v_of[turn.tenant], callers[turn.caller])
        self.tenants[turn.tenant] += ms
        callers[turn.caller] += ms

    def leave(self, tenant: str, caller: str) -> None:
        """Takes a caller off whose last task was claimed, and its tenant when that has no other."""
        self.left[f"{tenant}/{caller}"] = self.callers[tenant].pop(caller)
        if not self.callers[tenant]:
            self.left[tenant] = self.tenants.pop(tenant)

    def recharge(self, tenant: str, caller: str, more: float) -> None:
        """Charges the difference when an attempt took longer."""
        flow = f"{tenant}/{caller}"
        for active, name, left in ((self.tenants, tenant, tenant), (self.callers[tenant], caller, flow)):
            if name in active and active[name] != PARKED:
                active[name] += more
            elif left in self.left:
                self.left[left] += more

    def park(self, tenant: str) -> None:
        """Lets no claim come upon a tenant until it is put back."""
        self.left[tenant], self.tenants[tenant] = self.tenants[tenant], PARKED

    def unpark(self, tenant: str) -> bool:
        """Puts a tenant back where it stood, but not before what is served now. Returns whether it was parked."""
        is_parked = self.tenants.get(tenant) == PARKED
        if is_parked:
            self.tenants[tenant] = max(self.v, self.left.get(tenant, 0.0))
        return is_parked

    @property
    def has_turns(self) -> bool:
        """Whether somebody may be served."""
        return bool(self.unseen) or any(start != PARKED for start in self.tenants.values())


class Shares:
    """The clocks of all pools, and the paces of all models."""

    def __init__(
        self,
        guard: int,
        waiting: Callable[[str, Priority], Iterable[Waiting]],
        is_at_cap: Callable[[str], bool],
    ) -> None:
        """`waiting` returns the tasks in the queue of a model and class, `is_at_cap` whether no further task of a
        tenant may run."""
        self._guard, self._waiting, self._is_at_cap = guard, waiting, is_at_cap
        self.pools: dict[tuple[str, ...], dict[Priority, Clock]] = {}
        self.ms: dict[str, float] = {}
        self.size: dict[str, float] = {}
        self._ended: list[float] = []

    def open_pool(self, models: Iterable[str]) -> tuple[str, ...]:
        """Adds the pool of a worker that serves these models."""
        pool = tuple(sorted(models))
        if pool not in self.pools:
            self.pools[pool] = {priority: Clock(unseen=set(pool)) for priority in PRIORITIES}
        return pool

    def enqueue(self, s: Submission, *, is_paused: bool) -> None:
        """Adds the owner of a task that waits now. One with other tasks in the queue stands there already, or is looked
        for, but where the queue is paused."""
        flow = s.tenant, s.caller
        waiting = [t.submission for t in self._waiting(s.request.model, s.priority)]
        if not is_paused and sum((one.tenant, one.caller) == flow for one in waiting) > 1:
            return
        for pool in self._with(s.request.model):
            self.pools[pool][s.priority].enter(s.tenant, s.caller)

    def resume(self, model: str, priorities: Iterable[Priority]) -> None:
        """Ends the pause of these queues."""
        for pool in self._with(model):
            for priority in priorities:
                self.pools[pool][priority].unseen.add(model)

    def unpark(self, tenant: str) -> int:
        """Puts a tenant back in all clocks. Returns in how many it was parked."""
        return sum(clock.unpark(tenant) for clocks in self.pools.values() for clock in clocks.values())

    def choose(
        self, pool: tuple[str, ...], classes: Sequence[Priority], paused: set[tuple[str, Priority]]
    ) -> tuple[Turn | None, set[Priority]]:
        """Returns the next owner to serve, and the classes that are passed over."""
        chosen, due, longest, passed = None, None, self._guard - 1, set()
        for priority in PRIORITIES:
            clock = self.pools[pool][priority]
            if chosen and clock.has_turns:
                passed.add(priority)
                if self._guard and clock.passed > longest:
                    head = self._head(pool, priority, paused)
                    if head is None:
                        passed.discard(priority)
                    else:
                        due, longest = head, clock.passed
            elif not chosen and priority in classes:
                chosen = self._head(pool, priority, paused)
        return due or chosen, passed

    def give(
        self, pool: tuple[str, ...], turn: Turn, passed: set[Priority], paused: set[tuple[str, Priority]]
    ) -> float:
        """Records a claim and returns the charge of its owner."""
        clocks, of = self.pools[pool], turn.task.submission
        for priority in passed:
            clocks[priority].passed += 1
        clocks[turn.priority].passed = 0
        charged = self.expected_ms(of.request.model, of.cost)
        clocks[turn.priority].charge(turn, charged)
        open_models = [model for model in pool if (model, turn.priority) not in paused]
        waiting = [task for model in open_models for task in self._waiting(model, turn.priority)]
        if not any(
            (t.submission.tenant, t.submission.caller) == (of.tenant, of.caller) for t in waiting if t is not turn.task
        ):
            clocks[turn.priority].leave(turn.tenant, turn.caller)
        return charged

    def expected_ms(self, model: str, size: int) -> float:
        """Returns the expected device time of a task of this size."""
        if model not in self.ms:
            return float(size) or UNMEASURED_MS
        ms = self.ms[model] * size / self.size[model] if size and model in self.size else self.ms[model]
        return max(ms, SHORTEST_MS)

    def learn(self, model: str, size: int, ms: float) -> None:
        """Records how long a task took."""
        for known, new in ((self.ms, ms), (self.size, size)):
            if new:
                old = known.get(model)
                known[model] = new if old is None else old + (new - old) / 10

    def recharge(self, pool: tuple[str, ...], s: Submission, more: float) -> None:
        """Charges the difference when an attempt took longer."""
        self._ended.append(abs(more))
        if more:
            self.pools[pool][s.priority].recharge(s.tenant, s.caller, more)

    def waiting_in(self, model: str, priority: Priority) -> Iterable[Waiting]:
        """Returns the tasks in the queue of this model and class."""
        return self._waiting(model, priority)

    def slack_ms(self) -> float:
        """Returns how far start times may be off since the last call. A script that ends several attempts meets them
        by the ends of their leases, which may be equal in the model; an owner who is queued again before another's
        time is given back starts later than after it."""
        ended, self._ended = self._ended, []
        return sum(ended) if len(ended) > 1 else 0.0

    def ahead_in_class(self, task: Waiting) -> int:
        """Returns how many tasks of its model and class should be served before it."""
        of = task.submission
        model, flow = of.request.model, (of.tenant, of.caller)
        waiting = list(self._waiting(model, of.priority))
        count = Counter((t.submission.tenant, t.submission.caller) for t in waiting)
        own = sum(t.order < task.order for t in waiting if (t.submission.tenant, t.submission.caller) == flow)
        others = len(waiting) - count[flow]
        pools = list(self._with(model))
        if not others or not pools:
            return own + others
        clock, ms = self.pools[pools[0]][of.priority], self.expected_ms(model, 0)
        if clock.unseen:
            return own + others
        callers = clock.callers[of.tenant]
        return own + min(others, _served_before(callers, of.caller, own, ms, lambda c: count[of.tenant, c]))

    def _with(self, model: str) -> Iterator[tuple[str, ...]]:
        return (pool for pool in self.pools if model in pool)

    def _head(self, pool: tuple[str, ...], priority: Priority, paused: set[tuple[str, Priority]]) -> Turn | None:
        clock = self.pools[pool][priority]
        for task in (task for model in clock.unseen for task in self._waiting(model, priority)):
            clock.enter(task.submission.tenant, task.submission.caller)
        clock.unseen.clear()
        models = [model for model in pool if (model, priority) not in paused]
        tasks = [task for model in models for task in self._waiting(model, priority)]
        while clock.tenants:
            tenant = _first(clock.tenants)
            if clock.tenants[tenant] == PARKED:
                return None
            if not clock.callers[tenant]:
                clock.left[tenant] = clock.tenants.pop(tenant)
                continue
            if self._is_at_cap(tenant):
                clock.park(tenant)
                continue
            caller = _first(clock.callers[tenant])
            own = [t for t in tasks if (t.submission.tenant, t.submission.caller) == (tenant, caller)]
            if own:
                return Turn(priority, tenant, caller, min(own, key=lambda t: t.order))
            clock.left[f"{tenant}/{caller}"] = clock.callers[tenant].pop(caller)
        return None


def _first(starts: dict[str, float]) -> str:
    return min(starts, key=lambda name: (starts[name], name))


def _served_before(starts: dict[str, float], me: str, own: int, ms: float, count: Callable[[str], int]) -> int:
    """Where they are few."""
    ahead = 0
    for other in starts:
        if other != me:
            rounds = own + ((starts[me] - starts[other]) / ms if me in starts else 0)
            turns = math.floor(rounds) + 1 if other < me else math.ceil(rounds)
            ahead += min(max(turns, 0), count(other))
    assert len(starts) <= FEW
    return ahead
