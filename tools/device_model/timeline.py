"""When a device computed and when it did not, and how many batches went before a task."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from tools.device_model.record import Entry, Kind

Span = tuple[float, float]


class Series:
    """How much of some intervals has begun, and ended, at a moment. Each is (start, end, weight)."""

    def __init__(self, intervals: Iterable[tuple[float, float, int]]) -> None:
        intervals = list(intervals)
        self._starts, self._begun = _summed((start, weight) for start, _, weight in intervals)
        self._ends, self._ended = _summed((end, weight) for _, end, weight in intervals)

    def begun(self, at: float) -> int:
        """The weight that has begun."""
        return self._begun[bisect_right(self._starts, at)]

    def ended(self, at: float) -> int:
        """The weight that has ended."""
        return self._ended[bisect_right(self._ends, at)]

    def active(self, at: float) -> int:
        """The weight that has begun and not ended."""
        return self.begun(at) - self.ended(at)


def _summed(steps: Iterable[tuple[float, int]]) -> tuple[list[float], list[int]]:
    ordered = sorted(steps)
    return [at for at, _ in ordered], [0, *accumulate(weight for _, weight in ordered)]


def spans(entries: Iterable[Entry], kind: Kind, start: float, end: float) -> list[Span]:
    """The parts of the entries of one kind that lie between two moments, in order."""
    cut = ((max(e.start, start), min(e.end, end)) for e in entries if e.kind == kind)
    return sorted(span for span in cut if span[0] < span[1])


def idle(entries: Iterable[Entry], start: float, end: float) -> list[Span]:
    """The spans between two moments in which nothing was computed."""
    found, free = [], start
    for began, ended in spans(entries, "compute", start, end):
        if began > free:
            found.append((free, began))
        free = max(free, ended)
    return [*found, (free, end)] if free < end else found


def batches_before(entries: Sequence[Entry], label: str, since: float) -> int | None:
    """How many batches were on the device from a moment until the first with a tile of this task began: the one that
    computed at that moment counts too. None when it has not begun."""
    computed = [e for e in entries if e.kind == "compute"]
    own = min((e.start for e in computed if label in e.label.split(",")), default=None)
    return None if own is None else sum(1 for e in computed if e.end > since and e.start < own)
