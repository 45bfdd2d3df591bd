"""How long batches take, as measured, and so how large a batch pays."""

import math
import time
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, TypeVar

from penstock.core.device import batches_of
from penstock.worker.batcher.device_work import BatchKey

K = TypeVar("K")

KEPT = 0.8
"""Share of the former mean that a new measurement leaves: a single slow run does not turn the choice of sizes, and five
runs at a new pace do."""

FIFTH_MORE = 1.2
"""A batch is large enough to pay if its tiles take at most this many times as long as in the best size."""

KNOWN = 256
"""How many keys are remembered, those that ran last: a model whose images are not resized has a key for each of their
shapes. The shipped models have 25."""

LARGER_AGAIN_S = 300.0
"""After this time the next larger size is tried again: what filled the device may have gone. A try that fails costs
about three runs, and doubles the time to the next."""

LONGEST_WAIT_S = 8 * LARGER_AGAIN_S
"""A card that is too small for a size is shown it every 40 minutes in the end."""


class RefusedSize(NamedTuple):
    """What the device could not hold. `below` is the number of sizes that were left at the moment `at`; each `wait_s`
    one more is tried."""

    below: int
    at: float
    wait_s: float


class Costs:
    """Seconds of a batch by key and size, as measured at warm-up, then in service.

    A size that was never measured is expected to take no longer than the next smaller one that was, so that it is
    tried. `clock` gives seconds.
    """

    def __init__(self, sizes: tuple[int, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._sizes = sizes
        self._clock = clock
        self._seconds: dict[tuple[BatchKey, int], float] = {}
        self._paces: dict[tuple[str, str], float] = {}
        self._tile_s: dict[BatchKey, float] = {}  # the longest unused first
        self._paying: dict[str, tuple[int, float]] = {}
        self._lock = Lock()
        self._refused: dict[BatchKey, RefusedSize] = {}
        self._caps: dict[str, int] = {}

    def note(self, key: BatchKey, size: int, seconds: float) -> None:
        """Record that a batch of this size took so long."""
        with self._lock:
            self._average(self._seconds, (key, size), seconds)
            self._average(self._paces, (key.model, key.lane), seconds / (size * _elements(key)))
            if len(self._paces) > KNOWN:  # the lanes of a model may be what clients send
                del self._paces[next(iter(self._paces))]
            self._tile_s.pop(key, None)
            self._tile_s[key] = self._best_tile_s(key)
            if len(self._tile_s) > KNOWN:
                self._forget(next(iter(self._tile_s)))
            self._paying.clear()

    def cap(self, model: str, most: int) -> None:
        """From now on give this model batches of at most so many tiles; 0 is no bound."""
        self._caps[model] = most
        self._paying.clear()

    def _forget(self, key: BatchKey) -> None:
        self._tile_s.pop(key, None)
        self._refused.pop(key, None)
        for size in self._sizes:
            self._seconds.pop((key, size), None)

    def forget_model(self, model: str) -> None:
        """Drop what was measured of a model that is unloaded, but for its pace, which tells what a task of it takes
        when it is back."""
        with self._lock:
            for key in [key for key in (*self._tile_s, *self._refused) if key.model == model]:
                self._forget(key)
            self._paying.clear()

    def _average(self, means: dict[K, float], key: K, new: float) -> None:
        before = means.get(key)
        means[key] = new if before is None else KEPT * before + (1 - KEPT) * new

    @property
    def longest_s(self) -> float:
        """Seconds of the longest batch that was measured; 0 before the first."""
        return max(tuple(self._seconds.values()), default=0.0)  # a copy: other threads note meanwhile

    def forbid(self, key: BatchKey, size: int) -> int:
        """Record that the device cannot hold a batch of this size; returns the largest size that is left, 0 for
        none."""
        smaller = [s for s in self._sizes if s < size]
        with self._lock:
            before, below = self._refused.get(key), len(smaller)
            if before is None or below < before.below:
                self._refused[key] = RefusedSize(below, self._clock(), LARGER_AGAIN_S)
            elif self._clock() >= before.at + before.wait_s:  # else it was on its way when the last one was refused
                self._refused[key] = RefusedSize(below, self._clock(), min(2 * before.wait_s, LONGEST_WAIT_S))
            if key in self._tile_s:
                self._tile_s[key] = self._best_tile_s(key)
            self._paying.clear()
        return max(smaller, default=0)

    def most(self, key: BatchKey) -> int:
        """The largest batch that the device may be given and can hold, as far as is known. One size more is tried again
        after LARGER_AGAIN_S, and later after each failed try. It is at least the smallest size: a task that was split
        before a single tile turned out to be too much tries that again."""
        if key.is_alone:
            return 1
        if len(self._sizes) == 1:  # as a CPU has
            return self._sizes[0]
        cap = self._caps.get(key.model) or self._sizes[-1]
        sizes = [size for size in batches_of(self._sizes, key.shape) if size <= cap] or self._sizes[:1]
        refusal = self._refused.get(key)
        if refusal is None:
            return sizes[-1]
        steps = int((self._clock() - refusal.at) / refusal.wait_s)
        return sizes[min(max(refusal.below, 1) + steps, len(sizes)) - 1]

    def best(self, key: BatchKey, waiting: int) -> int:
        """The size with the least time for each of `waiting` tiles; of equal ones the largest."""
        if key.is_alone:
            return 1
        if len(self._sizes) == 1:
            return self._sizes[0]
        usable = [s for s in self._sizes if s <= self.most(key)]
        enough = next((s for s in usable if s >= waiting), usable[-1])
        return min((s for s in usable if s <= enough), key=lambda s: (self.expected_s(key, s) / min(s, waiting), -s))

    def paying(self, model: str) -> tuple[int, float]:
        """The least number of tiles of a model that should run at once, since fewer would take over a fifth more time
        each; and the seconds of one tile alone. Where keys of the model differ, the one with the most tiles counts."""
        if (known := self._paying.get(model)) is None:  # it is asked for some times between two batches
            noted = tuple(self._seconds)  # a copy: other threads note meanwhile
            keys = {key for key, _ in noted if key.model == model}
            self._paying[model] = known = max((self._paying_of(key) for key in keys), default=(1, 1.0))
        return known

    def _paying_of(self, key: BatchKey) -> tuple[int, float]:
        each = {s: self.expected_s(key, s) / s for s in self._sizes if s <= max(1, self.most(key))}
        return next(s for s, seconds in each.items() if seconds <= FIFTH_MORE * min(each.values())), each[1]

    def expected_s(self, key: BatchKey, size: int) -> float:
        """Seconds of a batch of this size; 1 for a key that was never measured."""
        for known in reversed(self._sizes):
            if known <= size and (seconds := self._seconds.get((key, known))) is not None:
                return seconds
        return 1.0

    def tile_s(self, key: BatchKey) -> float:
        """Seconds for each tile in batches of the best size. For a key that was never measured the pace of the same
        network in other shapes tells, and where nothing was measured, it is 1."""
        if (known := self._tile_s.get(key)) is not None:
            return known
        pace = self._paces.get((key.model, key.lane))
        return 1.0 if pace is None else pace * _elements(key)

    def _best_tile_s(self, key: BatchKey) -> float:
        size = self.best(key, self.most(key))
        return self.expected_s(key, size) / size


def _elements(key: BatchKey) -> int:
    return max(1, math.prod(key.shape))  # a text may have no words
