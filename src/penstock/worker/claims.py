"""When a worker claims, how many tasks at once, and when it asks the others for one."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from loguru import logger

from penstock.core.lease import Lease
from penstock.core.task import PRIORITIES, Priority
from penstock.errors import StoreUnavailable
from penstock.store import Claim, Store, WorkerInfo
from penstock.worker.attempt import jitter_s
from penstock.worker.prefetch import Prefetch

LOOK_EVERY_S = 1.0
"""How often an idle worker looks at the queue though no signal came: a published message can be lost."""

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
        store: Store,
        info: WorkerInfo,
        prefetch: Prefetch,
        *,
        models: Callable[[], tuple[str, ...]],
        slots: Callable[[], Slots],
        start: Callable[[Lease], None],
        known: Callable[[], Collection[Lease]],
    ) -> None:
        self._store = store
        self._info = info
        self._prefetch = prefetch
        self._models = models
        self._slots = slots
        self._start = start
        self._known = known
        self._wake = asyncio.Event()
        self._round = 0
        self._claim_s = 0.0
        self._dry = 0  # of so many priorities, highest first, nothing was waiting at the last claim
        self._is_claiming = False
        self._is_unanswered = False  # the last claim: Redis may have given it tasks that nobody knows of here
        self._is_drained = False
        self._asked_at = -ASK_EVERY_S
        self._asks_after_s = ASK_AFTER_S
        self._holds_until = 0.0

    async def serve(self) -> None:
        """Claim whenever a submit, an attempt that gets on, or a due retry is a reason to. Never returns."""
        failures = 0
        while True:
            self._wake.clear()  # before looking, so that no signal falls between
            try:
                await self.hand_back_unknown()
                failures = 0
                due_s = await self._look_around()
            except StoreUnavailable as error:
                failures += 1
                due_s = jitter_s(failures)
                logger.bind(error=error.detail).warning("task store unavailable")
            await self._sleep(due_s)

    async def hand_back_unknown(self) -> None:
        """Hand back what the last claim may have been given, where its answer did not come: it was lost, the claim is
        on its way, or the worker was stopped meanwhile. Raises StoreUnavailable."""
        if self._is_unanswered:
            self._round += 1
            await self._store.leases.release_unknown(self._info.id, self._known(), before=self._round)
            self._is_unanswered = False

    def look(self) -> None:
        """Look at the queue at once, since something may wait there."""
        self._dry = 0
        self._asks_after_s = ASK_AFTER_S
        self._wake.set()

    def go_on(self) -> None:
        """Claim again, since a slot may be free or the device has got on. Nothing happens if the last claim found
        nothing of what could be claimed now: for what has come since there are signals."""
        if self._dry == len(PRIORITIES) or self._is_claiming or self._wake.is_set():
            return
        if len(self._wanted()) > self._dry:
            self._wake.set()

    def set_drained(self, *, is_drained: bool) -> None:
        """Stop claiming because the operator drains this worker, or claim again."""
        if is_drained != self._is_drained:
            logger.info("drained: nothing more is claimed" if is_drained else "resumed: tasks are claimed again")
        self._is_drained = is_drained

    @property
    def is_drained(self) -> bool:
        """Whether the operator drains this worker."""
        return self._is_drained

    def another_asked(self) -> None:
        """Wait a while before asking, since another idle worker has asked."""
        self._holds_until = time.monotonic() + ANOTHER_ASKED_S

    async def _look_around(self) -> float:
        """Claim what is wanted, or ask the other workers for it; returns the seconds until the next look."""
        next_due_s = await self._claim_wanted()
        now = time.monotonic()
        waits = [LOOK_EVERY_S, self._prefetch.changes_in_s(now)]
        if next_due_s is not None:
            waits.append(next_due_s)
        is_dry = self._dry == len(PRIORITIES) and next_due_s != 0  # 0: a task is about to be queued
        if is_dry and self._prefetch.is_idle(now) and not self._is_drained:
            waits.append(await self._ask())
        return min(waits)

    async def _claim_wanted(self) -> float | None:
        """Claim until the device is fed, or there is no slot, no task, or no place for results. Returns the seconds
        until a delayed task is due, None where that is not known."""
        self._dry = 0
        while len(wanted := self._wanted()) > self._dry:
            claims = await self._claim(wanted, self._at_once())
            self.set_drained(is_drained=claims[-1].is_drained)
            for claim in claims:
                if claim.lease is None:
                    self._dry = 0 if self._wake.is_set() else len(wanted)
                    return claim.next_due_s
        return None

    def _wanted(self) -> Sequence[Priority]:
        """The priorities to claim from: those with a free slot of which the device needs more."""
        free, reserved = self._slots()
        if free <= 0 and reserved <= 0:
            return ()
        return self._prefetch.wanted(time.monotonic(), PRIORITIES if free > 0 else PRIORITIES[:1])

    def _at_once(self) -> int:
        wanted = self._prefetch.claims_at_once(time.monotonic(), self._slots().free)
        return min(MOST_AT_ONCE, wanted if self._claim_s > SLOW_CLAIM_S else wanted // SURE + 1)

    async def _claim(self, priorities: Sequence[Priority], count: int) -> list[Claim]:
        """Claim so many tasks at most and start what is given. Raises StoreUnavailable."""
        started, self._is_claiming, self._is_unanswered = time.monotonic(), True, True
        try:
            claims = await self._store.leases.claim_several(
                count,
                worker=self._info.id,
                device=self._info.device,
                models=self._models(),
                priorities=priorities,
                round=self._round,
            )
            self._is_unanswered = False
        finally:
            self._claim_s, self._is_claiming = time.monotonic() - started, False
        for claim in claims:
            if claim.lease is not None:
                self._asks_after_s = ASK_AFTER_S
                self._start(claim.lease)
        return claims

    async def _ask(self) -> float:
        """Ask the other workers for a task, if it is time to; returns the seconds until it is time again."""
        now = time.monotonic()
        left_s = max(self._asked_at + self._asks_after_s, self._holds_until) - now
        if left_s > 0:
            return left_s
        await self._store.workers.ask_for_task(self._info.id, self._models())
        self._asked_at = now
        self._asks_after_s = min(ASK_EVERY_S, 2 * self._asks_after_s)
        return self._asks_after_s

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
