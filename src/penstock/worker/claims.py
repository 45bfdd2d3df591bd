"""When a worker claims, how many tasks at once, and when it asks the others for one."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from loguru import logger

from penstock.core.lease import Lease
from penstock.core.task import PRIORITIES, Priority
from penstock.errors import StoreUnavailable
from penstock.store import Claim, Shards, Store, WorkerInfo
from penstock.worker.attempt import jitter_s
from penstock.worker.claim_order import LOOK_EVERY_S, ClaimOrder, ShardClaims
from penstock.worker.prefetch import Prefetch

MOST_AT_ONCE = 8
"""Tasks of one claim: its script holds Redis so many times as long."""

SURE = 4
"""One claim takes a quarter of the tasks that should feed the device, and one more: what they take is an estimate."""

SLOW_CLAIM_S = 0.02
"""When a claim takes this long, the next one takes all of them: one after the other, claims would leave the device
waiting for the network."""

ASK_AFTER_S = 0.25
"""An idle worker that finds nothing asks the others for a task, and again after this long, then twice as long, and so
on while nobody has one to give. A submit changes the queue, and the waits begin anew."""

ASK_EVERY_S = 8.0
"""The longest of these waits: each of 100 idle workers then gets 12 questions of others a second."""

ANOTHER_ASKED_S = 0.1
"""A worker waits this long after another one has asked, so that many idle ones do not all ask at once."""


class Slots(NamedTuple):
    """How many more tasks a worker may hold: of any priority, and of high priority besides."""

    free: int
    reserved: int


class Claims:
    """Claims tasks while there is a free slot and the tasks that are held do not keep the device fed.

    `models` returns the models that are served now, `slots` the free slots, `start` runs a lease, and `known` returns
    the leases that this worker holds.
    """

    def __init__(
        self,
        shards: Shards,
        info: WorkerInfo,
        prefetch: Prefetch,
        *,
        models: Callable[[], tuple[str, ...]],
        slots: Callable[[], Slots],
        start: Callable[[Lease], None],
        known: Callable[[], Collection[Lease]],
    ) -> None:
        self._order = ClaimOrder(shards)
        self._info = info
        self._prefetch = prefetch
        self._models = models
        self._slots = slots
        self._start = start
        self._known = known
        self._wake = asyncio.Event()
        self._claim_s = 0.0
        self._is_claiming = False
        self._asked_at = -ASK_EVERY_S
        self._asks_after_s = ASK_AFTER_S
        self._holds_until = 0.0

    async def serve(self) -> None:
        """Claim whenever a submit, an attempt that gets on, or a due retry is a reason to. Never returns."""
        await asyncio.gather(self._claim_on(), *map(self._bring_back, self._order))

    async def hand_back_unknown(self, store: Store) -> None:
        """Hand back what the last claim from a shard may have been given, where its answer did not come: it was lost,
        the claim is on its way, or the worker was stopped meanwhile. Raises StoreUnavailable."""
        await self._hand_back(self._order.of(store))

    def look(self, shard: int | None = None) -> None:
        """Look at the queues of a shard at once, or of all, since something may wait there."""
        self._order.hear(shard)
        self._asks_after_s = ASK_AFTER_S
        self._wake.set()

    def go_on(self) -> None:
        """Claim again, since a slot may be free or the device has got on. Nothing happens if the last claims found
        nothing of what could be claimed now: for what has come since there are signals."""
        dry = self._order.dry
        if dry == len(PRIORITIES) or self._is_claiming or self._wake.is_set():
            return
        if len(self._wanted(self._slots())) > dry:
            self._wake.set()

    def set_drained(self, store: Store, *, is_drained: bool) -> None:
        """Stop claiming because the operator drains this worker in a shard, or claim again when none says so."""
        self._set_drained(self._order.of(store), is_drained=is_drained)

    def _set_drained(self, source: ShardClaims, *, is_drained: bool) -> None:
        if is_drained is source.is_drained:
            return
        was_drained, order = self._order.is_drained, self._order
        order.drain(source, is_drained=is_drained)
        if order.is_drained is not was_drained:
            logger.info("drained: nothing more is claimed" if is_drained else "resumed: tasks are claimed again")

    @property
    def is_drained(self) -> bool:
        """Whether the operator drains this worker."""
        return self._order.is_drained

    def another_asked(self) -> None:
        """Wait a while before asking, since another idle worker has asked."""
        self._holds_until = time.monotonic() + ANOTHER_ASKED_S

    async def _claim_on(self) -> None:
        while True:
            self._wake.clear()  # before looking, so that no signal falls between
            await self._sleep(await self._look_around())

    async def _bring_back(self, source: ShardClaims) -> None:
        """Whenever a shard does not answer, try it again from time to time, beside the claims from the others."""
        while True:
            await source.lost.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(jitter_s(source.failures)):
                    await source.heard.wait()
            try:
                await self._hand_back(source)
            except StoreUnavailable as error:
                self._lose(source, error)
                continue
            self._order.regain(source)
            self._wake.set()

    def _lose(self, source: ShardClaims, error: StoreUnavailable) -> None:
        self._order.lose(source)
        source.outage.note(error.detail)

    async def _hand_back(self, source: ShardClaims) -> None:
        if source.is_unanswered:
            source.round += 1
            await source.store.leases.release_unknown(self._info.id, self._known(), before=source.round)
            source.is_unanswered = False

    async def _look_around(self) -> float:
        """Claim what is wanted, or ask the other workers for it; returns the seconds until the next look."""
        self._order.refresh(time.monotonic())
        await self._claim_wanted()
        now, order = time.monotonic(), self._order
        looks_s = order.looks_in_s(now)
        waits = [looks_s, self._prefetch.changes_in_s(now)]
        is_dry = order.dry == len(PRIORITIES) and looks_s > 0  # 0: a task is about to be queued
        if is_dry and order.there and self._prefetch.is_idle(now) and not order.is_drained:
            waits.append(await self._ask(order.there[0]))
        return max(0.0, min(waits))

    async def _claim_wanted(self) -> None:
        """Claim until the device is fed, or there is no slot, no task, or no place for results."""
        while (wanted := self._wanted(slots := self._slots())) and (source := self._order.next(len(wanted))):
            try:
                claims = await self._claim(source, wanted, self._at_once(slots))
            except StoreUnavailable as error:
                self._lose(source, error)
                continue
            self._order.charge(source, claims)
            self._set_drained(source, is_drained=claims[-1].is_drained)
            if claims[-1].lease is None:
                self._order.found_nothing(source, claims[-1], len(wanted))

    def _wanted(self, slots: Slots) -> Sequence[Priority]:
        """The priorities to claim from: those with a free slot of which the device needs more."""
        free, reserved = slots
        if free <= 0 and reserved <= 0:
            return ()
        return self._prefetch.wanted(time.monotonic(), PRIORITIES if free > 0 else PRIORITIES[:1])

    def _at_once(self, slots: Slots) -> int:
        wanted = self._prefetch.claims_at_once(time.monotonic(), slots.free)
        return min(MOST_AT_ONCE, wanted if self._claim_s > SLOW_CLAIM_S else wanted // SURE + 1)

    async def _claim(self, source: ShardClaims, priorities: Sequence[Priority], count: int) -> list[Claim]:
        """Claim so many tasks at most and start what is given. Raises StoreUnavailable."""
        source.has_news = False
        started, self._is_claiming, source.is_unanswered = time.monotonic(), True, True
        try:
            claims = await source.store.leases.claim_several(
                count,
                worker=self._info.id,
                device=self._info.device,
                models=self._models(),
                priorities=priorities,
                round=source.round,
            )
            source.is_unanswered = False
        finally:
            self._claim_s, self._is_claiming = time.monotonic() - started, False
        for claim in claims:
            if claim.lease is not None:
                self._asks_after_s = ASK_AFTER_S
                self._start(claim.lease)
        return claims

    async def _ask(self, source: ShardClaims) -> float:
        """Ask the other workers for a task, if it is time to; returns the seconds until it is time again. They hear of
        it in every shard, so that one is enough."""
        now = time.monotonic()
        left_s = max(self._asked_at + self._asks_after_s, self._holds_until) - now
        if left_s > 0:
            return left_s
        try:
            await source.store.workers.ask_for_task(self._info.id, self._models())
        except StoreUnavailable as error:
            self._lose(source, error)
            return LOOK_EVERY_S
        self._asked_at = now
        self._asks_after_s = min(ASK_EVERY_S, 2 * self._asks_after_s)
        return self._asks_after_s

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
