"""The outbox: events that webhooks are owed, written by the scripts in which they happen, leased by who delivers."""

from collections.abc import AsyncIterator, Mapping

import msgspec
from msgspec import Struct

from penstock.core.batch import PREFIX
from penstock.core.events import Delivery, Event
from penstock.errors import BatchNotFound, TaskNotFound, WebhookNotFound
from penstock.store.connection import listen
from penstock.store.engine import Engine

REMEMBERED = 20
"""Deliveries of one event that its log keeps: all of the schedule, and as many redeliveries."""


PROMPT_FOR_MS = 86_400_000
"""An endpoint that has not been heard of for a day is as good as a new one."""


class LeasedEvent(Struct, frozen=True, kw_only=True):
    """An event of a task or a batch with the timed right to deliver it, and the endpoint that it goes to; `is_prompt`
    says that it has answered so last time."""

    subject: str
    tenant: str
    endpoint: str
    is_prompt: bool
    event: Event


class Quota(Struct, frozen=True):
    """How many events may be taken in all, and how many that go to one endpoint, less those under way."""

    most: int
    most_each: int


class Due(Struct, frozen=True):
    """Events to deliver now, and how long until the next is due (None: no other is owed)."""

    events: tuple[LeasedEvent, ...]
    next_due_s: float | None


class Outbox:
    """Every method raises StoreUnavailable when Redis cannot be reached or refuses writes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def lease(self, *, lease_s: float, prompt: Quota, others: Quota, under_way: Mapping[str, int]) -> Due:
        """Take events that are due, as many as there is room for endpoints that are prompt, and for all others.

        After StoreUnavailable some may have been taken without our knowing; their leases end by themselves.
        """
        busy = [part for endpoint, count in under_way.items() for part in (endpoint, count)]
        answer = await self._engine.run_once(
            "deliver",
            lease_ms=int(lease_s * 1000),
            most_prompt=prompt.most,
            each_prompt=prompt.most_each,
            most_others=others.most,
            each_others=others.most_each,
            busy=busy,
        )
        fields = iter(answer[1:])
        rows = zip(fields, fields, fields, fields, fields, strict=True)
        return Due(
            tuple(
                LeasedEvent(
                    subject=subject.decode(),
                    tenant=tenant.decode(),
                    endpoint=endpoint.decode(),
                    is_prompt=bool(is_prompt),
                    event=msgspec.json.decode(event, type=Event),
                )
                for subject, tenant, endpoint, is_prompt, event in rows
            ),
            answer[0] / 1000 if answer[0] >= 0 else None,
        )

    async def settle(
        self,
        leased: LeasedEvent,
        delivery: Delivery,
        *,
        status: str,
        wait_s: float | None,
        rest_s: float,
        is_prompt: bool,
    ) -> bool:
        """Write down what came of it: `status`, the next try after `wait_s` (None: there is none), for how long nothing
        is sent to this endpoint, and whether it has answered promptly. False when the lease is lost."""
        event = leased.event
        return bool(
            await self._engine.run(
                "delivered",
                id=leased.subject,
                seq=event.seq,
                epoch=event.epoch,
                delivery=msgspec.json.encode(delivery),
                status=status,
                wait_ms=-1 if wait_s is None else int(wait_s * 1000),
                rest_ms=int(rest_s * 1000),
                most_kept=REMEMBERED,
                prompt="prompt" if is_prompt else "",
                prompt_ms=PROMPT_FOR_MS,
            )
        )

    async def doubt(self, endpoint: str) -> None:
        """It lets a delivery wait: it is not prompt any more."""
        await self._engine.run("doubt", endpoint=endpoint)

    async def redeliver(self, subject: str, tenant: str) -> None:
        """Owe the last event of a task or a batch again, now, under its old id.

        Raises TaskNotFound, BatchNotFound, and WebhookNotFound when no webhook was asked for or nothing was to be told
        yet.
        """
        answer = await self._engine.run("redeliver", id=subject, tenant=tenant)
        if answer == b"absent" and subject.startswith(PREFIX):
            raise BatchNotFound(f"there is no batch {subject}")
        if answer == b"absent":
            raise TaskNotFound(f"there is no task {subject}")
        if answer == b"none":
            raise WebhookNotFound("it has no webhook, or nothing has happened yet that it is told")

    def posts(self) -> AsyncIterator[str]:
        """Something whenever an event has become owed; also when that may have been missed."""
        return listen(self._engine.client, self._keys.posted)
