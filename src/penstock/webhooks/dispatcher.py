"""The dispatcher leases events from the outbox, posts them, and records the outcome of each delivery.

Any number of dispatchers may run. When one dies, its leases expire, and its events are delivered again under the same
message id.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from loguru import logger

from penstock.core.batch import PREFIX, Batch
from penstock.core.events import Delivery, Event
from penstock.core.task import Task
from penstock.errors import BatchNotFound, ResultExpired, StoreUnavailable, TaskNotFound
from penstock.net.guard import Policy
from penstock.settings import LimitSettings, WebhookSettings
from penstock.store import LeasedEvent, Store
from penstock.store.wakeups import act_when_woken, wake_on
from penstock.telemetry import metrics
from penstock.telemetry.outages import Outage
from penstock.webhooks import Body
from penstock.webhooks.endpoint_pools import PROMPT_S, EndpointPools
from penstock.webhooks.sender import PostOutcome, Sender
from penstock.webhooks.signature import Signer, message_id

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

LEASE_MARGIN_S = 4.0
"""A lease outlasts the longest delivery by this time, in which the two calls to Redis around it must fit."""
LONGEST_SLEEP_S = 10.0
"""Longest sleep of the loop. Nobody announces the leases of a dispatcher that died; they are noticed by then."""
BUSY_REST_S = 60.0
"""Longest rest of an endpoint that is overloaded or does not answer, and names no time itself."""
LINGER_S = 2.0
"""How long deliveries in flight may take to end when the dispatcher stops."""
JITTER = 0.1
"""Share of a wait that is added at random, so that events which failed together do not come back together."""

OVERLOADED = ("busy", "timeout", "unreachable")
"""Verdicts after which the endpoint rests, with all events that go to it, and not only the event."""


class Dispatcher:
    """Delivers the events that are due; one for each process.

    The settings must hold a secret to sign with. `public_url` is `api.public_url`, to which nothing is sent, and
    `resolver` is that of `egress.guarded_session`.
    """

    def __init__(
        self,
        store: Store,
        body: Body,
        settings: WebhookSettings,
        limits: LimitSettings,
        *,
        public_url: str = "",
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._store = store
        self._body = body
        self._settings = settings
        self._signer = Signer(settings.secrets)
        policy = Policy.from_limits(limits, allow_http=settings.allow_http, public_url=public_url)
        self._pools = EndpointPools()
        self._senders = {
            is_prompt: Sender(policy, timeout_s=settings.timeout_s, resolver=resolver) for is_prompt in (True, False)
        }
        self._doubting: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._outage = Outage("deliveries postponed", job="webhooks", **store.label)

    async def run(self) -> None:
        """Deliver events until it is cancelled; deliveries in flight then have LINGER_S to end."""
        listening = asyncio.create_task(wake_on(self._store.outbox.posts(), self._wake), name="webhooks-listening")
        try:
            async with self._senders[True], self._senders[False]:
                try:
                    await act_when_woken(self._wake, self._deliver_due)
                finally:
                    await self._finish_deliveries()
        finally:
            listening.cancel()

    async def _deliver_due(self) -> float:
        """Start the deliveries that are due; return the seconds until the next one is."""
        pools = self._pools
        if pools.are_full:
            return LONGEST_SLEEP_S
        try:
            due = await self._store.outbox.lease(
                lease_s=self._settings.timeout_s + LEASE_MARGIN_S,
                prompt=pools.prompt,
                others=pools.others,
                under_way=pools.under_way,
            )
        except StoreUnavailable as error:
            self._outage.note(error.detail)
            return 1.0
        self._outage.over()
        for leased in due.events:
            delivery = asyncio.create_task(self._deliver(leased), name=f"webhook-{leased.subject}")
            pools.enter(delivery, leased)
            late = asyncio.get_running_loop().call_later(PROMPT_S, self._on_late, delivery, leased.endpoint)
            delivery.add_done_callback(partial(self._on_end, late))
        return LONGEST_SLEEP_S if due.next_due_s is None else min(LONGEST_SLEEP_S, due.next_due_s)

    def _on_late(self, delivery: asyncio.Task[None], endpoint: str) -> None:
        """Let a late delivery go on in the other pool, with everything else that goes to its endpoint."""
        if self._pools.leave_prompt(delivery):
            doubting = asyncio.create_task(self._doubt(endpoint), name="webhook-doubt")
            self._doubting.add(doubting)
            doubting.add_done_callback(self._doubting.discard)
            self._wake.set()

    async def _doubt(self, endpoint: str) -> None:
        """Let the store count the endpoint as one that is not prompt, before its delivery has ended."""
        with suppress(StoreUnavailable):  # the end of the delivery will say it again
            await self._store.outbox.doubt(endpoint)

    def _on_end(self, late: asyncio.TimerHandle, delivery: asyncio.Task[None]) -> None:
        late.cancel()
        self._pools.leave(delivery)
        if not delivery.cancelled() and (error := delivery.exception()):
            logger.opt(exception=error).error("a delivery failed by a fault of the server")
        self._wake.set()

    async def _finish_deliveries(self) -> None:
        if self._pools.deliveries:
            await asyncio.wait(self._pools.deliveries, timeout=LINGER_S)
        for delivery in self._pools.deliveries:
            delivery.cancel()

    async def _deliver(self, leased: LeasedEvent) -> None:
        event = leased.event
        try:
            subject = await self._subject(leased)
            request = subject.plan if isinstance(subject, Batch) else subject.request
            assert request.webhook is not None  # noqa: S101  without a webhook it would have no events
            body = await self._body(subject, event, request.webhook)
            headers = self._signer.headers(message_id(subject.id, event), body)
            headers |= {"traceparent": request.traceparent} if request.traceparent else {}
            started, at = time.monotonic(), time.time()
            outcome = await self._senders[leased.is_prompt].post(request.webhook.url, headers, body)
            delivery = Delivery(
                at=int(at * 1000),
                ms=int((time.monotonic() - started) * 1000),
                outcome=outcome.verdict,
                code=outcome.code,
            )
            metrics.report("webhooks.attempts", event=event.type, outcome=outcome.verdict)
            if outcome.verdict == "delivered":
                metrics.report("webhooks.lag", max(0.0, at - event.at / 1000), event=event.type)
            await self._settle(leased, delivery, outcome)
        except (TaskNotFound, BatchNotFound, ResultExpired):
            return  # the record was pruned just now, and the event with it
        except StoreUnavailable as error:
            logger.bind(subject=leased.subject, reason=error.detail).warning("delivery not recorded, and repeated")

    async def _subject(self, leased: LeasedEvent) -> Task | Batch:
        read = self._store.batches.batch if leased.subject.startswith(PREFIX) else self._store.tasks.get
        return await read(leased.subject, leased.tenant)

    async def _settle(self, leased: LeasedEvent, delivery: Delivery, outcome: PostOutcome) -> None:
        status, wait_s = self._next(leased.event, outcome)
        rest_s = outcome.retry_after_s
        if not rest_s and outcome.verdict in OVERLOADED:
            rest_s = min(BUSY_REST_S, wait_s or 0.0)
        if status == "failed":
            log = logger.bind(subject=leased.subject, event=leased.event.type, outcome=outcome.verdict)
            log.warning("event not delivered, and not tried again")
        is_prompt = outcome.code is not None and delivery.ms <= PROMPT_S * 1000
        await self._store.outbox.settle(
            leased, delivery, status=status, wait_s=wait_s, rest_s=rest_s, is_prompt=is_prompt
        )

    def _next(self, event: Event, outcome: PostOutcome) -> tuple[str, float | None]:
        """The status of the event after this outcome, and the seconds until it is tried again, if it is."""
        if outcome.verdict == "delivered":
            return "delivered", None
        if outcome.verdict == "gone" or event.tries >= len(self._settings.retries_s):
            return "failed", None
        wait_s = self._settings.retries_s[event.tries]
        jitter_s = random.uniform(0, JITTER * wait_s)  # noqa: S311  jitter is no secret
        return "waiting", max(wait_s + jitter_s, outcome.retry_after_s)
