"""What webhooks are told: the events of tasks and batches, and the log of their deliveries. Pure."""

from typing import Literal

from msgspec import Struct, field

TaskEventType = Literal["succeeded", "failed", "canceled", "expired", "progress"]
BatchEventType = Literal["completed", "canceled"]
EventType = TaskEventType | BatchEventType

EVENTS: dict[str, EventType] = {
    "SUCCESS": "succeeded",
    "FAILED": "failed",
    "CANCELED": "canceled",
    "EXPIRED": "expired",
    "PROGRESS": "progress",
    "COMPLETED": "completed",
}
"""What a webhook can be told, by the word that the store has for it: of an end, the state, of a task or a batch."""

Dialect = Literal["penstock", "replicate"]
"""Whose words a client speaks."""


class Webhook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom to tell of which events, in which words; `base_url` is where the client reached the API, for the links it
    is sent."""

    url: str
    events: tuple[EventType, ...]
    base_url: str
    dialect: Dialect = "penstock"


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try to deliver an event: when (ms since 1970), how long it took, and what came of it."""

    at: int
    ms: int
    outcome: str
    code: int | None = None


class Event(Struct, frozen=True, kw_only=True):
    """What a webhook is told: a row of the outbox. `seq` counts the events of the task, `tries` the deliveries since
    it was posted, or asked for again; `due` is the ms of the next one, or of the end of its lease."""

    seq: int
    kind: str = field(name="what")
    at: int
    epoch: int
    tries: int
    status: Literal["waiting", "leased", "delivered", "failed"]
    due: int | None = None
    log: tuple[Delivery, ...] = ()

    @property
    def type(self) -> EventType:
        """The name that clients know."""
        return EVENTS[self.kind]
