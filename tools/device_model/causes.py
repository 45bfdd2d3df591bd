"""Why a device had nothing to compute."""

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from tools.device_model.record import Entry, Kind
from tools.device_model.timeline import Series, Span

CAUSES = {
    "copy up": "the input of the next batch is copied to the device",
    "copy down": "a batch is ready, and the only thread of the device copies results",
    "hand-over": "a thread of the device waits for the lock that another has just left",
    "stacking": "the tiles of the next batch are cut",
    "outputs": "tiles wait, and outputs of earlier batches are being taken in",
    "event loop": "tiles wait, and no thread works for the device",
    "codec threads": "no tile waits, and every codec thread is busy",
    "slots": "no tile waits, and every slot is taken",
    "decoding": "no tile waits, and the next inputs are being decoded",
    "memory": "no tile waits, and the next inputs wait for memory",
    "claims": "no tile waits, and no task was claimed, or its input not fetched yet",
}
"""The first that holds is the cause."""

NOT_SLOWED = ("hand-over", "event loop")
"""What takes as long as ever, however much the device is slowed: at its full speed it is a larger share."""

PIECES = 50
"""A gap is looked at in so many pieces, or in pieces of SHORTEST_S where that is less."""

SHORTEST_S = 0.0005


class Gap(Struct, frozen=True):
    """The device computed nothing from `start` to `end`."""

    start: float
    end: float
    cause: str


class Moments:
    """What the record of one worker says about any moment. `claimed` are the moments of its claims."""

    def __init__(self, entries: Sequence[Entry], claimed: Iterable[float], *, slots: int, codec_threads: int) -> None:
        def of(kind: Kind, *, sized: bool = False) -> Series:
            return Series((e.start, e.end, e.size if sized else 1) for e in entries if e.kind == kind)

        self._up, self._wait, self._down = of("up"), of("wait"), of("down")
        self._stack, self._accept, self._infer = of("stack"), of("accept"), of("infer", sized=True)
        self._need, self._decode, self._encode = of("need"), of("decode"), of("encode")
        self._tiles = of("decode", sized=True)
        self._claimed = Series((at, at, 1) for at in claimed)
        self._slots = slots
        self._codec_threads = codec_threads

    def cause(self, at: float) -> str:
        """Why the device does not compute at this moment."""
        stacked = self._stack.ended(at) - self._infer.begun(at)
        uncut = self._tiles.ended(at) - self._stack.begun(at)
        stacking = self._stack.active(at)
        held = self._claimed.begun(at) - self._encode.ended(at)
        answers = {
            "copy up": self._up.active(at) > 0,
            "copy down": stacked > 0 and self._down.active(at) > 0 and not stacking and not self._wait.active(at),
            "hand-over": self._wait.active(at) > 0,
            "stacking": stacking > 0,
            "outputs": stacked + uncut > 0 and self._accept.active(at) > 0,
            "event loop": stacked + uncut > 0,
            "codec threads": self._decode.active(at) + self._encode.active(at) >= self._codec_threads,
            "slots": held >= self._slots,
            "decoding": self._decode.active(at) > 0,
            "memory": self._need.begun(at) > self._decode.begun(at),
        }
        return next((cause for cause, holds in answers.items() if holds), "claims")


def gaps(idle: Iterable[Span], moments: Moments) -> list[Gap]:
    """The gaps with their causes. One that has several causes in turn becomes several gaps."""
    found: list[Gap] = []
    for low, high in idle:
        step, at = max(SHORTEST_S, (high - low) / PIECES), low
        while at < high:
            upto = min(high, at + step)
            cause = moments.cause((at + upto) / 2)
            if found and found[-1].end == at and found[-1].cause == cause:
                found[-1] = Gap(found[-1].start, upto, cause)
            else:
                found.append(Gap(at, upto, cause))
            at = upto
    return found


def seconds_by_cause(found: Iterable[Gap]) -> dict[str, float]:
    """The seconds of each cause, the longest first."""
    seconds: Counter[str] = Counter()
    for gap in found:
        seconds[gap.cause] += gap.end - gap.start  # type: ignore[assignment]
    return {cause: float(total) for cause, total in seconds.most_common()}


def busy_at_full_speed(busy: float, idle_by_cause: dict[str, float], slowed: float) -> float:
    """The share of the time in which a device that is not slowed would compute: what is in NOT_SLOWED takes as many
    seconds there, while all else is faster."""
    return busy / (1 + (slowed - 1) * sum(idle_by_cause.get(cause, 0.0) for cause in NOT_SLOWED))
