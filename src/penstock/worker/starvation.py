"""The guard against starvation: it keeps a strict order from passing anybody over without end."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")


class StarvationGuard(Generic[K]):
    """Counts how often each waiting key was passed over. A key that was passed over `limit` times is owed the next
    turn; of several such keys, the one that was passed over most often is. With a limit of 0 no key is owed a turn.

    With n keys waiting at a time, none is passed over more than limit + n - 2 times: when one is owed its turn, the key
    that had the last turn is not, so that at most n - 2 others go first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._passed_over: dict[K, int] = {}

    def next(self, waiting: Sequence[K]) -> K:
        """The key whose turn it is: one that is owed it, else the first of `waiting`."""
        owed = [key for key in waiting if 0 < self._limit <= self._passed_over.get(key, 0)]
        return max(owed, key=self._passed_over.__getitem__, default=waiting[0])

    def served(self, key: K, passed_over: Iterable[K]) -> None:
        """Record that a key had its turn before others that wait and could have had it."""
        self._passed_over.pop(key, None)
        for other in passed_over:
            self._passed_over[other] = self._passed_over.get(other, 0) + 1

    def clear(self) -> None:
        """Drop all counts: nobody waits."""
        self._passed_over.clear()

    def forget(self, key: K) -> None:
        """Drop the count of a key that waits no more."""
        self._passed_over.pop(key, None)
