"""Records: decode what Redis holds into the types of core."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import msgspec
from loguru import logger
from msgspec import Meta, Struct

from penstock.core.access_keys import LATEST_MS
from penstock.core.batch import Batch, BatchPlan, BatchState, End
from penstock.core.events import Event
from penstock.core.request import Request
from penstock.core.task import Attempt, Outcome, Priority, Progress, Reuse, Stage, State, Task
from penstock.store.answers import Explanation, Pace, Pause, PublishedModel, Running, SetAside, UnderWay, WorkerInfo

GONE = [b"gone"]
"""The answer of read.lua for a task that was pruned."""

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
    except FAULTS as error:
        raise unreadable(name, error) from error


FAULTS = (KeyError, ValueError, TypeError, AttributeError, OverflowError, msgspec.MsgspecError)
"""What the code that decodes a damaged record may raise."""


def unreadable(name: str, error: Exception) -> UnreadableRecord:
    """The damage of a record, by what was raised while it was decoded."""
    return UnreadableRecord(name, f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error))


Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Moment = Annotated[float, Meta(ge=-LATEST_MS, le=LATEST_MS)]
Micros = Annotated[float, Meta(ge=-1000 * LATEST_MS, le=1000 * LATEST_MS)]


class TaskFields(Struct, frozen=True, kw_only=True):
    """The hash of a task, as it is decoded from text. Only scripts use `cost`, `max_retries`, `timeout_s` and `ttl_s`:
    without them a record could be read, but the task could neither run nor end. Damage has made numbers that are
    infinite for a script, and moments that cannot be shown."""

    version: int
    tenant: str
    caller: str
    state: State
    stage: Stage
    priority: Priority
    epoch: int
    failures: int
    crashes: int
    cost: Number
    max_retries: Number
    timeout_s: Number
    ttl_s: Number
    created: Micros
    started: Moment | None = None
    finished: Moment | None = None
    start_by: Moment | None = None
    deadline: Moment | None = None
    worker: str | None = None
    done: int | None = None
    total: int | None = None
    unit: str | None = None
    reused: Reuse = "miss"
    origin: str | None = None


def task_of(task_id: str, answer: list[Any]) -> Task | None:
    """Decode the answer of read.lua; None when there is no such task. Raises UnreadableRecord."""
    if not answer or answer == GONE:
        return None
    try:
        return _task(task_id, answer)
    except FAULTS as error:
        raise unreadable(task_id, error) from error


def _task(task_id: str, answer: list[Any]) -> Task:
    flat, body, outcome, attempts, position, expires, events = answer
    texts = [*map(bytes.decode, flat)]
    f = msgspec.convert(dict(zip(texts[::2], texts[1::2], strict=True)), TaskFields, strict=False)
    written = msgspec.json.decode(outcome, type=Outcome) if outcome else Outcome()
    return Task(
        id=task_id,
        tenant=f.tenant,
        caller=f.caller,
        state=f.state,
        stage=f.stage,
        priority=f.priority,
        request=msgspec.json.decode(body, type=Request),
        epoch=f.epoch,
        failures=f.failures,
        crashes=f.crashes,
        created=int(f.created) // 1000,
        started=None if f.started is None else int(f.started),
        finished=None if f.finished is None else int(f.finished),
        start_by=None if f.start_by is None else int(f.start_by),
        deadline=None if f.deadline is None else int(f.deadline),
        expires=expires if expires >= 0 else None,
        worker=f.worker,
        progress=_progress_of(f, written),
        position=position if position >= 0 else None,
        outcome=_outcome_of(f, written),
        attempts=attempts_of(attempts),
        reuse=f.reused,
        version=f.version,
        events=events_of(events),
    )


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


UNDER_WAY_FIELDS = ("state", "stage", "model", "cost", "done", "total")


def under_way_of(fields: list[bytes | None], tasks: float) -> UnderWay | None:
    """Decode UNDER_WAY_FIELDS of a record, which stands for so many tasks; None where it has just ended, or cannot be
    read."""
    with suppress(UnreadableRecord), reading("task under way"):
        state, stage, model, cost, done, total = (field.decode() if field else "" for field in fields)
        if State(state).is_final:
            return None
        is_after_device = stage in ("postprocess", "upload")
        left = 0.0 if is_after_device else 1 - int(done) / int(total) if total and done else 1.0
        return UnderWay(model=model, cost=int(float(cost)), left=left, tasks=tasks)
    return None


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


def _progress_of(f: TaskFields, written: Outcome) -> Progress | None:
    # A worker reports progress only now and then, and a task may share the run of another: a success has done
    # everything all the same, and its outcome knows how much that was.
    if f.state is State.SUCCESS:
        total = int(written.execution.get("tiles") or f.total or 1)
        return Progress(done=total, total=total)
    if f.total is None:
        return None
    if f.done is None or f.unit is None:
        raise KeyError("done" if f.done is None else "unit")
    return Progress(done=f.done, total=f.total, unit=f.unit)


def _outcome_of(f: TaskFields, written: Outcome) -> Outcome:
    # A task that was given the result of another has spent no time but its wait.
    if f.origin is None:
        return written
    if f.finished is None:
        raise KeyError("finished")
    waited_ms = float(int(f.finished) - int(f.created) // 1000)
    timing = {"queue_ms": waited_ms, "total_ms": waited_ms}
    return Outcome(result=written.result, timing=timing, execution={"reused_from": f.origin})


def attempts_of(rows: bytes) -> tuple[Attempt, ...]:
    """Decode the ended attempts of a task, each on a line of its own, in their order."""
    return tuple(_ATTEMPTS.decode_lines(rows)) if rows else ()


_ATTEMPTS = msgspec.json.Decoder(Attempt)


def events_of(flat: list[bytes]) -> tuple[Event, ...]:
    """Decode the events of a task or a batch, in the order in which they happened."""
    if not flat:
        return ()
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
