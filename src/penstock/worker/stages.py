"""The stages of one attempt: their times, the progress that is reported, and a postprocess that needs no stage."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from msgspec import Struct

from penstock.core.lease import Lease
from penstock.core.task import Progress, Stage
from penstock.models.base import Work
from penstock.telemetry import metrics
from penstock.worker.attempt_spans import traced_stage, traced_wait

R = TypeVar("R")

Watcher = Callable[[Stage, Progress | None], None]
"""Is told where an attempt is; must not block."""


class Stages:
    """Times the stages of one attempt and tells the watcher of each. A stage that was not reached is not in the
    timing."""

    def __init__(self, lease: Lease, watch: Watcher) -> None:
        self._lease = lease
        self._model = lease.request.model
        self._watch = watch
        self._started = time.perf_counter()
        self._timing: dict[str, float] = {}
        self._moved_s: dict[Stage, float] = defaultdict(float)
        self._done = self._done_before = 0

    @traced_stage
    def __call__(self, name: Stage) -> "TimedStage":
        """Time one stage, which begins with the block; `began` is then in seconds of `time.perf_counter`."""
        return TimedStage(name, self._watch, self.end)

    def end(self, name: Stage, took_s: float) -> None:
        """Count the seconds of a stage that has ended."""
        took_s += self._moved_s.get(name, 0.0)
        self._timing[f"{name}_ms"] = round(self._timing.get(f"{name}_ms", 0.0) + took_s * 1000, 3)
        metrics.report("stage.duration", took_s, model=self._model, stage=name)

    def move(self, seconds: float, *, to: Stage, out_of: Stage) -> None:
        """Count seconds that go by in one stage as seconds of another, before either has ended."""
        self._moved_s[out_of] -= seconds
        self._moved_s[to] += seconds

    def tiles(self, done: int, total: int) -> None:
        """Report how many tiles the device has done. Those of a run that was given up count as done."""
        self._done = self._done_before + done
        self._watch("infer", Progress(done=self._done, total=self._done_before + total))

    def run_again(self) -> None:
        """Expect further tiles, of another run: the number of those that are done never falls."""
        self._done_before = self._done

    @traced_wait
    def reached_device(self, infer_began: float, waited_s: float) -> None:
        """Record that the first batch began so long after the stage `infer` did."""
        to_device_s = self._lease.waited_ms / 1000 + infer_began - self._started + waited_s
        self._timing["to_device_ms"] = milliseconds(to_device_s)
        metrics.report("task.to_device", to_device_s, model=self._model, priority=self._lease.priority)

    def timing(self) -> dict[str, float]:
        """Milliseconds by stage, with the wait in the queue, the time from the submit to the first batch on the device,
        and the sum."""
        waited_ms = self._lease.waited_ms
        total = waited_ms + 1000 * (time.perf_counter() - self._started)
        return {"queue_ms": round(waited_ms, 3), **self._timing, "total_ms": round(total, 3)}


class TimedStage(Struct, eq=False):
    """A stage of an attempt, for the time of a block; one that raises is not counted. A generator would take twice the
    calls, for each of five stages."""

    name: Stage
    watch: Watcher
    end: Callable[[Stage, float], None]
    began: float = 0.0

    def __enter__(self) -> Self:
        self.watch(self.name, None)
        self.began = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end(self.name, time.perf_counter() - self.began)


class EarlyPostprocess(Generic[R]):
    """Postprocesses a task of one tile on the thread that has just accepted its output."""

    # A step of its own on a codec thread costs two switches of threads: a task of noop-v1 then takes 369 µs of CPU in
    # the pipeline instead of 337 with eight in flight, and 657 instead of 589 alone (two cores, Python 3.11, uvloop).
    # It pays for models that give data without a file. A file is encoded on a codec thread: that takes longer than the
    # switches, and the thread would not stack the next batch meanwhile.
    # This is all there is to it: the device scheduler calls `on_single_output` and knows nothing of results, and
    # `Stages.move` counts the seconds, which go by in `infer`, as `postprocess`.

    def __init__(self, postprocess: Callable[[Work], R]) -> None:
        self._postprocess = postprocess
        self.result: R | None = None
        self.took_s = 0.0

    def __call__(self, work: Work) -> None:
        started = time.perf_counter()
        self.result = self._postprocess(work)
        self.took_s = time.perf_counter() - started


def milliseconds(seconds: float) -> float:
    """Rounded to a microsecond."""
    return round(seconds * 1000, 3)
