"""Events of tasks and batches, of which webhooks are told, and the log of their deliveries. Pure."""

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
"""The name that clients know, by the kind that the store writes: the final state of a task or a batch, or PROGRESS."""

Dialect = Literal["penstock", "replicate"]
"""The API whose words a client uses: ours, or that of Replicate."""


class Webhook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The URL to which events are sent, and which of them. Links in the messages begin with `base_url`, the URL under
    which the client reached the API."""

    url: str
    events: tuple[EventType, ...]
    base_url: str
    dialect: Dialect = "penstock"


class Delivery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt to deliver an event: `at` in ms since 1970, its duration in ms, the verdict, and the HTTP status."""

    at: int
    ms: int
    outcome: str
    code: int | None = None


class Event(Struct, frozen=True, kw_only=True):
    """An event in the outbox. Times are ms since 1970 by the clock of Redis.

    `seq` counts the events of the task or batch, `tries` the deliveries since it happened or since a client asked for
    it again. `due` is the time of the next delivery, or of the end of its lease; None when there is none.
    """

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
        """The name that clients know: `EVENTS` of its kind."""
        return EVENTS[self.kind]
