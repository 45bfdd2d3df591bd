"""The shards as a worker claims from them: which has work, which does not answer, and whose turn it is."""

import asyncio
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence

from penstock.core.task import PRIORITIES
from penstock.store import Claim, Shards, Store

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
        self.lost = asyncio.Event()
        """Set while it does not answer."""
        self.heard = asyncio.Event()
        """Set by a signal that something may wait there."""
        self.failures = 0

    @property
    def is_dry(self) -> bool:
        """Whether nothing at all waits there."""
        return self.dry == len(PRIORITIES)

    def found_nothing(self, claim: Claim, priorities: int) -> None:
        """Note an answer without a task to a claim of so many priorities."""
        self.dry = 0 if self.heard.is_set() else priorities
        due_s = math.inf if claim.next_due_s is None else claim.next_due_s
        self.look_at = time.monotonic() + min(LOOK_EVERY_S, due_s)

    def hear(self) -> None:
        """Look there at once, since something may wait."""
        self.dry = 0
        self.heard.set()


class ClaimOrder:
    """All shards. The device is shared evenly by those in which something waits, by what its tasks should take: the
    start times of `lua/parts/flows.lua`, with the shards in the place of tenants."""

    def __init__(self, shards: Shards) -> None:
        # In an order of its own in each worker, so that a fleet does not begin with the same one.
        self._all = [ShardClaims(store) for store in random.sample([*shards], len(shards))]
        self._of_shard = {source.store.shard: source for source in self._all}
        self._now_ms = 0.0

    def __iter__(self) -> Iterator[ShardClaims]:
        return iter(self._all)

    def of(self, store: Store) -> ShardClaims:
        """The source that is this shard."""
        return self._of_shard[store.shard]

    @property
    def there(self) -> Sequence[ShardClaims]:
        """Those that have answered the last time."""
        return [source for source in self._all if not source.lost.is_set()]

    @property
    def dry(self) -> int:
        """Of how many priorities nothing waits anywhere."""
        return min((source.dry for source in self.there), default=len(PRIORITIES))

    def hear(self, shard: int | None) -> None:
        """Look at a shard at once, or at all."""
        for source in self._all if shard is None else [self._of_shard[shard]]:
            source.hear()

    def refresh(self, now: float) -> None:
        """Let those be looked at again whose time has come."""
        for source in self._all:
            if now >= source.look_at:
                source.dry = 0

    def next(self, priorities: int) -> ShardClaims | None:
        """Return whose turn it is to be claimed from; None where nothing waits in so many priorities."""
        waiting = [source for source in self.there if priorities > source.dry]
        return min(waiting, key=lambda source: max(source.used_ms, self._now_ms), default=None)

    def charge(self, source: ShardClaims, claims: Iterable[Claim]) -> None:
        """Count the device time of the tasks that a shard has given."""
        took_ms = [_device_ms(claim) for claim in claims if claim.lease is not None]
        if took_ms:
            self._now_ms = max(source.used_ms, self._now_ms)
            source.used_ms = self._now_ms + sum(took_ms)


def _device_ms(claim: Claim) -> float:
    expected = claim.lease.device_ms if claim.lease else None
    return UNMEASURED_MS if expected is None else expected
