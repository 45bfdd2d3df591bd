"""Who delivers: leases events from the outbox, posts them, and writes down what came of it.

Any number of dispatchers may run. One that dies leaves leases that end; its events are then delivered again, under the
same id.
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
from penstock.core.task import Delivery, Event, Task
from penstock.errors import BatchNotFound, ResultExpired, StoreUnavailable, TaskNotFound
from penstock.net.guard import Policy
from penstock.settings import LimitSettings, WebhookSettings
from penstock.store import LeasedEvent, Store
from penstock.telemetry import metrics
from penstock.webhooks import Body
from penstock.webhooks.endpoint_pools import PROMPT_S, Lanes
from penstock.webhooks.sender import Answer, Sender
from penstock.webhooks.signature import Signer

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

LEASE_MARGIN_S = 4.0
"""A lease outlasts the longest delivery by the two calls to Redis around it."""
LOOK_S = 10.0
"""Longest sleep: what another dispatcher has left behind is found by then."""
BUSY_REST_S = 60.0
"""Longest rest of an endpoint that is overloaded or does not answer and names no time itself."""
LINGER_S = 2.0
"""On a stop: how long deliveries under way may take to end."""
JITTER = 0.1

TIRED = ("busy", "timeout", "unreachable")
"""Verdicts after which the endpoint, not only the event, is left alone for a while."""


class Dispatcher:
    """One for a process; there has to be a secret to sign with. `resolver` is that of `guarded_session`."""

    def __init__(
        self,
        store: Store,
        body: Body,
        settings: WebhookSettings,
        limits: LimitSettings,
        *,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._store = store
        self._body = body
        self._settings = settings
        self._signer = Signer(settings.secrets)
        policy = Policy.from_limits(limits, allow_http=settings.allow_http)
        self._lanes = Lanes()
        self._senders = {
            is_prompt: Sender(policy, timeout_s=settings.timeout_s, resolver=resolver) for is_prompt in (True, False)
        }
        self._doubting: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """For ever."""
        listening = asyncio.create_task(self._listen(), name="webhooks-listening")
        try:
            async with self._senders[True], self._senders[False]:
                try:
                    await self._dispatch()
                finally:
                    await self._end_what_is_under_way()
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        async for _ in self._store.outbox.posts():
            self._wake.set()

    async def _dispatch(self) -> None:
        me = asyncio.current_task()
        while True:
            self._wake.clear()
            sleep_s = await self._deliver_what_is_due()
            if me is not None and me.cancelling():
                return  # before Python 3.12, `asyncio.wait_for` in the Redis client may swallow a cancel
            try:
                async with asyncio.timeout(sleep_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _deliver_what_is_due(self) -> float:
        """How long there is nothing else to do."""
        lanes = self._lanes
        if lanes.prompt.most <= 0 and lanes.others.most <= 0:
            return LOOK_S
        try:
            due = await self._store.outbox.lease(
                lease_s=self._settings.timeout_s + LEASE_MARGIN_S,
                prompt=lanes.prompt,
                others=lanes.others,
                under_way=lanes.under_way,
            )
        except StoreUnavailable as error:
            logger.bind(job="webhooks", reason=error.detail).warning("deliveries postponed")
            return 1.0
        for leased in due.events:
            delivery = asyncio.create_task(self._deliver(leased), name=f"webhook-{leased.subject}")
            lanes.enter(delivery, leased)
            late = asyncio.get_running_loop().call_later(PROMPT_S, self._is_late, delivery, leased.endpoint)
            delivery.add_done_callback(partial(self._ended, late))
        return LOOK_S if due.next_due_s is None else min(LOOK_S, due.next_due_s)

    def _is_late(self, delivery: asyncio.Task[None], endpoint: str) -> None:
        """It goes on, but not at the expense of those who are prompt; nor does what else is owed to its endpoint."""
        if self._lanes.is_late(delivery):
            doubting = asyncio.create_task(self._doubt(endpoint), name="webhook-doubt")
            self._doubting.add(doubting)
            doubting.add_done_callback(self._doubting.discard)
            self._wake.set()

    async def _doubt(self, endpoint: str) -> None:
        with suppress(StoreUnavailable):  # then the end of the delivery says it
            await self._store.outbox.doubt(endpoint)

    def _ended(self, late: asyncio.TimerHandle, delivery: asyncio.Task[None]) -> None:
        late.cancel()
        self._lanes.leave(delivery)
        if not delivery.cancelled() and (error := delivery.exception()):
            logger.opt(exception=error).error("a delivery failed by a fault of ours")
        self._wake.set()

    async def _end_what_is_under_way(self) -> None:
        if self._lanes.deliveries:
            await asyncio.wait(self._lanes.deliveries, timeout=LINGER_S)
        for delivery in self._lanes.deliveries:
            delivery.cancel()

    async def _deliver(self, leased: LeasedEvent) -> None:
        event = leased.event
        try:
            subject = await self._subject(leased)
            asked = subject.plan if isinstance(subject, Batch) else subject.request
            assert asked.webhook is not None  # noqa: S101  it has an event
            body = await self._body(subject, event, asked.webhook)
            headers = self._signer.headers(message_id(subject.id, event), body)
            headers |= {"traceparent": asked.traceparent} if asked.traceparent else {}
            started, at = time.monotonic(), time.time()
            answer = await self._senders[leased.is_prompt].post(asked.webhook.url, headers, body)
            delivery = Delivery(
                at=int(at * 1000),
                ms=int((time.monotonic() - started) * 1000),
                outcome=answer.verdict,
                code=answer.code,
            )
            metrics.report("webhooks.attempts", event=event.type, outcome=answer.verdict)
            if answer.verdict == "delivered":
                metrics.report("webhooks.lag", max(0.0, at - event.at / 1000), event=event.type)
            await self._settle(leased, delivery, answer)
        except (TaskNotFound, BatchNotFound, ResultExpired):
            return  # pruned just now, and the event with it
        except StoreUnavailable as error:
            logger.bind(subject=leased.subject, reason=error.detail).warning(
                "delivery not written down; it is repeated"
            )

    async def _subject(self, leased: LeasedEvent) -> Task | Batch:
        read = self._store.batches.batch if leased.subject.startswith(PREFIX) else self._store.tasks.get
        return await read(leased.subject, leased.tenant)

    async def _settle(self, leased: LeasedEvent, delivery: Delivery, answer: Answer) -> None:
        status, wait_s = self._next(leased.event, answer)
        rest_s = answer.retry_after_s
        if not rest_s and answer.verdict in TIRED:
            rest_s = min(BUSY_REST_S, wait_s or 0.0)
        if status == "failed":
            log = logger.bind(subject=leased.subject, event=leased.event.type, outcome=answer.verdict)
            log.warning("an event is not delivered, and not tried again")
        is_prompt = answer.code is not None and delivery.ms <= PROMPT_S * 1000
        await self._store.outbox.settle(
            leased, delivery, status=status, wait_s=wait_s, rest_s=rest_s, is_prompt=is_prompt
        )

    def _next(self, event: Event, answer: Answer) -> tuple[str, float | None]:
        """The status of the event, and how long until it is tried again."""
        if answer.verdict == "delivered":
            return "delivered", None
        if answer.verdict == "gone" or event.tries >= len(self._settings.retries_s):
            return "failed", None
        wait_s = self._settings.retries_s[event.tries]
        jitter_s = random.uniform(0, JITTER * wait_s)  # noqa: S311  jitter is no secret
        return "waiting", max(wait_s + jitter_s, answer.retry_after_s)


def message_id(subject: str, event: Event) -> str:
    """The same for every delivery of one event: by it a receiver knows a repeated one."""
    return f"msg_{subject}_{event.type}_{event.seq}"
