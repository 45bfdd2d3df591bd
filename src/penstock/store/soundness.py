"""Soundness: what a record must have to be readable, and what takes the place of one that has not. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_args

import msgspec
from redis.exceptions import ResponseError

from penstock.core.access import NAME
from penstock.core.batch import BatchState
from penstock.core.request import Request
from penstock.core.task import PRIORITIES, RECORD_VERSION, ErrorRecord, Outcome, Reuse, Stage, State
from penstock.errors import RecordUnreadable
from penstock.store.records import LARGEST, UnreadableRecord, attempts_of, batch_of, events_of, reading, task_of

NUMBER = r"-?\d+(\.\d+)?(e[-+]?\d+)?"
WORD = r"\S{1,200}"
TEXT = r"[^\x00-\x1f]{0,1000}"


def one_of(values: Iterable[str]) -> str:
    """A pattern that matches exactly these values."""
    return "|".join(values)


PATTERNS = {
    **dict.fromkeys(("version", "epoch", "failures", "crashes", "max_retries", "timeout_s", "ttl_s"), NUMBER),
    **dict.fromkeys(("created", "started", "finished", "claimed", "cut_off", "start_by", "deadline"), NUMBER),
    **dict.fromkeys(("cost", "charged", "capped", "watched", "done", "total", "took", "eta"), NUMBER),
    **dict.fromkeys(("tenant", "caller"), NAME.pattern),
    "model": WORD,
    "state": one_of(State),
    "stage": one_of(get_args(Stage)),
    "priority": one_of(PRIORITIES),
    "reused": one_of(get_args(Reuse)),
    "batch": r"\d+ \S+",
    "hook": r"\S+( \w+)*",
    "input": r"(-\w+)?/?",
    "inline": r"\d+ (-\w+)?/?",
    "held": r"\d+ \d+ \d+ \d+",
}
"""The pattern of each field of a task's record; any other field is TEXT."""

DEFAULTS = {
    "version": str(RECORD_VERSION),
    "caller": "unknown",
    "model": "unknown",
    "priority": "normal",
    "stage": "done",
    "epoch": "0",
    "failures": "0",
    "crashes": "0",
    "max_retries": "0",
    "timeout_s": "60",
    "ttl_s": "86400",
    "cost": "1",
}
"""Values that take the place of fields that cannot be read."""

REQUIRED = DEFAULTS.keys() | {"tenant", "state", "created"}

PLACE = {"tenant", "caller", "model", "priority", "created"}
"""Fields that say where a task waits."""

OF_BATCHES = {
    **dict.fromkeys(("total", "fed", "epoch", "created", "finished", "ttl_s", "refill", *State), NUMBER),
    **dict.fromkeys(("redis_bytes", "stored_bytes"), NUMBER),
    **dict.fromkeys(("tenant", "caller"), NAME.pattern),
    **dict.fromkeys(("state", "next", "was"), one_of(BatchState)),
}
REQUIRED_OF_BATCHES = {"tenant", "caller", "state", "next", "total", "fed", "epoch", "created", "ttl_s"}
"""Fields of a batch that has been started."""

OF_UPLOADS = {
    **dict.fromkeys(
        ("size", "created", "url_until", "tasks", "arrived", "unused_ms", "deleted", "redis_bytes"), NUMBER
    ),
    **dict.fromkeys(("tenant", "caller"), NAME.pattern),
    "type": TEXT,
    "file": r"\{.*\}",
}

FAILURE = msgspec.json.encode(
    Outcome(error=ErrorRecord.of(RecordUnreadable("the record of this task was damaged; it was set aside")))
)


class Held(NamedTuple):
    """All that Redis holds of one task at one moment. A ResponseError stands in the place of a value of the wrong type;
    `tenant` is whose it seems to be; `listed` has the states under which the task is listed there, each with the µs
    when it was created."""

    id: str
    tenant: str
    fields: dict[bytes, bytes] | ResponseError
    body: bytes | ResponseError | None
    outcome: bytes | ResponseError | None
    attempts: bytes | ResponseError | None
    events: dict[bytes, bytes] | ResponseError
    listed: Mapping[State, float]


class Mended(NamedTuple):
    """What takes the place of a damaged record: its fields, its body where that is new, and the parts that are put
    aside. `is_misplaced` says that the task may wait in a queue where nobody looks for it."""

    fields: Mapping[str, str | bytes]
    body: bytes
    aside: tuple[str, ...]
    is_misplaced: bool


def flaw_of_task(held: Held) -> str | None:
    """Why the record of a task cannot be read; None for a sound one, and for a task that is not there."""
    if not held.fields and not held.listed:
        return None
    try:
        fields = _checked(held.id, "task", held.fields, PATTERNS, REQUIRED)
        outcome = _of_type(held.id, "outcome", held.outcome, bytes) if fields["state"] in _FINAL else None
        for read in (_body, _attempts, _events):
            read(held)
        with reading(held.id):
            flat = _flat(_of_type(held.id, "task", held.fields, dict))
            task_of(held.id, [flat, held.body, outcome or b"", held.attempts or b"", -1, -1, []])
    except UnreadableRecord as error:
        return error.reason
    return None


def mended(held: Held) -> Mended:
    """A record of the same task, made of what can be read of it, and without a lease."""
    found = held.fields if isinstance(held.fields, dict) else {}
    sound = {name.decode(): value for name, value in found.items() if _is_name(name) and _is_sound(name, value)}
    state = next(iter(held.listed), State.PENDING)
    created = next((f"{score:.0f}" for score in held.listed.values()), _created_of(held.id))
    fields: dict[str, str | bytes] = DEFAULTS | {"tenant": held.tenant, "state": state, "created": created} | sound
    if held.listed:
        fields["state"] = state
    fields.pop("fence", None)
    readers: dict[str, Callable[[Held], Any]] = {"body": _body, "attempts": _attempts, "events": _events}
    damaged = tuple(name for name, read in readers.items() if not _reads(read, held))
    model = fields["model"]
    request = Request(model=model if isinstance(model, str) else model.decode(), inputs={}, params={}, output=_OUTPUT)
    body = msgspec.json.encode(request) if "body" in damaged else b""
    return Mended(fields, body, ("task", "outcome", *damaged), is_misplaced=not sound.keys() >= PLACE)


def flaw_of_batch(batch_id: str, fields: Any, plan: Any, events: Any) -> str | None:
    """Why the record of a batch cannot be read; None for a sound one, for one that is being received, and for a batch
    that is not there."""
    try:
        is_started = plan is not None or (isinstance(fields, dict) and b"state" in fields)
        known = _checked(batch_id, "batch", fields, OF_BATCHES, REQUIRED_OF_BATCHES if is_started else ())
        if known:
            _checked(batch_id, "batch", fields, OF_BATCHES, ("tenant", "caller"))
        if is_started:
            flat = [
                [part for pair in _of_type(batch_id, "", given, dict).items() for part in pair]
                for given in (fields, events)
            ]
            batch_of(batch_id, [flat[0], plan, -1, flat[1]])
    except UnreadableRecord as error:
        return error.reason
    return None


def flaw_of_upload(upload_id: str, fields: Any) -> str | None:
    """Why the record of an upload cannot be read; None for a sound one, and for an upload that is not there."""
    required = {"tenant", "caller", "size", "type", "created", "url_until"} if fields else ()
    try:
        _checked(upload_id, "upload", fields, OF_UPLOADS, required)
    except UnreadableRecord as error:
        return error.reason
    return None


_FINAL = {state.value for state in State if state.is_final}
_OUTPUT = msgspec.convert({}, type=Request.__annotations__["output"])


def _checked(name: str, what: str, fields: Any, patterns: Mapping[str, str], required: Iterable[str]) -> dict[str, str]:
    found = _of_type(name, what, fields, dict)
    with reading(name):
        known = {field.decode(): value.decode() for field, value in found.items()}
        for field in sorted(required):
            known[field]
    for field, value in known.items():
        pattern = patterns.get(field, TEXT)
        if not re.fullmatch(pattern, value) or (pattern is NUMBER and abs(float(value)) > LARGEST):
            raise UnreadableRecord(name, f"{field} is not what it should be")
    return known


def _of_type(name: str, what: str, held: Any, kind: type) -> Any:
    if isinstance(held, ResponseError):
        raise UnreadableRecord(name, f"{what} is of another type")
    return held if held is not None else kind()


def _flat(pairs: Mapping[bytes, bytes]) -> list[bytes]:
    return [part for pair in pairs.items() for part in pair]


def _is_name(name: bytes) -> bool:
    return re.fullmatch(rb"\w{1,40}", name) is not None


def _is_sound(name: bytes, value: bytes) -> bool:
    try:
        pattern = PATTERNS.get(name.decode(), TEXT)
        fits = re.fullmatch(pattern, value.decode()) is not None
        return fits and (pattern is not NUMBER or abs(float(value)) <= LARGEST)
    except UnicodeDecodeError:
        return False


def _body(held: Held) -> None:
    with reading(held.id):
        msgspec.json.decode(_of_type(held.id, "body", held.body, bytes), type=Request)


def _attempts(held: Held) -> None:
    with reading(held.id):
        attempts_of(_of_type(held.id, "attempts", held.attempts, bytes))


def _events(held: Held) -> None:
    with reading(held.id):
        events = _of_type(held.id, "events", held.events, dict)
        events_of(_flat(events))


def _reads(read: Callable[[Held], Any], held: Held) -> bool:
    try:
        read(held)
    except UnreadableRecord:
        return False
    return True


def _created_of(task_id: str) -> str:
    # The first twelve digits of an id are the ms when it was made: see `new_task_id`.
    digits = re.match(r"tsk_([0-9a-f]{12})", task_id)
    return str(int(digits[1], 16) * 1000) if digits else "0"
