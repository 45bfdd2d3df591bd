"""Runs a target on one input after the other, and notes what must not happen: an exception, a hang, growing memory.

It runs in a child process. The kernel ends code that does not come back from C, and the parent then finds the input in
memory that both share.
"""

import hashlib
import mmap
import resource
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from msgspec import Struct

from tools.fuzz.target import ACCEPTED, Target

MIB = 1024 * 1024
CPU_S = 5.0
"""The longest time that one input may take."""
KILLED_AFTER_S = 10.0
"""Code in C that takes longer is killed."""
MOST_RUN_BYTES = 64 * MIB
"""The memory that one input may take."""
MOST_GROWTH_BYTES = 128 * MIB
"""By how much a process may grow from a fifth of its runs on. The tables of libFuzzer take about 60 MiB."""
LOOK_EACH = 256
MOST_FAULTS = 10
MOST_HANGS = 3
"""After so many a run ends: each takes as long as thousands of other inputs."""
MOST_OUTCOMES = 1000
_PAGE_BYTES = resource.getpagesize()
_OURS = ("src/penstock/", "tools/fuzz/targets/")


class TookTooLong(BaseException):
    """An input took more than `CPU_S` of a processor."""


class Fault(Struct, frozen=True):
    """What went wrong, and the file that has its input."""

    what: str
    file: str


class Summary(Struct):
    """How a run went."""

    runs: int = 0
    accepted: int = 0
    took_s: float = 0.0
    grew_bytes: int = 0
    outcomes: dict[str, int] = {}
    faults: list[Fault] = []


class CurrentInput:
    """The input that is being read, in memory that a parent and its child share."""

    def __init__(self, most_bytes: int) -> None:
        self._memory = mmap.mmap(-1, most_bytes + 8)

    def note(self, data: bytes) -> None:
        """Keep an input until the next one."""
        self._memory[:8] = len(data).to_bytes(8)
        self._memory[8 : 8 + len(data)] = data

    def last(self) -> bytes:
        """Return the input that was noted last."""
        return self._memory[8 : 8 + int.from_bytes(self._memory[:8])]


class Watch:
    """Runs one target, until it has had so many inputs, or for so many seconds; `done` then ends the process."""

    def __init__(
        self,
        target: Target,
        current: CurrentInput,
        faults: Path,
        done: Callable[[Summary], NoReturn],
        *,
        runs: int,
        seconds: float,
    ) -> None:
        self.summary = Summary()
        self.is_new = False
        """Whether the outcome of the last input was a new one."""
        self._target = target
        self._current = current
        self._faults = faults
        self._done = done
        self._runs = runs
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._hangs = 0
        self._settled_bytes = 0
        self._peak_bytes = peak_bytes()
        self._seen: set[str] = set()
        signal.signal(signal.SIGVTALRM, _too_long)

    def run(self, data: bytes) -> None:
        """Read one input, and note what is wrong."""
        self._look()
        data = data[: self._target.most_bytes]
        self._current.note(data)
        self.summary.runs += 1
        try:
            outcome = self._outcome(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  whatever it is, it is what we look for
            self._add(what_of(error), place_of(error), self._shortest(data, error))
            self._hangs += isinstance(error, TookTooLong)
            return
        self._count(outcome)
        self._look_at_peak(data)

    def _outcome(self, data: bytes) -> str:
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
        signal.setitimer(signal.ITIMER_PROF, KILLED_AFTER_S)
        try:
            return self._target.check(data)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _count(self, outcome: str) -> None:
        outcomes = self.summary.outcomes
        self.summary.accepted += outcome == ACCEPTED
        self.is_new = outcome not in outcomes and len(outcomes) < MOST_OUTCOMES
        if self.is_new or outcome in outcomes:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def _look(self) -> None:
        runs = self.summary.runs
        if runs >= self._runs or self._hangs >= MOST_HANGS or (runs % 16 == 0 and time.monotonic() > self._ends):
            self._finish()
        if runs % LOOK_EACH == 0 and self._is_young():
            self._settled_bytes = resident_bytes()

    def _is_young(self) -> bool:
        now = time.monotonic()
        return self.summary.runs <= self._runs / 5 and now <= self._began + (self._ends - self._began) / 5

    def _finish(self) -> NoReturn:
        self.summary.took_s = time.monotonic() - self._began
        self.summary.grew_bytes = resident_bytes() - self._settled_bytes
        if self.summary.grew_bytes > MOST_GROWTH_BYTES:
            what = f"the process grew by {self.summary.grew_bytes // MIB} MiB in {self.summary.runs:,} runs"
            self._add(what, "growth", self._current.last())
        self._done(self.summary)

    def _look_at_peak(self, data: bytes) -> None:
        peak = peak_bytes()
        if peak - self._peak_bytes > MOST_RUN_BYTES:
            self._add(f"one input took {(peak - self._peak_bytes) // MIB} MiB", "memory", data)
        self._peak_bytes = peak

    def _add(self, what: str, place: str, data: bytes) -> None:
        if place not in self._seen and len(self._seen) < MOST_FAULTS:
            self._seen.add(place)
            self.summary.faults.append(Fault(what, str(written(data, self._target, self._faults))))

    def _shortest(self, data: bytes, error: BaseException) -> bytes:
        """A shorter input with the same fault; the input itself where trying would take too long."""
        if isinstance(error, TookTooLong) or place_of(error) in self._seen:
            return data
        size, ends = len(data) // 2, time.monotonic() + 2
        while size and time.monotonic() < ends:
            for at in range(0, len(data), size):
                shorter = data[:at] + data[at + size :]
                if time.monotonic() < ends and self._fails_there(shorter, error):
                    data = shorter
                    break
            else:
                size //= 2
        return data

    def _fails_there(self, data: bytes, error: BaseException) -> bool:
        try:
            self._outcome(data)
        except KeyboardInterrupt:
            raise
        except BaseException as other:  # noqa: BLE001
            return (type(other), place_of(other)) == (type(error), place_of(error))
        return False


def written(data: bytes, target: Target, directory: Path) -> Path:
    """Write an input into a file that is named after its target."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    file.write_bytes(data)
    return file


def what_of(error: BaseException) -> str:
    """Return what a fault is, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__} at {place_of(error)}: {text}"[:300].encode(errors="backslashreplace").decode()


def place_of(error: BaseException) -> str:
    """Return the deepest line of ours that an exception came through."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if any(part in one.filename for part in _OURS)]
    if not frames:
        return type(error).__name__
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"


def resident_bytes() -> int:
    """Return how much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _too_long(_: int, __: FrameType | None) -> None:
    raise TookTooLong(f"more than {CPU_S:g} s of a processor")
