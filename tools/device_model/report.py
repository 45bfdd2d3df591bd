"""The figures of a simulation, and the tables that show them."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from msgspec import Struct

from penstock.bench.figures import percentile
from penstock.core.task import Priority, State
from tools.device_model.busy import Gap, Worker as Causes, batches_before, gaps, idle, seconds_by_cause
from tools.device_model.record import Entry
from tools.device_model.simulation import Measured, Worker

GROUPS = ("codec", "tiles", "loop", "device", "other")


class CardFigures(Struct, frozen=True, kw_only=True):
    """One worker: the share of the time in which its device computed, by the record of the model and by the metric
    (which may count copies); idle shares by cause; cores that our code needs by group of threads; batches that a task
    of high priority waited for."""

    busy: float
    busy_metric: float
    idle_by_cause: dict[str, float]
    longest_gap_s: float
    cores_by_group: dict[str, float]
    codec_cores: float
    tiles_per_batch: float
    computed_mpx_per_s: float
    gaps: list[Gap]


class Report(Struct, frozen=True, kw_only=True):
    """All figures of a simulation. Rates and cores are those of the real card: the model's times were `slowed`."""

    card: str
    cards: int
    result: str
    slowed: float
    seconds: float
    slots: int
    cores_used_here: float
    tasks_per_s: float
    mpx_per_s: float
    busy: float
    own_cores: float
    codec_cores: float
    redis_cores: float
    high_from_claim: list[int]
    high_from_ready: list[int]
    failed: int
    workers: list[CardFigures]


def report(measured: Measured) -> Report:
    """The figures of a simulation."""
    run, seconds = measured.run, measured.end - measured.start
    workers = [_figures(measured, worker) for worker in measured.workers]
    done = [
        measured.sent[label].megapixels
        for label, task in measured.tasks.items()
        if task.state is State.SUCCESS and measured.start <= (task.finished or 0) / 1000 < measured.end
    ]
    waits = _high_waits(measured)
    return Report(
        card=run.card.name,
        cards=run.card.count,
        result=run.result,
        slowed=run.slowed,
        seconds=seconds / run.slowed,
        slots=measured.workers[0].slots,
        cores_used_here=sum(sum(w.cpu_s.values()) for w in measured.workers) / seconds,
        tasks_per_s=len(done) / seconds * run.slowed,
        mpx_per_s=sum(done) / seconds * run.slowed,
        busy=sum(w.busy for w in workers) / len(workers),
        own_cores=sum(sum(w.cores_by_group.values()) for w in workers),
        codec_cores=sum(w.codec_cores for w in workers),
        redis_cores=measured.redis_cpu_s * run.slowed / seconds,
        high_from_claim=sorted(claimed for claimed, _ in waits),
        high_from_ready=sorted(ready for _, ready in waits),
        failed=sum(task.state is State.FAILED for task in measured.tasks.values()),
        workers=workers,
    )


def _figures(measured: Measured, worker: Worker) -> CardFigures:
    run, start, end = measured.run, measured.start, measured.end
    seconds = end - start
    names = {e.size: e.label for e in worker.entries if e.kind == "thread"}
    codec_threads = sum(name.startswith("codec-") and not name.startswith("codec-high") for name in names.values())
    tasks = [task for task in measured.tasks.values() if task.worker == worker.id]
    causes = Causes(worker.entries, tasks, slots=worker.slots, codec_threads=codec_threads)
    found = gaps(worker.entries, causes, start, end)
    computes = [e for e in worker.entries if e.kind == "compute" and start <= e.end < end]
    runs = [e for e in worker.entries if e.kind == "infer" and start <= e.end < end]
    return CardFigures(
        busy=1 - sum(high - low for low, high in idle(worker.entries, start, end)) / seconds,
        busy_metric=worker.busy_s / seconds,
        idle_by_cause={cause: s / seconds for cause, s in seconds_by_cause(found).items()},
        longest_gap_s=max((high - low for low, high in idle(worker.entries, start, end)), default=0) / run.slowed,
        cores_by_group=_cores(worker, names, run.slowed / seconds),
        codec_cores=_codec_s(worker.entries, start, end) / seconds,
        tiles_per_batch=sum(e.size for e in runs) / max(1, len(runs)),
        computed_mpx_per_s=sum(e.size for e in computes) / 1e6 / seconds * run.slowed,
        gaps=found,
    )


def _cores(worker: Worker, names: dict[int, str], scale: float) -> dict[str, float]:
    cores: Counter[str] = Counter()
    for thread, cpu_s in worker.cpu_s.items():
        cores[_group(thread, names, worker.pid)] += cpu_s * scale  # type: ignore[assignment]
    return {group: float(cores[group]) for group in GROUPS}


def _group(thread: int, names: dict[int, str], pid: int) -> str:
    if thread == pid:
        return "loop"
    name = names.get(thread, "")
    return next((g for g, prefix in (("codec", "codec"), ("tiles", "tiles"), ("device", "cuda:")) if name.startswith(prefix)), "other")


def _codec_s(entries: Sequence[Entry], start: float, end: float) -> float:
    spans = [(e.start, e.end) for e in entries if e.kind in ("decode", "encode")]
    return sum(max(0.0, min(high, end) - max(low, start)) for low, high in spans)


def _high_waits(measured: Measured) -> list[tuple[int, int]]:
    """For each task of high priority the batches from its claim, and from the end of its decoding."""
    found = []
    for worker in measured.workers:
        ready = {e.label: e.end for e in worker.entries if e.kind == "decode"}
        for label, sent in measured.sent.items():
            task = measured.tasks[label]
            if sent.priority is not Priority.HIGH or task.worker != worker.id or label not in ready:
                continue
            from_claim = batches_before(worker.entries, label, (task.started or 0) / 1000)
            from_ready = batches_before(worker.entries, label, ready[label])
            if from_claim is not None and from_ready is not None:
                found.append((from_claim, from_ready))
    return found
