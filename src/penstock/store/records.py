"""From what Redis holds to what the rest of Penstock knows: the record, decoded."""

from typing import Any

import msgspec

from penstock.task import Attempt, Outcome, Priority, Progress, Request, Stage, State, Task

GONE = [b"gone"]
"""The answer of read.lua for a task that was pruned."""


def objects_of(body: bytes | None, outcome: bytes | None) -> list[str]:
    """The storage keys that belong to a record: its input and its result."""
    source = msgspec.json.decode(body, type=Request).source.key if body else None
    result = msgspec.json.decode(outcome, type=Outcome).result if outcome else None
    return [key for key in (source, result.artifact.s3_key if result and result.artifact else None) if key]


def task_of(task_id: str, answer: list[Any]) -> Task | None:
    """The answer of read.lua as a task; None when there is none."""
    if not answer or answer == GONE:
        return None
    flat, body, outcome, attempts, position, expires = answer
    f = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}

    def number(name: str) -> int | None:
        return int(float(f[name])) if name in f else None

    progress = None
    if "total" in f:
        progress = Progress(done=int(f["done"]), total=int(f["total"]), unit=f["unit"])
    return Task(
        id=task_id,
        tenant=f["tenant"],
        caller=f["caller"],
        state=State(f["state"]),
        stage=msgspec.convert(f["stage"], Stage),
        priority=Priority(f["priority"]),
        request=msgspec.json.decode(body, type=Request),
        epoch=int(f["epoch"]),
        failures=int(f["failures"]),
        crashes=int(f["crashes"]),
        created=int(f["created"]) // 1000,
        started=number("started"),
        finished=number("finished"),
        start_by=number("start_by"),
        deadline=number("deadline"),
        expires=expires if expires >= 0 else None,
        worker=f.get("worker"),
        progress=progress,
        position=position if position >= 0 else None,
        outcome=msgspec.json.decode(outcome, type=Outcome) if outcome else Outcome(),
        attempts=tuple(msgspec.json.decode(entry, type=Attempt) for entry in attempts),
        version=int(f["version"]),
    )
