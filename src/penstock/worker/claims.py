"""When a worker claims, how many tasks at once, and when it asks the others for one."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

from loguru import logger

from penstock.core.lease import Lease
from penstock.core.task import PRIORITIES, Priority
from penstock.errors import StoreUnavailable
from penstock.store import Claim, Store, WorkerInfo
from penstock.worker.attempt import jitter_s
from penstock.worker.hand import Hand

LOOK_EVERY_S = 1.0
"""An idle worker looks at the queue this often even if no signal came: a published message can be lost."""

SLOW_CLAIM_S = 0.02
"""When a claim takes this long, the next are sent for all free slots at once: one after the other they would leave the
device waiting for the network."""

ASK_AFTER_S = 0.25
"""An idle worker asks the others for a task when it finds nothing, and then after this long, twice as long, and so on
while nobody has one to give: the queue has changed when it hears of a submit, and it begins anew."""

ASK_EVERY_S = 8.0
"""The longest of these waits: of 100 idle workers each hears 12 others in a second."""

ANOTHER_ASKED_S = 0.1
"""A worker that hears another one ask waits this long, so that many that are idle do not all ask at once."""


class Slots(NamedTuple):
    """How many more tasks a worker may hold: of any class, and of high priority besides."""

    free: int
    reserved: int


class Claims:
    """Takes tasks from the store for as long as there is a slot and the device is not fed by what is in hand.

    `slots` says what is free; `start` is given each lease; `known` are the leases that this worker holds.
    """

    def __init__(
        self,
        store: Store,
        info: WorkerInfo,
        hand: Hand,
        *,
        slots: Callable[[], Slots],
        start: Callable[[Lease], None],
        known: Callable[[], Collection[Lease]],
    ) -> None:
        self._store = store
        self._info = info
        self._hand = hand
        self._slots = slots
        self._start = start
        self._known = known
        self._wake = asyncio.Event()
        self._round = 0
        self._claim_s = 0.0
        self._dry = 0  # of so many classes, highest first, nothing was waiting at the last claim
        self._is_claiming = False
        self._is_drained = False
        self._asked_at = -ASK_EVERY_S
        self._asks_after_s = ASK_AFTER_S
        self._holds_until = 0.0

    async def serve(self) -> None:
        """Claim whenever it makes sense, woken by a submit, an attempt that got on, or a due retry. Never returns."""
        failures = 0
        while True:
            self._wake.clear()  # before looking, so that no signal falls between
            try:
                if failures:  # the answer to a claim may have been lost, or the claim be on its way
                    self._round += 1
                    await self._store.leases.release_unknown(self._info.id, self._known(), before=self._round)
                failures = 0
                due_s = await self._look_around()
            except StoreUnavailable as error:
                failures += 1
                due_s = jitter_s(failures)
                logger.bind(error=error.detail).warning("task store unavailable")
            await self._sleep(due_s)

    def look(self) -> None:
        """Something may be waiting: look at once."""
        self._dry = 0
        self._asks_after_s = ASK_AFTER_S
        self._wake.set()

    def go_on(self) -> None:
        """A slot is free, or the device has got on: time for a claim, unless nothing that could be claimed was waiting
        at the last one. What comes since then is signaled."""
        is_awake = self._is_claiming or self._wake.is_set()
        if not is_awake and len(self._wanted()) > self._dry:
            self._wake.set()

    def heed(self, *, is_drained: bool) -> None:
        """The operator drains this worker, or lets it claim again."""
        if is_drained != self._is_drained:
            logger.info("drained: nothing more is claimed" if is_drained else "resumed: tasks are claimed again")
        self._is_drained = is_drained

    @property
    def is_drained(self) -> bool:
        """Whether the operator lets it claim nothing."""
        return self._is_drained

    def another_asked(self) -> None:
        """Another idle worker has asked for a task."""
        self._holds_until = time.monotonic() + ANOTHER_ASKED_S

    async def _look_around(self) -> float:
        """Claim what is wanted and there, or ask for it; seconds until the next look."""
        next_due_s = await self._claim_wanted()
        now = time.monotonic()
        waits = [LOOK_EVERY_S, self._hand.changes_in_s(now)]
        if next_due_s is not None:
            waits.append(next_due_s)
        found_nothing = self._dry == len(PRIORITIES) and next_due_s != 0  # 0: a task is about to be queued
        if found_nothing and self._hand.is_idle(now) and not self._is_drained:
            waits.append(await self._ask())
        return min(waits)

    async def _claim_wanted(self) -> float | None:
        """Claim until the device is fed, or there is no slot, no task, or no room for results; seconds until a delayed
        task is due, if that is known."""
        self._dry = 0
        while len(wanted := self._wanted()) > self._dry:
            claims = await self._claim(wanted, self._at_once())
            self.heed(is_drained=claims[-1].is_drained)
            for claim in claims:
                if claim.lease is None:
                    self._dry = 0 if self._wake.is_set() else len(wanted)
                    return claim.next_due_s
        return None

    def _wanted(self) -> Sequence[Priority]:
        """The classes to claim from: those that have a slot, and of which the device could do with more."""
        free, reserved = self._slots()
        if free <= 0 and reserved <= 0:
            return ()
        return self._hand.wanted(time.monotonic(), PRIORITIES if free > 0 else PRIORITIES[:1])

    def _at_once(self) -> int:
        return self._hand.room(time.monotonic(), self._slots().free) if self._claim_s > SLOW_CLAIM_S else 1

    async def _claim(self, priorities: Sequence[Priority], count: int) -> list[Claim]:
        """Claim and start; raises StoreUnavailable after what was given has been started."""
        started, self._is_claiming = time.monotonic(), True
        ask = partial(
            self._store.leases.claim,
            worker=self._info.id,
            device=self._info.device,
            models=self._info.models,
            priorities=priorities,
            round=self._round,
        )
        answers = await asyncio.gather(*(ask() for _ in range(count)), return_exceptions=True)
        self._claim_s, self._is_claiming = time.monotonic() - started, False
        claims = [answer for answer in answers if isinstance(answer, Claim)]
        for claim in claims:
            if claim.lease is not None:
                self._asks_after_s = ASK_AFTER_S
                self._start(claim.lease)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return claims

    async def _ask(self) -> float:
        """Ask the other workers for a task, if it is time; seconds until it is time again."""
        now = time.monotonic()
        left_s = max(self._asked_at + self._asks_after_s, self._holds_until) - now
        if left_s > 0:
            return left_s
        await self._store.workers.ask_for_task(self._info.id, self._info.models)
        self._asked_at = now
        self._asks_after_s = min(ASK_EVERY_S, 2 * self._asks_after_s)
        return self._asks_after_s

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
