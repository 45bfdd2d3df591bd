"""The checker itself: it accepts a good history, and each broken promise is found by its rule."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.chaos.checker import Rules, judge
from tests.chaos.client import FOREIGN
from tests.chaos.history import Event, History, read, worker_facts
from tests.chaos.models import result_of
from tests.chaos.report import SOUND, Bar, report

RULES = Rules(max_crashes=3, max_retries=3, rate_limit=100, order_window=2)
DIGEST = sha256(result_of("k1")).hexdigest()


def attempt(n: int, outcome: str, *, at: int = 0, worker: str = "w1") -> dict[str, Any]:
    """An attempt that takes half a second."""
    return {"n": n, "worker": worker, "outcome": outcome, "started_at": time(at), "ended_at": time(at, 500)}


def time(second: int, ms: int = 0) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}.{ms:03}Z"


def record(task: str = "t1", key: str = "k1", **changes: Any) -> Event:
    """A task that succeeded at its second attempt, after a death."""
    view = {
        "task_id": task,
        "client_request_id": key,
        "status": "SUCCESS",
        "priority": "normal",
        "created_at": time(0),
        "started_at": time(1),
        "attempts": [attempt(1, "lost", at=1), attempt(2, "complete", at=2, worker="w2")],
        "result": {"sha256": sha256(result_of(key)).hexdigest()},
        "error": None,
    } | changes
    return Event(kind="record", task=task, state=view["status"], etag='"SUCCESS.2.done.0"', view=view)


def poll(state: str, epoch: int, task: str = "t1") -> Event:
    return Event(kind="poll", task=task, state=state, etag=f'"{state}.{epoch}.x.0"')


GOOD = [
    Event(kind="submit.invoke", key="k1"),
    Event(kind="submit.info", key="k1"),
    Event(kind="submit.invoke", key="k1"),
    Event(kind="submit.ok", key="k1", task="t1", status=202),
    poll("PENDING", 0),
    poll("RUNNING", 1),
    poll("PENDING", 1),
    poll("RUNNING", 2),
    Event(kind="attempt.ended", task="t1", epoch=2, outcome="complete"),
    poll("SUCCESS", 2),
    Event(kind="result", task="t1", status=200, sha256=DIGEST),
    Event(kind="conflict", key="k1", status=422),
    record(),
    Event(kind="result", task="t1", status=200, sha256=DIGEST),
    Event(kind="listed", key="k1", task="t1"),
]


def test_a_good_history_breaks_no_promise() -> None:
    verdict = judge(GOOD, RULES)

    assert verdict.violations == []
    assert verdict.figures["acknowledged"] == verdict.figures["done"] == 1
    assert verdict.figures["lost"] == verdict.figures["duplicated"] == 0
    assert verdict.figures["attempts_lost"] == 1


def without(kind: str) -> list[Event]:
    return [event for event in GOOD if event.kind != kind]


def instead(kind: str, *others: Event) -> list[Event]:
    return [*without(kind), *others]


def with_record(**changes: Any) -> list[Event]:
    return instead("record", record(**changes))


def attempts(*outcomes: str) -> list[dict[str, Any]]:
    return [attempt(n, outcome, at=n) for n, outcome in enumerate(outcomes, 1)]


FAILED: dict[str, Any] = {"status": "FAILED", "result": None, "error": {"code": "internal"}}
POISON: dict[str, Any] = {"status": "FAILED", "result": None, "error": {"code": "poison_input"}}

BAD: dict[str, tuple[str, list[Event]]] = {
    "an acknowledged task is gone": ("I1", without("record")),
    "a task is still running at the end": ("I1", with_record(status="RUNNING", result=None, attempts=[])),
    "a task that nobody submitted": ("I2", [*GOOD, Event(kind="listed", key="k9", task="t9")]),
    "a task without any key": ("I2", [*GOOD, Event(kind="listed", task="t9")]),
    "one id for two submits": (
        "I2",
        [*GOOD, Event(kind="submit.invoke", key="k2"), Event(kind="submit.ok", key="k2", task="t1")],
    ),
    "a final state changes": ("I3", [*GOOD, poll("RUNNING", 3)]),
    "a final state changes to another": ("I3", [*GOOD, poll("FAILED", 2)]),
    "the epoch goes back": ("I3", [poll("RUNNING", 3), *GOOD]),
    "a running task expires": ("I3", [poll("RUNNING", 0), poll("EXPIRED", 0), *without("poll")]),
    "the bytes of a result change": ("I3", [*GOOD, Event(kind="result", task="t1", status=200, sha256="other")]),
    "the result of another task": (
        "I3",
        with_record(result={"sha256": sha256(result_of("k2")).hexdigest()}),
    ),
    "a success without a result": ("I3", with_record(result=None)),
    "a failure with a result": ("I3", with_record(**FAILED | {"result": {"sha256": DIGEST}})),
    "a cancel was granted and did not hold": (
        "I3",
        [*GOOD, Event(kind="cancel.invoke", task="t1"), Event(kind="cancel.ok", task="t1")],
    ),
    "canceled by nobody": ("I3", with_record(status="CANCELED", result=None, attempts=attempts("cancel"))),
    "an epoch is used twice": ("I4", with_record(attempts=[attempt(1, "lost"), attempt(1, "complete", at=2)])),
    "two attempts at the same time": ("I4", with_record(attempts=[attempt(1, "lost"), attempt(2, "complete")])),
    "two attempts complete": ("I4", with_record(attempts=attempts("complete", "complete"))),
    "the last attempt is not the one that completed": ("I4", with_record(attempts=attempts("complete", "lost"))),
    "a failure that completed": ("I4", with_record(**FAILED | {"attempts": attempts("complete")})),
    "two workers were told that theirs counts": (
        "I4",
        [*GOOD, Event(kind="attempt.ended", task="t1", epoch=1, outcome="complete")],
    ),
    "three deaths, and not poison": ("I5", with_record(attempts=attempts("lost", "lost", "lost", "complete"))),
    "poison after two deaths": ("I5", with_record(**POISON | {"attempts": attempts("lost", "lost")})),
    "more retries than allowed": ("I5", with_record(attempts=attempts(*["retry"] * 4, "complete"))),
    "two ends": ("I5", with_record(**FAILED | {"attempts": attempts("fail", "fail")})),
    "one key, two tasks": ("I6", [*GOOD, Event(kind="submit.ok", key="k1", task="t2"), record("t2")]),
    "a second task in the list": ("I6", [*GOOD, Event(kind="listed", key="k1", task="t2")]),
    "the same key with another body is taken": ("I6", [*GOOD, Event(kind="conflict", key="k1", status=202)]),
    "too many submits in a minute": (
        "I8",
        [*GOOD, *(record(f"t{n}", f"k{n}", created_at=time(n // 4)) for n in range(2, 120))],
    ),
    "the answer is about another task": ("I9", [*GOOD, Event(kind="read.fail", task="t1", code=FOREIGN)]),
    "one task is served long before its turn": (
        "I10",
        [*GOOD, *(record(f"t{n}", f"k{n}", created_at=time(n), started_at=time(90 - n)) for n in range(2, 12))],
    ),
}


@pytest.mark.parametrize(("rule", "events"), BAD.values(), ids=BAD.keys())
def test_a_broken_promise_is_found(rule: str, events: list[Event]) -> None:
    verdict = judge(events, RULES)

    assert rule in {violation.rule for violation in verdict.violations}


@pytest.mark.parametrize(
    "allowed",
    [
        instead("record", record(**POISON | {"attempts": attempts("lost", "lost", "lost")})),
        [e for e in GOOD if e.kind not in ("submit.ok", "record", "listed", "result", "poll", "conflict")],
        [Event(kind="cancel.invoke", task="t1"), Event(kind="cancel.fail", task="t1", status=409), *GOOD],
    ],
    ids=["poison after three deaths", "an unanswered submit that never happened", "a cancel that came too late"],
)
def test_what_is_allowed_is_not_blamed(allowed: list[Event]) -> None:
    kept = [e for e in allowed if e.kind not in ("poll", "result", "attempt.ended")]

    assert judge(kept, RULES).violations == []


def test_the_time_to_a_new_claim_is_counted_from_the_fault_of_the_worker() -> None:
    cut = attempt(1, "lost", at=10)
    following = attempt(2, "complete", at=12, worker="w2")
    at = 1767225610.25  # time(10) and a quarter
    faults = [Event(kind="fault", worker="w1", at=at), Event(kind="fault", worker="w9", at=at - 3)]

    figures = judge([*faults, record(attempts=[cut, following])], RULES).figures

    assert figures["interrupted"] == 1
    assert figures["reclaim_max_s"] == pytest.approx(1.75, abs=0.01)


def test_recovery_ends_when_a_second_has_nine_tenths_of_the_usual_completions() -> None:
    before = [Event(kind="attempt.ended", outcome="complete", at=97 + n / 10) for n in range(30)]
    slow = [Event(kind="attempt.ended", outcome="complete", at=110 + n / 4) for n in range(8)]
    usual = [Event(kind="attempt.ended", outcome="complete", at=112 + n / 10) for n in range(30)]
    fault, heal = Event(kind="fault", at=100.0), Event(kind="heal", at=110.0)

    figures = judge([*before, fault, heal, *slow, *usual], RULES).figures

    assert figures["recovery_max_s"] == pytest.approx(1.8, abs=0.1)


def test_a_bar_is_missed_when_its_figure_is_outside_or_not_there() -> None:
    good = report(GOOD, RULES, tasks=1)

    assert good.missed((*SOUND, Bar("done", "==", "tasks"))) == []
    assert good.missed((Bar("done", ">=", 2),)) == ["done is 1, must be >= 2"]
    assert good.missed((Bar("speed", ">=", 2),)) == ["speed is not measured, must be >= 2"]


def test_a_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.write("submit.ok", key="k1", task="t1", took_s=0.5)
    history.add([replace(GOOD[0], at=3.0)])
    history.close()

    assert read(tmp_path / "history.jsonl") == history.events


def test_facts_are_read_from_a_workers_log_and_a_line_cut_short_is_skipped() -> None:
    log = b"""{"time": "2026-01-01T00:00:00+00:00", "message": "attempt started", "task_id": "t1", "attempt": 2}
{"time": "2026-01-01T00:00:01+00:00", "message": "attempt ended", "task_id": "t1", "attempt": 2, "outcome": "complete"}
a traceback
{"time": "2026-01-01T00:00:02+00:00", "message": "attempt sto"""

    facts = list(worker_facts(log, "worker-0"))

    assert [(e.kind, e.task, e.epoch, e.outcome) for e in facts] == [
        ("attempt.started", "t1", 2, ""),
        ("attempt.ended", "t1", 2, "complete"),
    ]


def test_every_rule_has_a_history_that_breaks_it() -> None:
    from tests.chaos import checker

    rules: dict[str, Callable[..., Any]] = checker.RULES

    assert {rule for rule, _ in BAD.values()} == set(rules)
