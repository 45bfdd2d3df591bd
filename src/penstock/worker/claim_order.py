"""The shards as a worker claims from them: which has work, which does not answer, and whose turn it is."""

import asyncio
import math
import random
import time
from collections.abc import Iterable, Iterator

from penstock.core.task import PRIORITIES
from penstock.store import Claim, Shards, Store
from penstock.telemetry.outages import Outage

LOOK_EVERY_S = 1.0
"""How often an idle worker looks at the queue though no signal came: a published message can be lost."""

UNMEASURED_MS = 1_000.0
"""What a task is taken to need of the device while none of its model has been measured."""


class ShardClaims:
    """One shard. `dry` says that of so many priorities, highest first, nothing was waiting at the last claim."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.dry = 0
        self.look_at = -math.inf
        """From when on it counts as dry no longer."""
        self.used_ms = 0.0
        """Up to where the device was used for it, by the clock of `ClaimOrder`."""
        self.round = 0
        self.is_unanswered = False
        """Of its last claim: Redis may have given it tasks that nobody knows of here."""
        self.has_news = False
        """Whether a signal came, since the last claim was sent, that something may wait there."""
        self.lost = asyncio.Event()
        """Set while it does not answer."""
        self.heard = asyncio.Event()
        """Set by a signal meanwhile."""
        self.failures = 0
        self.is_drained = False
        """Whether the operator drains this worker, as the shard has said last."""
        self.outage = Outage("task store unavailable", **store.label)


class ClaimOrder:
    """All shards. The device is shared evenly by those in which something waits, by what its tasks should take: the
    start times of `lua/parts/flows.lua`, with the shards in the place of tenants.

    It is asked at each step of each task: loops stand here where a comprehension would be a call of Python more.
    """

    def __init__(self, shards: Shards) -> None:
        # In an order of its own in each worker, so that a fleet does not begin with the same one.
        self._all = tuple(ShardClaims(store) for store in random.sample([*shards], len(shards)))
        self._of_shard = {source.store.shard: source for source in self._all}
        self._now_ms = 0.0
        self.there = self._all
        """Those that have answered the last time."""
        self.dry = 0
        """Of how many priorities nothing waits in any of these."""
        self.is_drained = False
        """Whether any shard says that the operator drains this worker: a drain may not have reached all of them."""

    def __iter__(self) -> Iterator[ShardClaims]:
        return iter(self._all)

    def of(self, store: Store) -> ShardClaims:
        """The entry of this shard."""
        return self._of_shard[store.shard]

    def hear(self, shard: int | None) -> None:
        """Look at a shard at once, or at all, since something may wait there."""
        for source in self._all if shard is None else (self._of_shard[shard],):
            source.dry, source.has_news = 0, True
            if source not in self.there:
                source.heard.set()
        self._count()

    def drain(self, source: ShardClaims, *, is_drained: bool) -> None:
        """Note what a shard says of a drain."""
        source.is_drained = is_drained
        self.is_drained = is_drained or any(one.is_drained for one in self._all)

    def lose(self, source: ShardClaims) -> None:
        """Claim nothing from a shard that has not answered."""
        source.failures += 1
        source.heard.clear()
        source.lost.set()
        self._find_there()

    def regain(self, source: ShardClaims) -> None:
        """Claim from a shard that answers again."""
        source.failures = source.dry = 0
        source.lost.clear()
        source.outage.over()
        self._find_there()

    def refresh(self, now: float) -> None:
        """Let those be looked at again whose time has come."""
        for source in self._all:
            if source.dry and now >= source.look_at:
                source.dry = self.dry = 0

    def next(self, priorities: int) -> ShardClaims | None:
        """Return whose turn it is to be claimed from; None where nothing waits in so many priorities. While a shard
        drains this worker, the others are not claimed from, and that one is asked whether it still does."""
        found, least_ms = None, math.inf
        for source in self.there:
            start_ms = max(self._now_ms, source.used_ms)
            if source.dry < priorities and start_ms < least_ms and source.is_drained is self.is_drained:
                found, least_ms = source, start_ms
        return found

    def charge(self, source: ShardClaims, claims: Iterable[Claim]) -> None:
        """Count the device time of the tasks that a shard has given."""
        took_ms = 0.0
        for claim in claims:
            if claim.lease is not None:
                took_ms += UNMEASURED_MS if claim.lease.device_ms is None else claim.lease.device_ms
        if took_ms:
            self._now_ms = max(source.used_ms, self._now_ms)
            source.used_ms = self._now_ms + took_ms

    def found_nothing(self, source: ShardClaims, claim: Claim, priorities: int) -> None:
        """Note an answer without a task to a claim of so many priorities."""
        source.dry = 0 if source.has_news else priorities
        due_s = math.inf if claim.next_due_s is None else claim.next_due_s
        source.look_at = time.monotonic() + min(LOOK_EVERY_S, due_s)
        self._count()

    def looks_in_s(self, now: float) -> float:
        """Seconds until a dry one is looked at again, though nothing was heard of it."""
        least_s = LOOK_EVERY_S
        for source in self.there:
            if source.dry and source.look_at - now < least_s:
                least_s = source.look_at - now
        return least_s

    def _find_there(self) -> None:
        self.there = tuple(source for source in self._all if not source.lost.is_set())
        self._count()

    def _count(self) -> None:
        self.dry = len(PRIORITIES)
        for source in self.there:
            if source.dry < self.dry:
                self.dry = source.dry
