"""The figures of a simulation. Rates and cores are those of the real card, which is not slowed."""

from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

from penstock.core.request import Format
from penstock.core.task import Priority, State
from tools.device_model.causes import Gap, Moments, busy_at_full_speed, gaps, seconds_by_cause
from tools.device_model.simulation import Measured, MeasuredWorker, Run
from tools.device_model.timeline import Span, batches_before, idle, spans

GROUPS = {"codec": "codec", "tiles": "tiles", "cuda": "device", "MainThread": "loop"}
"""Beginnings of the names of threads -> the group that they are in; all others are in `other`."""

DRAWN_S = 2.0
"""Seconds of the timeline that are kept for the picture."""

BUSY, WAIT = 0.95, 2
"""The bars: the share of the time in which an H100 computes, and the batches that a task of high priority waits for."""


class Timeline(Struct, frozen=True, kw_only=True):
    """Spans of seconds from the first moment: computing, and idle by cause."""

    computing: list[Span]
    idle: list[Gap]


class Report(Struct, frozen=True, kw_only=True):
    """All figures of a run, as `--json` writes them.

    `busy` and `busy_at_full_speed` are means over the cards, by the record of the model; `busy_metric` is what the
    workers' own counter says, in which the copy of the input counts. `own_cores` are those that our code needs, by
    group of threads, `codec_cores` those that decode and encode; both are sums over the workers. `lock` is the share of
    the time in which the interpreter of one worker is locked. `high_waits` counts the tasks of high priority by the
    batches between the moment in which their tiles were there and their own first batch, `high_waits_from_claim` from
    their claim, so that those count too that passed while their photo was decoded.
    """

    card: str
    cards: int
    cores: int
    result: Format
    slowed: float
    seconds: float
    slots: int
    tasks_per_s: float
    mpx_per_s: float
    computed_mpx_per_s: float
    tiles_per_batch: float
    busy: float
    busy_at_full_speed: float
    busy_metric: float
    idle_by_cause: dict[str, float]
    longest_gap_ms: float
    own_cores: dict[str, float]
    codec_cores: float
    redis_cores: float
    cores_here: float
    lock: float | None
    high_waits: dict[int, int]
    high_waits_from_claim: dict[int, int]
    failed: int
    timeline: Timeline

    @property
    def all_cores(self) -> float:
        """Cores that our code, the codecs and Redis need together."""
        return sum(self.own_cores.values()) + self.codec_cores + self.redis_cores


def report(measured: Measured) -> Report:
    """The figures of a simulation."""
    run, workers = measured.run, measured.workers
    seconds = _mean(w.after.at - w.before.at for w in workers)
    found = [_gaps(measured, worker) for worker in workers]
    idle_by_cause = seconds_by_cause(gap for one in found for gap in one)
    idle_by_cause = {cause: s / seconds / len(workers) for cause, s in idle_by_cause.items()}
    busy = 1 - sum(idle_by_cause.values())
    own_s = _cpu_s(workers)
    sizes = _finished_megapixels(measured)
    return Report(
        card=run.card.name,
        cards=run.card.count,
        cores=run.card.cores * run.card.count,
        result=run.result,
        slowed=run.slowed,
        seconds=seconds / run.slowed,
        slots=workers[0].slots,
        tasks_per_s=len(sizes) * run.slowed / seconds,
        mpx_per_s=sum(sizes) * run.slowed / seconds,
        computed_mpx_per_s=sum(_sizes(workers, "compute")) / 1e6 * run.slowed / seconds,
        tiles_per_batch=_mean(_sizes(workers, "infer")),
        busy=busy,
        busy_at_full_speed=busy_at_full_speed(busy, idle_by_cause, run.slowed),
        busy_metric=_mean((w.after.busy_s - w.before.busy_s) / (w.after.at - w.before.at) for w in workers),
        idle_by_cause=idle_by_cause,
        longest_gap_ms=1000 * max((high - low for w in workers for low, high in _idle(w)), default=0.0) / run.slowed,
        own_cores={group: s * run.slowed / seconds for group, s in own_s.items()},
        codec_cores=sum(_codec_s(worker) for worker in workers) / seconds,
        redis_cores=measured.redis_cpu_s * run.slowed / seconds,
        cores_here=sum(own_s.values()) / seconds,
        lock=None if measured.lock is None else measured.lock * run.slowed,
        high_waits=_counted(ready for ready, _ in _high_waits(measured)),
        high_waits_from_claim=_counted(claim for _, claim in _high_waits(measured)),
        failed=sum(task.state is State.FAILED for task in measured.tasks.values()),
        timeline=_timeline(run, workers[0], found[0]),
    )


def _idle(worker: MeasuredWorker) -> list[Span]:
    return idle(worker.entries, worker.before.at, worker.after.at)


def _gaps(measured: Measured, worker: MeasuredWorker) -> list[Gap]:
    claimed = [(t.started or 0) / 1000 for t in measured.tasks.values() if t.worker == worker.process.id]
    codec_threads = measured.run.card.cores  # of which there are as many
    return gaps(_idle(worker), Moments(worker.entries, claimed, slots=worker.slots, codec_threads=codec_threads))


def _cpu_s(workers: Iterable[MeasuredWorker]) -> dict[str, float]:
    seconds = dict.fromkeys([*GROUPS.values(), "other"], 0.0)
    for worker in workers:
        names = {e.thread: e.label for e in worker.entries if e.kind == "thread"} | {worker.process.pid: "MainThread"}
        for thread, cpu_s in worker.after.cpu_s.items():
            name = names.get(thread, "")
            group = next((group for start, group in GROUPS.items() if name.startswith(start)), "other")
            seconds[group] += cpu_s - worker.before.cpu_s.get(thread, 0.0)
    return seconds


def _codec_s(worker: MeasuredWorker) -> float:
    at = (worker.before.at, worker.after.at)
    return sum(high - low for kind in ("decode", "encode") for low, high in spans(worker.entries, kind, *at))


def _sizes(workers: Iterable[MeasuredWorker], kind: str) -> list[int]:
    return [e.size for w in workers for e in w.entries if e.kind == kind and w.before.at <= e.end < w.after.at]


def _finished_megapixels(measured: Measured) -> list[float]:
    start, end = measured.workers[0].before.at, measured.workers[0].after.at
    done = {label for label, task in measured.tasks.items() if task.state is State.SUCCESS}
    return [measured.sent[d].megapixels for d in done if start <= (measured.tasks[d].finished or 0) / 1000 < end]


def _high_waits(measured: Measured) -> Iterator[tuple[int, int]]:
    """The batches that went before each task of high priority, from its end of decoding and from its claim."""
    for worker in measured.workers:
        ready = {e.label: e.end for e in worker.entries if e.kind == "decode"}
        for label, task in measured.tasks.items():
            if task.priority is Priority.HIGH and task.worker == worker.process.id and label in ready:
                from_ready = batches_before(worker.entries, label, ready[label])
                from_claim = batches_before(worker.entries, label, (task.started or 0) / 1000)
                if from_ready is not None and from_claim is not None:
                    yield from_ready, from_claim


def _counted(values: Iterable[int]) -> dict[int, int]:
    return dict(sorted(Counter(values).items()))


def _timeline(run: Run, worker: MeasuredWorker, found: Iterable[Gap]) -> Timeline:
    zero, until = worker.before.at, worker.before.at + DRAWN_S * run.slowed

    def moved(at: float) -> float:
        return round((at - zero) / run.slowed, 5)

    computing = [(moved(low), moved(high)) for low, high in spans(worker.entries, "compute", zero, until)]
    idle_ = [Gap(moved(g.start), moved(min(g.end, until)), g.cause) for g in found if g.start < until]
    return Timeline(computing=computing, idle=idle_)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / max(1, len(found))
