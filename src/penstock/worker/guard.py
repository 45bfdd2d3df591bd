"""The guard against starvation inside a worker: a strict order that passes nobody over without end."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")


class StarvationGuard(Generic[K]):
    """Counts how often each of those who wait was passed over. Whoever was so `limit` times is owed the next turn; of
    several it is the one who was passed over most often. With a limit of 0 nobody is ever owed one.

    Of n who wait at a time, none is passed over more than limit + n - 2 times: when one is owed its turn, whoever had
    the last one is not, so that at most n - 2 others go first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._passed_over: dict[K, int] = {}

    def next(self, waiting: Sequence[K]) -> K:
        """Whose turn it is of those who wait, the first of which goes first where nobody is owed a turn."""
        owed = [who for who in waiting if 0 < self._limit <= self._passed_over.get(who, 0)]
        return max(owed, key=self._passed_over.__getitem__, default=waiting[0])

    def served(self, who: K, passed_over: Iterable[K]) -> None:
        """One had its turn, before others who wait and could have had it."""
        self.forget(who)
        for other in passed_over:
            self._passed_over[other] = self._passed_over.get(other, 0) + 1

    def forget(self, who: K) -> None:
        """It waits no more."""
        self._passed_over.pop(who, None)
