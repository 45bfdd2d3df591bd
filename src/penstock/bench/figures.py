"""Computes the figures of the report from the samples of a run."""

from collections.abc import Iterable, Sequence
from math import ceil

from msgspec import Struct

STAGES = ("fetch", "prepare", "infer", "postprocess", "upload")


class Sample(Struct, kw_only=True):
    """One task as its client saw it. `due_s`, `accepted_s` and `seen_s` count from the start of the load, by the
    client's clock; `created` and `started` are seconds since 1970 by the clock of Redis.

    In an open loop a task is due when its arrival says, not when a late client came to send it.
    """

    number: int
    image: int
    priority: str
    due_s: float
    accepted_s: float | None = None
    seen_s: float = 0.0
    error: str = ""
    created: float = 0.0
    started: float | None = None
    timing: dict[str, float] = {}
    device_ms: float = 0.0
    output_megapixels: float = 0.0


class Spread(Struct, frozen=True, kw_only=True):
    """Percentiles of `n` values, in milliseconds."""

    n: int
    p50: float
    p90: float
    p99: float
    max: float


class Latency(Struct, frozen=True, kw_only=True):
    """Latencies of the tasks of one priority: `submit` is the answer to the POST, `seen` from due to seen finished,
    `queue` from accepted to claimed, `to_device` from accepted to the first batch, and `run` from claimed to
    settled."""

    submit: Spread
    seen: Spread
    queue: Spread
    to_device: Spread
    run: Spread


class Bare(Struct, frozen=True, kw_only=True):
    """The same images, one after the other, without a server: `tasks_per_s` is what that gives for the tasks of this
    run, `ratio` the server's throughput beside it (times the number of devices). `bound` is the ratio of a server that
    costs nothing and keeps every core busy with the same work; None where a GPU does the most of it."""

    tasks_per_s: float
    ratio: float
    bound: float | None
    device: str
    threads: int
    runs: int
    before_megapixels_per_s: float
    after_megapixels_per_s: float | None


class Machine(Struct, frozen=True, kw_only=True):
    """The machine of the client, with its load average over the minute before the run."""

    cores: int
    python: str
    load_before: float


class Report(Struct, frozen=True, kw_only=True):
    """All figures of a run, as `--json` writes them. None stands for what could not be measured from here."""

    penstock: str
    model: str
    mode: str
    images: list[str]
    machine: Machine
    tasks: int
    failed: int
    errors: dict[str, int]
    wall_s: float
    tasks_per_s: float
    input_megapixels_per_s: float
    output_megapixels_per_s: float
    submits_per_s: float
    latency_ms: dict[str, Latency]
    stages_ms: dict[str, float]
    devices: int
    device_busy: float | None
    cpu_s_per_task: float | None
    peak_pss_bytes: int | None
    start_to_ready_s: float | None
    client_cpu: float
    bare: Bare | None
    samples: list[Sample]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Returns the nearest-rank percentile of values in rising order."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Iterable[float]) -> Spread:
    """Returns the percentiles of one or more values in any order."""
    ordered = sorted(values)
    p50, p90, p99 = (round(percentile(ordered, percent), 3) for percent in (50, 90, 99))
    return Spread(n=len(ordered), p50=p50, p90=p90, p99=p99, max=round(ordered[-1], 3))


def latencies(samples: Sequence[Sample]) -> dict[str, Latency]:
    """Returns the latencies of each priority, and of all tasks under `all`."""
    names = dict.fromkeys(sample.priority for sample in samples)
    groups = {name: [s for s in samples if s.priority == name] for name in names} | {"all": list(samples)}
    return {name: _latency(group) for name, group in groups.items() if group}


def _latency(samples: Sequence[Sample]) -> Latency:
    return Latency(
        submit=spread(1000 * ((s.accepted_s or s.due_s) - s.due_s) for s in samples),
        seen=spread(1000 * (s.seen_s - s.due_s) for s in samples),
        queue=spread(s.timing["queue_ms"] for s in samples),
        to_device=spread(s.timing["to_device_ms"] for s in samples),
        run=spread(s.timing["total_ms"] - s.timing["queue_ms"] for s in samples),
    )


def stage_means(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns the mean milliseconds of each stage."""
    return {
        stage: round(sum(s.timing.get(f"{stage}_ms", 0.0) for s in samples) / len(samples), 3)
        for stage in STAGES
        if samples
    }


def wall_s(samples: Sequence[Sample]) -> float:
    """Returns the seconds from the moment the first task was due until the last one was seen finished."""
    return max((s.seen_s for s in samples), default=0.0) - min((s.due_s for s in samples), default=0.0)


def submits_per_s(samples: Sequence[Sample]) -> float:
    """Returns accepted submits per second, between the first request and the last answer."""
    accepted = [s.accepted_s for s in samples if s.accepted_s is not None]
    took_s = max(accepted, default=0.0) - min((s.due_s for s in samples), default=0.0)
    return len(accepted) / took_s if took_s > 0 else 0.0


def bare_seconds(samples: Sequence[Sample], seconds: dict[int, list[float]]) -> float:
    """Returns the seconds that the bare loop would take for these tasks, from its mean time of each image."""
    return sum(sum(seconds[s.image]) / len(seconds[s.image]) for s in samples)
