"""What a worker holds: how far ahead it claims, what it gives back, and what that makes of a backlog."""

import heapq
import math
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import PRIORITIES, Priority, Progress
from penstock.worker.batcher.costs import Costs
from penstock.worker.batcher.device_work import BatchKey
from penstock.worker.prefetch import AHEAD_S, GIVE_WAY_S, WORTH_S, Prefetch

MODEL, OTHER = "slow", "other"
BEGUN = Progress(done=0, total=1)
_numbers = count()


def lease(device_s: float | None, *, model: str = MODEL, priority: Priority = Priority.NORMAL, **members: Any) -> Lease:
    usual: dict[str, Any] = {"epoch": 1, "failures": 0, "crashes": 0}
    return Lease(
        id=f"tsk_{next(_numbers)}",
        fence="f",
        tenant="default",
        caller="alice",
        priority=priority,
        max_retries=3,
        timeout_s=60,
        waited_ms=0,
        request=Request(model=model, inputs={"image": Source(data=b"")}, params={}, output=OutputOptions()),
        device_ms=None if device_s is None else device_s * 1000,
        **usual | members,
    )


def one_stream() -> Prefetch:
    return Prefetch(1, lambda model: 1)


def taken(held: Prefetch, device_s: float | None, now: float = 0.0, **members: Any) -> str:
    """Claim a task; its key."""
    made = lease(device_s, **members)
    held.add(made, now)
    return made.key


def ready(held: Prefetch, device_s: float | None, now: float = 0.0, **members: Any) -> str:
    """Claim a task whose input is ready at once."""
    key = taken(held, device_s, now, **members)
    for stage in ("fetch", "prepare", "infer"):
        held.note(key, stage, None, now)  # type: ignore[arg-type]
    return key


def begun(held: Prefetch, device_s: float | None, now: float = 0.0, **members: Any) -> str:
    """Claim a task that the device begins at once."""
    key = ready(held, device_s, now, **members)
    held.note(key, "infer", BEGUN, now)
    return key


# --- claiming ---------------------------------------------------------------------------------------------------


def test_a_worker_with_nothing_wants_tasks_of_every_class() -> None:
    assert one_stream().wanted(0) == PRIORITIES


def test_a_long_task_in_hand_is_enough_until_the_device_has_begun_it() -> None:
    held = one_stream()
    key = ready(held, 10)

    assert held.wanted(0) == (Priority.HIGH,), "of the others it has enough"
    held.note(key, "infer", BEGUN, 0)
    assert held.wanted(0) == PRIORITIES, "the next one is to be there when this one ends"
    ready(held, 10)
    assert held.wanted(0) == (Priority.HIGH,)


def test_small_tasks_are_claimed_as_far_ahead_as_they_take_together() -> None:
    held, claimed = one_stream(), 0
    while len(held.wanted(0)) == len(PRIORITIES):
        ready(held, AHEAD_S / 8)
        claimed += 1

    assert claimed == 8


def test_a_task_of_a_higher_class_is_claimed_whatever_there_is_of_lower_ones() -> None:
    held = one_stream()
    begun(held, 10, priority=Priority.LOW)
    ready(held, 10, priority=Priority.LOW)
    assert held.wanted(0) == (Priority.HIGH, Priority.NORMAL)

    ready(held, 10, priority=Priority.NORMAL)
    assert held.wanted(0) == (Priority.HIGH,)

    ready(held, 10, priority=Priority.HIGH)
    assert held.wanted(0) == ()


def test_of_a_model_that_was_never_measured_one_is_on_the_device_and_one_waits() -> None:
    held = one_stream()
    begun(held, None)
    assert held.wanted(0) == PRIORITIES

    ready(held, None)
    assert held.wanted(0) == (Priority.HIGH,)
    assert held.wanted(0.1) == (Priority.HIGH,), "nor does a moment change that"


def test_inputs_that_take_long_are_fetched_as_much_earlier() -> None:
    held = one_stream()
    first = taken(held, 1)
    held.note(first, "fetch", None, 0)
    held.note(first, "prepare", None, 2)
    held.note(first, "infer", None, 2)
    held.note(first, "infer", BEGUN, 2)

    assert held.ahead_s == 2 + AHEAD_S
    waiting = 0
    while len(held.wanted(2)) == len(PRIORITIES):
        taken(held, 1, 2)
        waiting += 1
    assert waiting == 2, "3 s of device time, with the one that runs"


def test_an_input_that_does_not_come_holds_nothing_up() -> None:
    """Its task counts as feeding the device no longer than inputs take."""
    held = one_stream()
    held.note(taken(held, 10), "fetch", None, 0)
    assert held.wanted(0) == (Priority.HIGH,)
    assert 0 < held.changes_in_s(0) <= AHEAD_S

    assert held.wanted(AHEAD_S + 0.01) == PRIORITIES


def test_the_wait_for_memory_is_no_reason_to_claim_further_ahead() -> None:
    held = one_stream()
    key = taken(held, 1)
    for at, stage in ((0, "fetch"), (0, "prepare"), (100, "prepare"), (100.5, "infer")):
        held.note(key, stage, None, at)  # type: ignore[arg-type]

    assert held.ahead_s == 0.5 + AHEAD_S


def test_a_task_that_takes_longer_than_it_should_makes_no_busy_device_look_free() -> None:
    held = one_stream()
    begun(held, 1)
    ready(held, 1)

    assert held.wanted(0.9) == (Priority.HIGH,)
    assert held.wanted(3) == (Priority.HIGH,), "2 s late, so that 2 more are expected"


def test_each_stream_of_a_processor_has_something_to_do() -> None:
    held = Prefetch(2, lambda model: 2)
    begun(held, 10)
    assert held.is_idle(0)
    assert held.wanted(0) == PRIORITIES

    begun(held, 10)
    assert not held.is_idle(0)
    ready(held, 10)
    assert held.wanted(0) == (Priority.HIGH,)


def test_of_a_model_that_runs_once_at_a_time_no_task_waits_for_a_stream_it_cannot_use() -> None:
    held = Prefetch(8, lambda model: 1)
    begun(held, 10)
    ready(held, 10)

    assert held.wanted(0) == (Priority.HIGH,)


def test_a_task_of_many_tiles_keeps_all_streams_busy() -> None:
    held = Prefetch(2, lambda model: 2)
    held.note(ready(held, 10), "infer", Progress(done=0, total=10), 0)

    assert not held.is_idle(0)


@pytest.mark.parametrize("stage", ["postprocess", "upload"])
def test_what_has_left_the_device_is_not_in_hand(stage: Any) -> None:
    held = one_stream()
    key = begun(held, 10)
    held.note(key, stage, None, 1)

    assert held.is_idle(1)


@pytest.mark.parametrize(("pays", "waiting"), [(1, 1), (4, 4), (8, 8)])
def test_where_batches_pay_the_tasks_of_one_wait_though_they_take_long(pays: int, waiting: int) -> None:
    held = Prefetch(1, lambda model: 1, lambda model: (pays, 10.0))
    begun(held, 10)
    claimed = 0
    while len(held.wanted(0)) == len(PRIORITIES):
        ready(held, 10)
        claimed += 1

    assert claimed == waiting


def test_a_task_of_many_tiles_fills_a_batch_alone() -> None:
    held = Prefetch(1, lambda model: 1, lambda model: (8, 1.0))
    begun(held, 10)
    ready(held, 10)

    assert held.wanted(0) == (Priority.HIGH,)


@pytest.mark.parametrize(
    ("seconds", "pays"),
    [
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 7.9}, (1, 1.0)),
        ({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}, (8, 1.0)),
        ({1: 1.0, 2: 1.1, 4: 1.2, 8: 2.3}, (4, 1.0)),
        ({1: 1.0}, (8, 1.0)),
        ({}, (1, 1.0)),
    ],
    ids=["each tile takes its time", "a run takes its time", "up to four", "not measured yet", "unknown"],
)
def test_a_batch_pays_when_its_tiles_take_less_time_each(seconds: dict[int, float], pays: tuple[int, float]) -> None:
    costs = Costs((1, 2, 4, 8))
    for size, took_s in seconds.items():
        costs.note(BatchKey(MODEL, "", (1, 1)), size, took_s)

    assert costs.paying(MODEL) == pays
    assert costs.paying(OTHER) == (1, 1.0)


def test_as_many_are_claimed_at_once_as_would_feed_the_device() -> None:
    held = one_stream()
    assert held.claims_at_once(0, 8) == 1, "nobody knows what a task takes"
    key = begun(held, AHEAD_S / 4)
    held.drop(key)

    assert held.claims_at_once(0, 8) == 4
    assert held.claims_at_once(0, 2) == 2


@pytest.mark.parametrize("task_s", [0.1, 0.5, 1.5, 10])
@pytest.mark.parametrize("fetch_s", [0.05, 2])
def test_a_device_is_fed_though_each_input_takes_its_time(fetch_s: float, task_s: float) -> None:
    """It waits for the inputs until the worker has seen how long the first ones take, and from then on never."""
    held, tasks = one_stream(), 60
    fetching: list[tuple[float, str]] = []
    waiting: list[str] = []
    now, running, ends, busy_s, claimed = 0.0, "", math.inf, 0.0, 0
    while claimed < tasks or fetching or waiting or running:
        while claimed < tasks and len(held.wanted(now)) == len(PRIORITIES):
            fetching.append((now + fetch_s, taken(held, task_s, now)))
            held.note(fetching[-1][1], "fetch", None, now)
            claimed += 1
        if waiting and not running:
            running, ends = waiting.pop(0), now + task_s
            held.note(running, "infer", BEGUN, now)
            continue
        now = min([ends, now + held.changes_in_s(now), *[at for at, _ in fetching[:1]]])
        while fetching and fetching[0][0] <= now:
            waiting.append(fetching.pop(0)[1])
            held.note(waiting[-1], "prepare", None, now)
            held.note(waiting[-1], "infer", None, now)
        if ends <= now:
            held.drop(running)
            running, ends, busy_s = "", math.inf, busy_s + task_s

    assert now - busy_s <= 2 * (fetch_s + AHEAD_S)


# --- giving back ------------------------------------------------------------------------------------------------


def test_the_last_task_that_waits_is_given_back_and_one_that_has_begun_never() -> None:
    held = one_stream()
    begun(held, 10)
    assert held.spare({MODEL}, 0) is None

    ready(held, 10, 1)
    last = ready(held, 10, 2)
    assert held.spare({MODEL}, 2) == last
    assert held.spare({OTHER}, 2) is None, "the idle worker has no such model"


def test_a_task_whose_input_is_on_its_way_is_given_back_before_one_that_is_ready() -> None:
    held = one_stream()
    begun(held, 10)
    fetching = taken(held, 10)
    held.note(fetching, "fetch", None, 0)
    ready(held, 10, 0.1)

    assert held.spare({MODEL}, 0.1) == fetching


def test_a_task_that_begins_soon_is_kept() -> None:
    held = one_stream()
    begun(held, 10)
    last = ready(held, 10)

    assert held.spare({MODEL}, 9) == last
    assert held.spare({MODEL}, 9.95) is None


def test_a_task_whose_input_takes_longer_to_fetch_than_to_wait_for_is_kept() -> None:
    held = one_stream()
    first = taken(held, 1)
    for at, stage in ((0, "fetch"), (3, "prepare"), (3, "infer")):
        held.note(first, stage, None, at)  # type: ignore[arg-type]
    held.note(first, "infer", BEGUN, 3)
    ready(held, 1, 3)

    assert held.spare({MODEL}, 3) is None


def test_a_suspect_is_kept() -> None:
    held = one_stream()
    begun(held, 10)
    taken(held, 10, crashes=1)

    assert held.spare({MODEL}, 0) is None


def test_a_task_is_not_given_back_twice_within_a_second() -> None:
    held = one_stream()
    begun(held, 10)
    taken(held, 10, epoch=2)

    assert held.spare({MODEL}, GIVE_WAY_S / 2) is None
    assert held.spare({MODEL}, GIVE_WAY_S) is not None


def test_who_gives_a_task_back_does_not_claim_it_again_at_once() -> None:
    held = one_stream()
    running = begun(held, 10)
    held.give_back(ready(held, 10), 0)

    assert held.wanted(0) == (Priority.HIGH,), "what is more urgent it does claim"
    assert held.wanted(GIVE_WAY_S) == PRIORITIES, "the idle worker has had its time"
    held.drop(running)
    assert held.wanted(0) == PRIORITIES, "its own device has nothing to do"


# --- stopping ---------------------------------------------------------------------------------------------------


def test_a_worker_that_stops_keeps_what_has_begun_and_gives_back_what_would_wait_for_it() -> None:
    held = one_stream()
    begun(held, 10)
    waits = [ready(held, 10), taken(held, 1)]

    assert held.late(0) == waits
    assert held.late(9.95) == waits[1:], "the first of them is about to begin"


def test_a_worker_that_stops_begins_one_task_more_if_its_device_has_nothing_to_do() -> None:
    held = one_stream()
    ready(held, 10)
    second = ready(held, 10)

    assert held.late(0) == [second]


def test_a_worker_that_stops_keeps_small_tasks_that_are_done_in_a_moment() -> None:
    held = one_stream()
    begun(held, WORTH_S / 4)
    for _ in range(3):
        ready(held, WORTH_S / 4)

    assert held.late(0) == []


def test_a_worker_that_stops_waits_for_no_model_and_for_no_task_of_which_nobody_knows_how_long_it_takes() -> None:
    held = one_stream()
    loads = taken(held, 1)
    held.note(loads, "load", None, 0)
    assert held.late(0) == [loads]

    begun(held, None)
    unknown = ready(held, None)
    assert held.late(0) == [loads, unknown]


# --- a fleet ----------------------------------------------------------------------------------------------------


class Worker(Struct):
    """A simulated worker: its device runs one task after the other in the order of the claims."""

    joins: float
    held: Prefetch
    queue: list[Lease] = []
    ends: float = math.inf

    @property
    def running(self) -> Lease | None:
        return self.queue[0] if self.ends < math.inf else None


class Fleet:
    """Workers that share a queue. Time passes from event to event; nothing else takes any."""

    def __init__(self, true_s: list[float], error: list[float], joins: list[float]) -> None:
        self.waiting = [lease(true * wrong) for true, wrong in zip(true_s, error, strict=True)]
        self.true_s = {each.key: true for each, true in zip(self.waiting, true_s, strict=True)}
        self.workers = [Worker(joins, Prefetch(1, lambda model: 1)) for joins in joins]
        self.given_back: list[tuple[float, str]] = []
        self.moments = list(joins)
        self.ended = 0.0

    def run(self, look: Callable[["Fleet", float], None] = lambda fleet, now: None) -> float:
        """The moment when the last task ends. `look` is shown the fleet whenever everybody has done what there is."""
        heapq.heapify(self.moments)
        while self.moments:
            now = heapq.heappop(self.moments)
            for worker in self.workers:
                if worker.ends <= now:
                    self.ended = now
                    self._end(worker)
            while any(self._act(worker, now) for worker in self.workers if worker.joins <= now):
                pass
            look(self, now)
        assert not self.waiting
        return self.ended

    def _act(self, worker: Worker, now: float) -> bool:
        """Begin, claim or ask; False when there is nothing to do."""
        if worker.queue and worker.running is None:
            worker.ends = now + self.true_s[worker.queue[0].key]
            worker.held.note(worker.queue[0].key, "infer", BEGUN, now)
            heapq.heappush(self.moments, worker.ends)
            return True
        if self.waiting and len(worker.held.wanted(now)) == len(PRIORITIES):
            claimed = self.waiting.pop(0)
            worker.queue.append(claimed)
            worker.held.add(claimed, now)
            for stage in ("fetch", "prepare", "infer"):
                worker.held.note(claimed.key, stage, None, now)  # type: ignore[arg-type]
            return True
        if self.waiting and worker.queue:
            wait_s = worker.held.changes_in_s(now)
            if wait_s < math.inf and now + wait_s < worker.ends:
                heapq.heappush(self.moments, now + wait_s)
        return not self.waiting and worker.held.is_idle(now) and self._is_helped(worker, now)

    def _is_helped(self, asker: Worker, now: float) -> bool:
        for worker in self.workers:
            key = worker.held.spare({MODEL}, now) if worker is not asker else None
            if key is not None:
                worker.held.give_back(key, now)
                given = next(each for each in worker.queue if each.key == key)
                worker.queue.remove(given)
                self.given_back.append((now, given.id))
                again = replace(given, epoch=given.epoch + 1)
                self.true_s[again.key] = self.true_s[given.key]
                self.waiting.insert(0, again)
                heapq.heappush(self.moments, now + GIVE_WAY_S)
                return self._act(asker, now)
        return False

    def _end(self, worker: Worker) -> None:
        worker.held.drop(worker.queue.pop(0).key)
        worker.ends = math.inf


@pytest.mark.parametrize("task_s", [0.05, 0.2, 0.5, 1.5, 60])
def test_three_workers_need_no_more_than_a_fifth_longer_than_ideal_for_twelve_equal_tasks(task_s: float) -> None:
    """But for what is not worth moving."""
    fleet = Fleet([task_s] * 12, [1.0] * 12, [0, 0, 0])

    assert fleet.run() <= 1.2 * 4 * task_s + WORTH_S


@pytest.mark.parametrize("task_s", [0.5, 1.5, 60])
def test_two_workers_that_join_when_one_task_is_done_share_what_is_left(task_s: float) -> None:
    fleet = Fleet([task_s] * 12, [1.0] * 12, [0, task_s, task_s])
    ideal_s = task_s + math.ceil(11 / 3) * task_s

    assert fleet.run() <= 1.2 * ideal_s


JOINS = st.lists(st.floats(0, 5), min_size=1, max_size=4)
TASK_S = st.floats(0.02, 20)


def held_from_an_idle_worker(fleet: Fleet, now: float) -> None:
    """Fails when a worker has nothing while a task waits somewhere for longer than it is worth to move it."""
    there = [worker for worker in fleet.workers if worker.joins <= now]
    if all(worker.queue for worker in there):
        return
    assert not fleet.waiting
    for worker in there:
        wait_s = worker.ends - now
        for n, waits in enumerate(worker.queue[1:], 1):
            assert wait_s <= WORTH_S + 1e-6 or (waits.epoch > 1 and n == 1), f"{wait_s} s at {now}"
            wait_s += fleet.true_s[waits.key]


@settings(max_examples=200)
@given(tasks=st.lists(TASK_S, min_size=1, max_size=30), joins=JOINS)
def test_no_worker_is_idle_while_a_task_waits_at_another(tasks: list[float], joins: list[float]) -> None:
    Fleet(tasks, [1.0] * len(tasks), [0.0, *joins]).run(held_from_an_idle_worker)


@settings(max_examples=200)
@given(tasks=st.lists(st.tuples(TASK_S, st.floats(0.25, 4)), min_size=1, max_size=30), joins=JOINS)
def test_whatever_the_estimates_no_task_goes_to_and_fro(tasks: list[tuple[float, float]], joins: list[float]) -> None:
    fleet = Fleet([true for true, _ in tasks], [wrong for _, wrong in tasks], [0.0, *joins])
    fleet.run()

    for n, (at, task_id) in enumerate(fleet.given_back):
        assert not [a for a, other in fleet.given_back[:n] if other == task_id and at - a < GIVE_WAY_S]
