"""What webhooks are owed: the endpoints with events that wait, as operators look at them."""

from itertools import chain
from typing import Any

import msgspec
from msgspec import Struct

from penstock.core.events import Event
from penstock.store.engine import Engine

MOST_ENDPOINTS = 50
EVENTS_EACH = 5


class OwedEvent(Struct, frozen=True):
    """An event that waits, and the task or batch that it is about."""

    subject: str
    tenant: str
    event: Event


class OwedEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint that is owed `total` events, the next of them first. `name` is a digest of its URL. Nothing is sent
    to it before the ms `rests_until`. If it `is_prompt`, it answered promptly the last time."""

    name: str
    total: int
    is_prompt: bool
    rests_until: int | None
    events: tuple[OwedEvent, ...]


async def owed_endpoints(engine: Engine) -> list[OwedEndpoint]:
    """Return the MOST_ENDPOINTS endpoints whose events are due first, those that do not answer promptly before the
    others, each with its EVENTS_EACH next events. Raises StoreUnavailable."""
    key = engine.keys.of_root
    slow, prompt = await engine.pipelined(
        [("ZRANGE", key(outbox), 0, MOST_ENDPOINTS - 1) for outbox in ("outbox", "outbox-prompt")]
    )
    names = [name.decode() for name in [*slow, *prompt][:MOST_ENDPOINTS]]
    rows = await engine.pipelined(
        [command for name in names for command in _about(key(f"outbox:{name}"), key("resting"), name)]
    )
    totals, members, rests = rows[::3], rows[1::3], rows[2::3]
    events = await _events(engine, [member.decode() for member in chain(*members)])
    return [
        OwedEndpoint(
            name=name,
            total=total,
            is_prompt=place >= len(slow),
            rests_until=int(until) if until else None,
            events=tuple(events[member.decode()] for member in own if member.decode() in events),
        )
        for place, (name, total, own, until) in enumerate(zip(names, totals, members, rests, strict=True))
    ]


def _about(outbox: str, resting: str, name: str) -> tuple[tuple[Any, ...], ...]:
    return ("ZCARD", outbox), ("ZRANGE", outbox, 0, EVENTS_EACH - 1), ("HGET", resting, name)


async def _events(engine: Engine, members: list[str]) -> dict[str, OwedEvent]:
    """The events of these members of outboxes, but for those that are gone or cannot be read."""
    keys, found = engine.keys, dict[str, OwedEvent]()
    pairs = [member.rpartition(" ")[::2] for member in members]
    commands = [
        (("HGET", keys.events(subject), seq), ("HGET", _record(engine, subject), "tenant")) for subject, seq in pairs
    ]
    rows = await engine.pipelined(list(chain(*commands)))
    for member, (subject, _), text, tenant in zip(members, pairs, rows[::2], rows[1::2], strict=True):
        try:
            event = msgspec.json.decode(text or b"", type=Event)
        except msgspec.DecodeError:
            continue
        if tenant:
            found[member] = OwedEvent(subject, tenant.decode(), event)
    return found


def _record(engine: Engine, subject: str) -> str:
    return engine.keys.batch(subject) if subject.startswith("bat_") else engine.keys.task(subject)
