"""Records: decode what Redis holds into the types of core."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from loguru import logger

from penstock.core.access_keys import LATEST_MS
from penstock.core.batch import Batch, BatchPlan, BatchState, End
from penstock.core.events import Event
from penstock.core.request import Request
from penstock.core.task import Attempt, Outcome, Priority, Progress, Reuse, Stage, State, Task
from penstock.store.answers import Explanation, Pace, Pause, PublishedModel, Running, SetAside, WorkerInfo

GONE = [b"gone"]
"""The answer of read.lua for a task that was pruned."""

OF_SCRIPTS = ("cost", "max_retries", "timeout_s", "ttl_s")
"""Numbers of a record that only scripts use: without them it could be read, but could neither run nor end."""

LARGEST = 1e17
"""A larger number in a record is damage: it would be infinite for a script, or no moment that can be shown."""


class UnreadableRecord(Exception):
    """The record of this id is damaged."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = " ".join(reason.split())[:200]


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever goes wrong while a record is decoded into UnreadableRecord."""
    try:
        yield
    except KeyError as error:
        raise UnreadableRecord(name, f"{error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, OverflowError, msgspec.MsgspecError) as error:
        raise UnreadableRecord(name, str(error)) from error


def task_of(task_id: str, answer: list[Any]) -> Task | None:
    """Decode the answer of read.lua; None when there is no such task. Raises UnreadableRecord."""
    if not answer or answer == GONE:
        return None
    with reading(task_id):
        return _task(task_id, answer)


def _task(task_id: str, answer: list[Any]) -> Task:
    flat, body, outcome, attempts, position, expires, events = answer
    f = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}

    for name in OF_SCRIPTS:
        _within(LARGEST, name, f[name])

    def moment(name: str) -> int | None:
        return int(_within(LATEST_MS, name, f[name])) if name in f else None

    state, written = State(f["state"]), msgspec.json.decode(outcome, type=Outcome) if outcome else Outcome()
    return Task(
        id=task_id,
        tenant=f["tenant"],
        caller=f["caller"],
        state=state,
        stage=msgspec.convert(f["stage"], Stage),
        priority=Priority(f["priority"]),
        request=msgspec.json.decode(body, type=Request),
        epoch=int(f["epoch"]),
        failures=int(f["failures"]),
        crashes=int(f["crashes"]),
        created=int(_within(1000 * LATEST_MS, "created", f["created"])) // 1000,
        started=moment("started"),
        finished=moment("finished"),
        start_by=moment("start_by"),
        deadline=moment("deadline"),
        expires=expires if expires >= 0 else None,
        worker=f.get("worker"),
        progress=_progress_of(f, state, written),
        position=position if position >= 0 else None,
        outcome=_outcome_of(f, written),
        attempts=attempts_of(attempts),
        reuse=msgspec.convert(f.get("reused", "miss"), Reuse),
        version=int(f["version"]),
        events=events_of(events),
    )


def _within(most: float, name: str, written: str) -> float:
    number = float(written)
    if not abs(number) <= most:  # so that NaN is none either
        raise ValueError(f"{name} is not what it should be")
    return number


def explanation_of(answer: list[Any]) -> Explanation | None:
    """Decode the answer of explain.lua; None when there is no such task. Raises UnreadableRecord."""
    if not answer or answer == GONE:
        return None
    with reading("explanation"):
        return _explanation(answer)


def _explanation(answer: list[Any]) -> Explanation:
    state, stage, model, cost, done, total, position, due, leader, ms, mean_cost, workers, now, *of_queue = answer
    drained, priority, pause, cap = of_queue
    return Explanation(
        state=State(state.decode()),
        stage=msgspec.convert(stage.decode(), Stage),
        model=model.decode(),
        cost=int(cost),
        position=position if position >= 0 else None,
        left=1 - int(done) / int(total) if int(total) else 1.0,
        due=due if due >= 0 else None,
        due_in_s=max(0, due - now) / 1000 if due >= 0 else None,
        leader=leader.decode() or None,
        priority=Priority(priority.decode()),
        pause=pause_of(pause or None),
        cap=cap or None,
        pace=pace_of(ms, mean_cost) if ms else None,
        workers=tuple(workers_of(workers, drained)),
    )


def batch_of(batch_id: str, answer: list[Any]) -> Batch | None:
    """Decode the answer of batch_read.lua; None when there is no such batch. Raises UnreadableRecord."""
    if not answer or answer == GONE:
        return None
    with reading(batch_id):
        return _batch(batch_id, answer)


def _batch(batch_id: str, answer: list[Any]) -> Batch:
    flat, plan, expires, events = answer
    f = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    return Batch(
        id=batch_id,
        tenant=f["tenant"],
        caller=f["caller"],
        state=BatchState(f["state"]),
        plan=msgspec.json.decode(plan, type=BatchPlan),
        total=int(f["total"]),
        fed=int(f["fed"]),
        counts={state: int(f.get(state, 0)) for state in State},
        epoch=int(f["epoch"]),
        created=int(f["created"]) // 1000,
        finished=int(f["finished"]) if "finished" in f else None,
        expires=expires if expires >= 0 else None,
        events=events_of(events),
    )


def end_of(row: bytes) -> End:
    """Decode a row that `note_end` of the scripts has written. Raises UnreadableRecord."""
    with reading("end of a line"):
        place, state, *code = row.decode().split(" ")
        return End(
            place=int(place),
            state=State(state.removeprefix("-")),
            code=code[0] if code else None,
            became_task=not state.startswith("-"),
        )


def workers_of(rows: Iterable[bytes], drained: Collection[bytes]) -> list[WorkerInfo]:
    """Decode descriptions of workers. A drained worker is DRAINING, whatever it says about itself, unless it is DOWN.
    A description that cannot be read is left out: the worker writes another within its lease."""
    workers = [worker for row in rows if (worker := _worker_of(row))]
    return [_drained(worker) if worker.id.encode() in drained else worker for worker in workers]


def _drained(worker: WorkerInfo) -> WorkerInfo:
    return worker if worker.state == "DOWN" else msgspec.structs.replace(worker, state="DRAINING")


def _worker_of(row: bytes) -> WorkerInfo | None:
    try:
        return msgspec.json.decode(row, type=WorkerInfo)
    except msgspec.MsgspecError:
        return None


def published_of(rows: Mapping[bytes, bytes], first: Mapping[bytes, bytes]) -> list[PublishedModel]:
    """Decode what is published of models, those first that were published first. A description that cannot be read is
    left out."""
    found: list[PublishedModel] = []
    for model_id, row in rows.items():
        try:
            published = msgspec.json.decode(row, type=PublishedModel)
            found.append(msgspec.structs.replace(published, first=int(first.get(model_id, 0))))
        except (msgspec.MsgspecError, ValueError) as error:
            logger.bind(model=model_id.decode(errors="replace"), reason=str(error)).warning("a model cannot be read")
    return sorted(found, key=lambda one: (one.first, one.model.id))


def running_of(task_id: str, fields: list[bytes | None]) -> Running | None:
    """Decode tenant, worker, state, model, priority, stage, claimed, done, total and unit of a record; None for a task
    that has just ended. Raises UnreadableRecord."""
    with reading(task_id):
        tenant, worker, state, model, priority, stage, claimed, done, total, unit = (
            field.decode() if field else "" for field in fields
        )
        if state != State.RUNNING:
            return None
        return Running(
            task_id=task_id,
            tenant=tenant,
            worker=worker,
            model=model,
            priority=Priority(priority),
            stage=msgspec.convert(stage, Stage),
            claimed=int(claimed),
            progress=Progress(done=int(done), total=int(total), unit=unit) if total else None,
        )


def set_aside_of(member: bytes, at: int) -> SetAside:
    """Decode a row that set_aside.lua has written."""
    name, _, reason = member.decode().partition(" ")
    return SetAside(name, reason, at)


def pause_of(row: bytes | None) -> Pause | None:
    """Decode what pause.lua has written."""
    return msgspec.json.decode(row, type=Pause) if row else None


def pace_of(device_ms: bytes, cost: bytes) -> Pace:
    """Decode what settle.lua has written."""
    return Pace(device_s=float(device_ms) / 1000, cost=float(cost or 0))


def _progress_of(f: dict[str, str], state: State, written: Outcome) -> Progress | None:
    # A worker reports progress only now and then, and a task may share the run of another: a success has done
    # everything all the same, and its outcome knows how much that was.
    if state is State.SUCCESS:
        total = int(written.execution.get("tiles") or f.get("total") or 1)
        return Progress(done=total, total=total)
    return Progress(done=int(f["done"]), total=int(f["total"]), unit=f["unit"]) if "total" in f else None


def _outcome_of(f: dict[str, str], written: Outcome) -> Outcome:
    # A task that was given the result of another has spent no time but its wait.
    if "origin" not in f:
        return written
    waited_ms = float(int(f["finished"]) - int(f["created"]) // 1000)
    timing = {"queue_ms": waited_ms, "total_ms": waited_ms}
    return Outcome(result=written.result, timing=timing, execution={"reused_from": f["origin"]})


def attempts_of(rows: list[bytes]) -> tuple[Attempt, ...]:
    """Decode the ended attempts of a task, in their order."""
    return tuple(msgspec.json.decode(row, type=Attempt) for row in rows)


def events_of(flat: list[bytes]) -> tuple[Event, ...]:
    """Decode the events of a task or a batch, in the order in which they happened."""
    rows = (
        msgspec.json.decode(row, type=Event) for name, row in zip(flat[::2], flat[1::2], strict=True) if name.isdigit()
    )
    return tuple(sorted(rows, key=lambda event: event.seq))


def paces_of(row: Mapping[bytes, bytes]) -> dict[str, Pace]:
    """Decode the paces of all models. One that cannot be read is left out, and measured anew."""
    paces: dict[str, Pace] = {}
    for name in row:
        if name.startswith(b"ms:"):
            with suppress(UnreadableRecord), reading("pace"):
                model = name.decode().removeprefix("ms:")
                paces[model] = pace_of(row[name], row.get(f"cost:{model}".encode(), b""))
    return paces
