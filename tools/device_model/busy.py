"""How busy a device was, and why it was not: the gaps between its runs, each with a cause."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from penstock.core.task import Task
from tools.device_model.record import Entry, Kind

PIECE_S = 0.0005
"""A gap is looked at in pieces of at least this length."""


class Gap(Struct, frozen=True):
    """The device computed nothing from `start` to `end`."""

    start: float
    end: float
    cause: str


class Series:
    """How many of some intervals have begun, and ended, at a time; each may count with a weight."""

    def __init__(self, intervals: Sequence[tuple[float, float, int]]) -> None:
        self._starts, self._begun = _summed([(start, weight) for start, _, weight in intervals])
        self._ends, self._ended = _summed([(end, weight) for _, end, weight in intervals])
        self.edges = [*self._starts, *self._ends]

    def begun(self, at: float) -> int:
        """The weight that has begun."""
        return self._begun[bisect_right(self._starts, at)]

    def ended(self, at: float) -> int:
        """The weight that has ended."""
        return self._ended[bisect_right(self._ends, at)]

    def active(self, at: float) -> int:
        """The weight that has begun and not ended."""
        return self.begun(at) - self.ended(at)


def _summed(steps: list[tuple[float, int]]) -> tuple[list[float], list[int]]:
    steps.sort()
    return [at for at, _ in steps], [0, *accumulate(weight for _, weight in steps)]


class Worker:
    """What the record of one worker says about any moment."""

    def __init__(self, entries: Sequence[Entry], tasks: Sequence[Task], *, slots: int, codec_threads: int) -> None:
        def of(kind: Kind, *, sized: bool = False) -> Series:
            found = [e for e in entries if e.kind == kind]
            return Series([(e.start, e.end, e.size if sized else 1) for e in found])

        self._up, self._wait, self._down = of("up"), of("wait"), of("down")
        self._stack, self._accept = of("stack"), of("accept")
        self._infer = of("infer", sized=True)
        self._need, self._decode, self._tiles, self._encode = of("need"), of("decode"), of("decode", sized=True), of("encode")
        claimed = [(task.started or task.created) / 1000 for task in tasks]
        self._claimed = Series([(at, at, 1) for at in claimed])
        self._slots = slots
        self._codec_threads = codec_threads

    def cause(self, at: float) -> str:
        """Why the device does not compute at this time."""
        if self._up.active(at):
            return "copy up"
        if self._wait.active(at):
            return "hand-over"
        stacked = self._stack.ended(at) - self._infer.begun(at)
        uncut = self._tiles.ended(at) - self._stack.begun(at)
        if stacked > 0 and self._down.active(at) and not self._stack.active(at):
            return "copy down"
        if self._stack.active(at):
            return "stacking"
        if stacked > 0 or uncut > 0:
            return "outputs" if self._accept.active(at) else "event loop"
        return self._of_inputs(at)

    def _of_inputs(self, at: float) -> str:
        """Why no input is ready."""
        if self._decode.active(at) + self._encode.active(at) >= self._codec_threads:
            return "codec threads"
        held = self._claimed.begun(at) - self._encode.ended(at)
        if held >= self._slots:
            return "slots"
        if self._decode.active(at):
            return "decoding"
        return "memory" if self._need.begun(at) > self._decode.begun(at) else "claims"


def gaps(entries: Sequence[Entry], worker: Worker, start: float, end: float) -> list[Gap]:
    """The gaps of a device between two moments. One that has several causes in turn is as many gaps."""
    found: list[Gap] = []
    for low, high in idle(entries, start, end):
        at = low
        while at < high:
            upto = min(high, at + max(PIECE_S, (high - low) / 100))
            cause = worker.cause((at + upto) / 2)
            if found and found[-1].end == at and found[-1].cause == cause:
                found[-1] = Gap(found[-1].start, upto, cause)
            else:
                found.append(Gap(at, upto, cause))
            at = upto
    return found


def idle(entries: Sequence[Entry], start: float, end: float) -> list[tuple[float, float]]:
    """The spans in which nothing was computed."""
    found, free = [], start
    for entry in sorted((e for e in entries if e.kind == "compute"), key=lambda e: e.start):
        if entry.end <= start or entry.start >= end:
            continue
        if entry.start > free:
            found.append((free, entry.start))
        free = max(free, entry.end)
    return [*found, (free, end)] if free < end else found


def seconds_by_cause(found: Sequence[Gap]) -> dict[str, float]:
    """The seconds of each cause, the longest first."""
    total: Counter[str] = Counter()
    for gap in found:
        total[gap.cause] += gap.end - gap.start  # type: ignore[assignment]
    return dict(total.most_common())


def batches_before(entries: Sequence[Entry], label: str, since: float) -> int | None:
    """How many batches were on the device from a moment until the first with a tile of this task began: the one that
    computed at that moment counts too. None when it has not begun."""
    computes = [e for e in entries if e.kind == "compute"]
    own = min((e.start for e in computes if label in e.label.split(",")), default=None)
    return None if own is None else sum(1 for e in computes if e.end > since and e.start < own)
