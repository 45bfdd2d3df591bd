"""Outbox: events that wait to be delivered to webhooks. The scripts in which they happen write them; dispatchers lease
them."""

from collections.abc import AsyncIterator, Mapping

import msgspec
from msgspec import Struct

from penstock.core.events import Delivery, Event
from penstock.store.connection import listen
from penstock.store.engine import Engine
from penstock.store.owed import OwedEndpoint, owed_endpoints
from penstock.store.verdicts import REDELIVER, verdict

REMEMBERED = 20
"""Most deliveries that the log of one event keeps: all of the schedule, and as many redeliveries."""

PROMPT_FOR_MS = 86_400_000
"""How long an endpoint counts as prompt after its last prompt answer: after a day it is as good as a new one."""


class LeasedEvent(Struct, frozen=True, kw_only=True):
    """An event of a task or a batch with the timed right to deliver it to its endpoint, which answered promptly the
    last time if it `is_prompt`."""

    subject: str
    tenant: str
    endpoint: str
    is_prompt: bool
    event: Event


class Quota(Struct, frozen=True):
    """How many events may be leased in all, and how many for one endpoint, those under way included."""

    most: int
    most_each: int


class Due(Struct, frozen=True):
    """Events to deliver now, and how long until the next is due; None when no other waits."""

    events: tuple[LeasedEvent, ...]
    next_due_s: float | None


class Outbox:
    """The outbox. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def lease(self, *, lease_s: float, prompt: Quota, others: Quota, under_way: Mapping[str, int]) -> Due:
        """Lease events that are due, within the quota of prompt endpoints and that of all others. `under_way` says how
        many events of an endpoint this process is delivering.

        After StoreUnavailable some events may be leased that nobody delivers; their leases end by themselves.
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
        """Write down how a delivery went: the new status, the next try after `wait_s` (None for no other), for how long
        the endpoint rests, and whether it has answered promptly. Returns False when the lease is lost."""
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
        """Note that an endpoint lets a delivery wait: it is not prompt any more."""
        await self._engine.run("doubt", endpoint=endpoint)

    async def redeliver(self, subject: str, tenant: str) -> None:
        """Queue the last event of a task or a batch again, at once and under its old id.

        Raises TaskNotFound, BatchNotFound, and WebhookNotFound when it has no webhook or had no event yet.
        """
        verdict(REDELIVER, subject, await self._engine.run("redeliver", id=subject, tenant=tenant))

    async def count(self) -> tuple[int, int]:
        """Return to how many endpoints events are owed, and how many of them have been told to rest since then."""
        key = self._keys.of_root
        slow, prompt, resting = await self._engine.pipelined(
            [("ZCARD", key("outbox")), ("ZCARD", key("outbox-prompt")), ("HLEN", key("resting"))]
        )
        return slow + prompt, resting

    async def owed(self) -> list[OwedEndpoint]:
        """Return the endpoints with events that wait, as `owed_endpoints` does."""
        return await owed_endpoints(self._engine)

    def posts(self) -> AsyncIterator[str]:
        """Yields a text whenever an event was queued; also when that may have been missed."""
        return listen(self._engine.client, self._keys.posted)
