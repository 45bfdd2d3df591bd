"""The judge of a history: which promises were broken, and the figures that the bars are about.

| rule | promise |
| --- | --- |
| I1 | every acknowledged submit reaches one final state |
| I2 | nothing is there that nobody asked for; ids are unique |
| I3 | what is final stays so: state, result and its bytes; a cancel that was granted holds |
| I4 | one holder: epochs of attempts grow, attempts do not overlap, at most one completes, and it is the last |
| I5 | no more attempts than allowed; deaths, errors and hand-backs are counted apart |
| I6 | one idempotency key is one task; the same key with another body is refused |
| I8 | accepted submits stay within the rate limit |
| I9 | nobody is given the answer to another's question |
| I10 | tasks of one priority start in about the order of their submits |

I7 is about webhooks, which Penstock does not have; I9 judges answers only, since there is one tenant.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from itertools import pairwise
from statistics import median
from typing import Any

from msgspec import Struct

from penstock.core.task import State
from tests.chaos.client import FOREIGN
from tests.chaos.history import Event
from tests.chaos.models import result_of

LEVEL_S = 3.0
"""The usual throughput is that of these seconds before a fault."""
RECOVERED = 0.9
RATE_SLACK = 1.01
CLOCK_SLACK_S = 0.002
"""Times in records are whole milliseconds."""


class Rules(Struct, frozen=True, kw_only=True):
    """The limits that the server was configured with."""

    max_crashes: int = 3
    max_retries: int = 3
    rate_limit: int = 0
    order_window: int = 0
    """Places that a start may differ from its submit; 0 does not judge order."""


class Violation(Struct, frozen=True):
    """A broken promise."""

    rule: str
    text: str


class Verdict(Struct, frozen=True, kw_only=True):
    """The result of judging a history."""

    violations: list[Violation]
    figures: dict[str, float]


def judge(events: Iterable[Event], rules: Rules = Rules()) -> Verdict:  # noqa: B008  frozen
    """Applies every rule to the whole history."""
    story = Story(list(events))
    violations = [Violation(rule, text) for rule, check in RULES.items() for text in check(story, rules)]
    return Verdict(violations=violations, figures=figures(story, violations))


class Story:
    """An indexed history."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.attempted = {e.key for e in events if e.kind == "submit.invoke"}
        self.acknowledged = {e.key: e.task for e in reversed(events) if e.kind == "submit.ok"}
        self.key_of = {e.task: e.key for e in events if e.kind == "submit.ok"}
        self.records: dict[str, dict[str, Any]] = {e.task: e.view for e in events if e.kind == "record" and e.view}
        self.by_task: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if event.task:
                self.by_task[event.task].append(event)

    def of(self, *kinds: str) -> Iterator[Event]:
        return (event for event in self.events if event.kind in kinds)

    def final(self, task: str) -> bool:
        return task in self.records and State(self.records[task]["status"]).is_final

    def lost(self) -> list[str]:
        return [key for key, task in self.acknowledged.items() if not self.final(task)]


def no_loss(story: Story, rules: Rules) -> Iterator[str]:
    for key in story.lost():
        record = story.records.get(story.acknowledged[key])
        yield f"{key}: acknowledged as {story.acknowledged[key]}, at the end {record['status'] if record else 'gone'}"


def nothing_unexpected(story: Story, rules: Rules) -> Iterator[str]:
    seen = {e.task for e in story.of("listed")} | set(story.records)
    keys = {e.task: e.key for e in story.of("listed")}
    for task in seen:
        key = keys.get(task) or (story.records.get(task) or {}).get("client_request_id") or ""
        if key not in story.attempted:
            yield f"{task}: nobody submitted {key or 'it'}"
    owners: dict[str, set[str]] = defaultdict(set)
    for event in story.of("submit.ok"):
        owners[event.task].add(event.key)
    for task, several in owners.items():
        if len(several) > 1:
            yield f"{task}: the id of {len(several)} submits: {', '.join(sorted(several))}"


def final_for_ever(story: Story, rules: Rules) -> Iterator[str]:
    for task, events in story.by_task.items():
        yield from _states_move_forward(task, [e for e in events if e.kind in ("poll", "record")])
        yield from _result_is_one(task, events, story)
        yield from _cancel_holds(task, events, story)


def one_holder(story: Story, rules: Rules) -> Iterator[str]:
    for task, record in story.records.items():
        attempts = record["attempts"]
        if any(a["n"] >= b["n"] for a, b in pairwise(attempts)):
            yield f"{task}: epochs {[a['n'] for a in attempts]} do not grow"
        if any(moment(b["started_at"]) < moment(a["ended_at"]) - CLOCK_SLACK_S for a, b in pairwise(attempts)):
            yield f"{task}: two attempts at the same time"
        completes = [a["n"] for a in attempts if a["outcome"] == "complete"]
        if record["status"] == State.SUCCESS and completes != [attempts[-1]["n"]]:
            yield f"{task}: SUCCESS, but attempts {completes} completed and {attempts[-1]['n']} was the last"
        if record["status"] != State.SUCCESS and completes:
            yield f"{task}: {record['status']}, although attempt {completes[0]} completed"
    for task, events in story.by_task.items():
        accepted = {e.epoch for e in events if e.kind == "attempt.ended" and e.outcome in ("complete", "fail")}
        if len(accepted) > 1:
            yield f"{task}: workers were told of {len(accepted)} accepted ends, epochs {sorted(accepted)}"


def attempts_allowed(story: Story, rules: Rules) -> Iterator[str]:
    for task, record in story.records.items():
        outcomes = Counter(a["outcome"] for a in record["attempts"])
        poison = record["status"] == State.FAILED and (record["error"] or {}).get("code") == "poison_input"
        if outcomes["lost"] > rules.max_crashes - (not poison):
            yield f"{task}: {outcomes['lost']} deaths, and not ended as poison_input"
        if poison and outcomes["lost"] != rules.max_crashes:
            yield f"{task}: poison_input after {outcomes['lost']} deaths, not {rules.max_crashes}"
        if outcomes["retry"] > rules.max_retries:
            yield f"{task}: {outcomes['retry']} retries, {rules.max_retries} are allowed"
        if sum(outcomes[ending] for ending in ("complete", "fail", "cancel")) > 1:
            yield f"{task}: more than one end: {dict(outcomes)}"


def idempotent(story: Story, rules: Rules) -> Iterator[str]:
    tasks: dict[str, set[str]] = defaultdict(set)
    for event in story.of("submit.ok", "listed"):
        tasks[event.key].add(event.task)
    for key, several in tasks.items():
        if key and len(several) > 1:
            yield f"{key}: one key, {len(several)} tasks: {', '.join(sorted(several))}"
    for event in story.of("conflict"):
        if event.status != 422:
            yield f"{event.key}: the same key with another body was answered {event.status}"


def within_rate(story: Story, rules: Rules) -> Iterator[str]:
    if not rules.rate_limit:
        return
    times = sorted(moment(r["created_at"]) for r in story.records.values())
    allowed = int(rules.rate_limit * RATE_SLACK)
    for first, one_too_many in zip(times, times[allowed:], strict=False):
        if one_too_many - first < 60 - CLOCK_SLACK_S:
            yield f"more than {allowed} submits accepted in {one_too_many - first:.1f} s"
            return


def own_answers(story: Story, rules: Rules) -> Iterator[str]:
    for event in story.of("read.fail"):
        if event.code == FOREIGN:
            yield f"{event.task}: the answer was about another task"


def in_order(story: Story, rules: Rules) -> Iterator[str]:
    if not rules.order_window:
        return
    queues: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in story.records.values():
        if record["started_at"]:
            queues[record["priority"]].append(record)
    for records in queues.values():
        submitted = {r["task_id"]: n for n, r in enumerate(sorted(records, key=lambda r: r["created_at"]))}
        for place, record in enumerate(sorted(records, key=lambda r: r["started_at"])):
            moved = abs(place - submitted[record["task_id"]])
            if moved > rules.order_window:
                yield f"{record['task_id']}: started {moved} places from its turn"


RULES: dict[str, Callable[[Story, Rules], Iterator[str]]] = {
    "I1": no_loss,
    "I2": nothing_unexpected,
    "I3": final_for_ever,
    "I4": one_holder,
    "I5": attempts_allowed,
    "I6": idempotent,
    "I8": within_rate,
    "I9": own_answers,
    "I10": in_order,
}


def figures(story: Story, violations: list[Violation]) -> dict[str, float]:
    """Returns counts of tasks by their outcome, and the times to recover."""
    ends = Counter(record["status"] for record in story.records.values())
    ended = list(story.of("attempt.ended"))
    reclaims = sorted(reclaim_times(story))
    recoveries = list(recovery_times(story))
    asked = [e.took_s for e in story.of("submit.ok", "submit.fail", "submit.info", "poll", "read.fail")]
    return {
        "attempted": len(story.attempted),
        "acknowledged": len(story.acknowledged),
        "done": ends["SUCCESS"],
        "failed": ends["FAILED"],
        "canceled": ends["CANCELED"],
        "expired": ends["EXPIRED"],
        "lost": len(story.lost()),
        "duplicated": len({v.text.partition(":")[0] for v in violations if v.rule in ("I4", "I6")}),
        "unsound": len(violations),
        "faults": sum(1 for _ in story.of("fault")),
        "attempts_lost": sum(a["outcome"] == "lost" for r in story.records.values() for a in r["attempts"]),
        "attempts_retried": sum(a["outcome"] == "retry" for r in story.records.values() for a in r["attempts"]),
        "fenced": sum(e.outcome == "lease lost" for e in ended),
        "stopped": sum(1 for _ in story.of("attempt.stopped")),
        "interrupted": len(reclaims),
        "reclaim_p50_s": median(reclaims) if reclaims else 0.0,
        "reclaim_max_s": reclaims[-1] if reclaims else 0.0,
        "recovery_max_s": max(recoveries, default=0.0),
        "request_max_s": max(asked, default=0.0),
        "unanswered": sum(e.status == 0 for e in story.of("submit.info", "read.fail")),
        "refused_5xx": sum(e.status >= 500 for e in story.of("submit.info", "read.fail")),
        "http_500": sum(e.status == 500 for e in story.of("submit.info", "read.fail", "result", "cancel.info")),
        "refusal_max_s": max((e.took_s for e in story.of("submit.info", "read.fail")), default=0.0),
    }


def reclaim_times(story: Story) -> Iterator[float]:
    """Returns, for each attempt that a fault of its worker cut off, the time from the fault to the next claim of the
    task."""
    faults = [e for e in story.of("fault") if e.worker]
    for record in story.records.values():
        for cut, following in pairwise(record["attempts"]):
            if cut["outcome"] == "lost":
                hits = [
                    f.at
                    for f in faults
                    if f.worker == cut["worker"]
                    and moment(cut["started_at"]) - CLOCK_SLACK_S <= f.at <= moment(cut["ended_at"]) + CLOCK_SLACK_S
                ]
                if hits:
                    yield max(0.0, moment(following["started_at"]) - hits[0])


def recovery_times(story: Story) -> Iterator[float]:
    """Returns the time from the end of each fault to the first second with 90 % of the completions a second before the
    fault.

    A fault without work before it, or with too little work after it, has none.
    """
    completed = sorted(e.at for e in story.of("attempt.ended") if e.outcome == "complete")
    fault = None
    for event in story.of("fault", "heal"):
        if event.kind == "fault":
            fault = event
            continue
        if fault is None:
            continue
        before = bisect_left(completed, fault.at) - bisect_left(completed, fault.at - LEVEL_S)
        wanted = math.ceil(RECOVERED * before / LEVEL_S)
        after = completed[bisect_left(completed, event.at) :]
        seconds = (
            max(event.at, last - 1.0)
            for first, last in zip(after, after[wanted - 1 :], strict=False)
            if last - first <= 1
        )
        if wanted and (start := next(seconds, None)) is not None:
            yield start - event.at
        fault = None


def moment(text: str) -> float:
    """Converts a timestamp to seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def _states_move_forward(task: str, polls: list[Event]) -> Iterator[str]:
    for before, after in pairwise(polls):
        if before.state and State(before.state).is_final and after.state != before.state:
            yield f"{task}: seen {before.state}, later {after.state}"
        if _epoch(after.etag) < _epoch(before.etag):
            yield f"{task}: went back from {before.etag} to {after.etag}"
        if before.state == State.RUNNING and after.state == State.EXPIRED:
            yield f"{task}: expired while it ran"


def _epoch(etag: str) -> int:
    """Reads the epoch from Penstock's ETag, `"STATE.epoch.…"`."""
    parts = etag.strip('"').split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def _result_is_one(task: str, events: list[Event], story: Story) -> Iterator[str]:
    digests = {e.sha256 for e in events if e.kind == "result" and e.status == 200}
    record = story.records.get(task)
    if len(digests) > 1:
        yield f"{task}: its result changed"
    if record and record["result"] and record["result"]["sha256"]:
        digests.add(record["result"]["sha256"])
    right = sha256(result_of(story.key_of.get(task, ""))).hexdigest()
    if digests - {right}:
        yield f"{task}: has the result of something else"
    if record and (record["result"] is not None) != (record["status"] == State.SUCCESS):
        yield f"{task}: {record['status']} {'with' if record['result'] else 'without'} a result"


def _cancel_holds(task: str, events: list[Event], story: Story) -> Iterator[str]:
    record = story.records.get(task)
    if record is None:
        return
    if any(e.kind == "cancel.ok" for e in events) and record["status"] != State.CANCELED:
        yield f"{task}: a cancel was granted, and it ended {record['status']}"
    if record["status"] == State.CANCELED and not any(e.kind == "cancel.invoke" for e in events):
        yield f"{task}: canceled by nobody"
