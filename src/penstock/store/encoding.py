"""Values in the form that the scripts take them."""

from collections.abc import Collection, Iterable
from functools import cache

import msgspec

from penstock.core.events import EVENTS, Webhook
from penstock.core.task import ErrorRecord, Outcome, State, Verb, moves
from penstock.errors import PenstockError
from penstock.store.keys import endpoint_digest


@cache
def moves_of(verb: Verb) -> str:
    """The moves of a verb as text, such as `RUNNING>SUCCESS`."""
    return " ".join(f"{source}>{target}" for source, target in moves(verb).items())


def moves_from(states: Collection[State], verb: Verb) -> str:
    """The moves of a verb that begin in one of these states."""
    return " ".join(f"{source}>{target}" for source, target in moves(verb).items() if source in states)


def outcome_of(error: PenstockError) -> bytes:
    """The outcome, as JSON, of a task that ends with this error."""
    return msgspec.json.encode(Outcome(error=ErrorRecord.of(error)))


def in_pool(models: Iterable[str]) -> str:
    """The models of a worker as text; workers with the same models have the same text, which names their pool."""
    return " ".join(sorted(models))


def hook_of(webhook: Webhook | None, tenant: str) -> str:
    """The field of a record that says which endpoint of a tenant hears of which events, in at most 64 bytes; empty for
    none."""
    if webhook is None:
        return ""
    words = (word for word, event in EVENTS.items() if event in webhook.events)
    return " ".join([endpoint_digest(tenant, webhook.url), *words])
