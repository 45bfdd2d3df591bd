"""Enumerates the orders of the calls of some callers, except those that cannot differ from one already tried.

Stateless search with sleep sets (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996):
a caller whose next call was tried at a moment is not tried again after calls of others that touch nothing it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.monitor import Touch, conflict

Footprint = frozenset[Touch]
"""The keys and members that a call reads and writes."""


class Bounds(NamedTuple):
    """Limits of the search: at most `most_preemptions` switches away from a caller that could go on, and choices
    only among the first `most_choices` calls."""

    most_preemptions: int = 10**9
    most_choices: int = 10**9


@dataclass
class Moment:
    """A point of choice between several callers."""

    ready: tuple[int, ...]
    last: int | None
    """The caller that went on before, if it can go on."""
    preemptions: int
    """How often so far the scheduler switched away from a caller that could go on."""
    asleep: dict[int, Footprint]
    chosen: int = -1
    footprint: Footprint = frozenset()
    tried: dict[int, Footprint] = field(default_factory=dict)

    def open_choices(self, most_preemptions: int) -> list[int]:
        """The callers still to try here, with the last one first."""
        left = [one for one in self.ready if one not in self.asleep and one not in self.tried]
        if self.last is not None and self.preemptions >= most_preemptions:
            left = [one for one in left if one == self.last]
        return sorted(left, key=lambda one: one != self.last)

    def choose(self, caller: int) -> None:
        """Chooses this caller here in the next run."""
        self.chosen = caller


class Search:
    """One tree of orders. A run uses `next_choice` and `took`; `advance` moves on to the next run."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._path: list[Moment] = []
        self._depth = 0

    @property
    def choices(self) -> list[int]:
        """The choices of the present run so far."""
        return [moment.chosen for moment in self._path[: self._depth]]

    def next_choice(self, ready: tuple[int, ...]) -> int | None:
        """Returns the caller to go on, or None when everything that could follow was tried in another order."""
        if self._depth == len(self._path):
            moment = self._following(ready)
            options = moment.open_choices(self._bounds.most_preemptions)
            if not options:
                return None
            moment.choose(options[0])
            self._path.append(moment)
        moment = self._path[self._depth]
        assert moment.ready == ready, "the same choices have led elsewhere: something is not decided by the order"
        return moment.chosen

    def took(self, footprint: Footprint) -> None:
        """Records what the call of the chosen caller has read and written."""
        self._path[self._depth].footprint = footprint
        self._depth += 1

    def advance(self) -> bool:
        """Goes on to the next run; returns False when there is none."""
        self._depth = 0
        while self._path:
            moment = self._path[-1]
            moment.tried[moment.chosen] = moment.footprint
            is_near = len(self._path) <= self._bounds.most_choices
            options = moment.open_choices(self._bounds.most_preemptions) if is_near else []
            if options:
                moment.choose(options[0])
                return True
            self._path.pop()
        return False

    def _following(self, ready: tuple[int, ...]) -> Moment:
        if not self._path:
            return Moment(ready, None, 0, {})
        before = self._path[-1]
        last = before.chosen if before.chosen in ready else None
        was_preempted = before.last is not None and before.chosen != before.last
        return Moment(ready, last, before.preemptions + was_preempted, dict(_still_asleep(before)))


def _still_asleep(moment: Moment) -> Iterator[tuple[int, Footprint]]:
    for caller, footprint in (moment.asleep | moment.tried).items():
        if not conflict(footprint, moment.footprint):
            yield caller, footprint


class Replay:
    """One fixed order; when it ends, the remaining callers go on one after the other."""

    def __init__(self, choices: list[int]) -> None:
        self._given = choices
        self.choices: list[int] = []

    def next_choice(self, ready: tuple[int, ...]) -> int:
        """See `Search`."""
        at = len(self.choices)
        wanted = self._given[at] if at < len(self._given) else ready[0]
        self.choices.append(wanted if wanted in ready else ready[0])
        return self.choices[-1]

    def took(self, footprint: Footprint) -> None:
        """See `Search`."""
