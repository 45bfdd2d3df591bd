"""Draws a run: one row per stage with a bar per task, and below them how much the device was in use."""

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec import Struct

from penstock.bench.figures import STAGES, Report, Sample
from penstock.errors import ConfigurationError

COLOURS = {"high": ("#d55e00", "#f0a06a"), "normal": ("#0072b2", "#6ab0da"), "low": ("#707070", "#b0b0b0")}
"""Two shades for each priority, taken in turn by its tasks (Okabe and Ito's palette, safe for the colour-blind)."""

WAITING, BUSY, IDLE = "#dfe3e8", "#2b8a5a", "#f2c4c4"

LANE_INCHES, GAP_LANES, DEVICE_LANES = 0.17, 0.8, 2.5

THINNEST = 1 / 1500
"""Least width of a bar, as a share of the picture: a shorter one would be invisible."""


Span = tuple[float, float]


class Bar(Struct, frozen=True):
    """One stage of one task; seconds since the first task was created. In `infer` it waits for the device until
    `reached`. `turn` counts the tasks of its priority."""

    sample: Sample
    turn: int
    start: float
    end: float
    reached: float


def check_library() -> None:
    """Raises ConfigurationError when a plot is asked for and cannot be drawn."""
    if find_spec("matplotlib") is None:
        raise ConfigurationError("--plot needs matplotlib: pip install 'penstock-server[bench]', or leave --plot out")


def draw(report: Report, path: Path) -> None:
    """Writes the picture, as PNG or SVG by the suffix of the path."""
    from matplotlib.figure import Figure

    rows = bars(report.samples)
    lanes = {stage: laid_out(rows[stage]) for stage in STAGES}
    height = sum(len(lanes[stage]) for stage in STAGES) + GAP_LANES * (len(STAGES) + 1) + DEVICE_LANES
    figure = Figure(figsize=(13, LANE_INCHES * height + 1.9), layout="constrained")
    axes = figure.add_subplot()
    span = max((bar.end for bar in rows["upload"]), default=1.0)
    top, ticks = 0.0, []
    for stage in STAGES:
        ticks.append((top + len(lanes[stage]) / 2, stage))
        _stage(axes, lanes[stage], top, span)
        _margin(axes, span, ticks[-1][0], _of_stage(rows[stage], span))
        top += len(lanes[stage]) + GAP_LANES
        axes.axhline(top - GAP_LANES / 2, color="#e6e6e6", linewidth=0.8, zorder=0)
    ticks.append((top + DEVICE_LANES / 2, "device"))
    _device(axes, rows["infer"], report, top, span)
    _frame(axes, report, span, top + DEVICE_LANES, ticks)
    figure.savefig(path, dpi=150)


def bars(samples: Sequence[Sample]) -> dict[str, list[Bar]]:
    """Every stage's bars, of the tasks that succeeded. The stages of an attempt follow one another; a task that has to
    wait for memory does so after `fetch`."""
    done = [s for s in samples if s.started is not None and "upload_ms" in s.timing]
    zero = min((s.created for s in done), default=0.0)
    rows: dict[str, list[Bar]] = {stage: [] for stage in STAGES}
    turns: Counter[str] = Counter()
    for sample in done:
        turns[sample.priority] += 1
        clock, timing = (sample.started or 0.0) - zero, sample.timing
        known_ms = timing["queue_ms"] + sum(timing[f"{stage}_ms"] for stage in STAGES)
        reached = clock + (timing.get("to_device_ms", 0.0) - timing["queue_ms"]) / 1000
        for stage in STAGES:
            end = clock + timing[f"{stage}_ms"] / 1000
            on_device = min(end, max(clock, reached)) if stage == "infer" else clock
            rows[stage].append(Bar(sample, turns[sample.priority], clock, end, on_device))
            clock = end if stage != "fetch" else end + max(0.0, timing["total_ms"] - known_ms) / 1000
    return rows


def in_use(infer: Sequence[Bar], capacity: float) -> list[tuple[float, float]]:
    """(second, share of the device from then on). A task knows the sum of its device time, which is spread here from
    its first batch to its last; `capacity` is how many seconds of it fit into one."""
    steps: dict[float, float] = {0.0: 0.0}
    for bar in infer:
        if bar.end > bar.reached:
            rate = bar.sample.device_ms / 1000 / (bar.end - bar.reached) / capacity
            steps[bar.reached] = steps.get(bar.reached, 0.0) + rate
            steps[bar.end] = steps.get(bar.end, 0.0) - rate
    level, found = 0.0, []
    for second in sorted(steps):
        level += steps[second]
        found.append((second, min(1.0, max(0.0, level))))
    return found


def laid_out(row: Sequence[Bar]) -> list[list[Bar]]:
    """Spreads bars that overlap over lanes: as many lanes as tasks ran at once, at least one."""
    lanes: list[list[Bar]] = []
    for bar in sorted(row, key=lambda b: b.start):
        lane = next((lane for lane in lanes if lane[-1].end <= bar.start), None)
        if lane is None:
            lanes.append([bar])
        else:
            lane.append(bar)
    return lanes or [[]]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Merges spans of time that overlap."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _stage(axes: Any, lanes: list[list[Bar]], top: float, span: float) -> None:
    for number, lane in enumerate(lanes):
        where = (top + number + 0.06, 0.88)
        axes.broken_barh([(bar.start, bar.reached - bar.start) for bar in lane], where, facecolors=WAITING)
        colours = [COLOURS[bar.sample.priority][bar.turn % 2] for bar in lane]
        shown = [(bar.reached, max(bar.end - bar.reached, span * THINNEST)) for bar in lane]
        axes.broken_barh(shown, where, facecolors=colours)


def _device(axes: Any, infer: Sequence[Bar], report: Report, top: float, span: float) -> None:
    """Draws how much of the device was in use, relative to its own counter of device time."""
    bottom, busy_s = top + DEVICE_LANES, (report.device_busy or 0.0) * report.wall_s
    capacity = sum(bar.sample.device_ms for bar in infer) / 1000 / busy_s if busy_s else report.devices
    levels = [*in_use(infer, capacity or 1.0), (span, 0.0)]
    axes.broken_barh([(0, span)], (top, DEVICE_LANES), facecolors=IDLE)
    axes.fill_between(
        [second for second, _ in levels], [bottom - DEVICE_LANES * level for _, level in levels], bottom,
        step="post", facecolor=BUSY, linewidth=0,
    )  # fmt: skip
    busy = "" if report.device_busy is None else f"in use {report.device_busy:.1%}\nof the time"
    _margin(axes, span, top + DEVICE_LANES / 2, busy)


def _of_stage(row: Sequence[Bar], span: float) -> str:
    """Returns the mean of a stage, and the share of the time in which some task was in it."""
    if not row:
        return ""
    mean_s = sum(bar.end - bar.start for bar in row) / len(row)
    taken = sum(end - start for start, end in merged((bar.start, bar.end) for bar in row)) / span
    mean = f"{mean_s:.2f} s" if mean_s >= 1 else f"{mean_s * 1000:.1f} ms"
    return f"mean {mean}\noccupied {taken:.1%} of the time"


def _margin(axes: Any, span: float, y: float, text: str) -> None:
    axes.text(span * 1.012, y, text, va="center", fontsize=9, color="#444444")


def _frame(axes: Any, report: Report, span: float, bottom: float, ticks: list[tuple[float, str]]) -> None:
    """Draws axes, title and legend."""
    from matplotlib.patches import Patch

    axes.set_xlim(0, span)
    axes.set_ylim(bottom, -GAP_LANES / 2)
    axes.set_xlabel("seconds since the first submit")
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks], fontsize=11)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#eeeeee", zorder=0)
    axes.set_axisbelow(True)
    ratio = f", {report.bare.ratio:.2f} × the bare loop" if report.bare else ""
    axes.set_title(
        f"{report.model}: {report.mode}, {report.tasks} tasks in {report.wall_s:.1f} s, "
        f"{report.tasks_per_s:.2f} tasks/s{ratio}",
        loc="left", fontsize=12, pad=28,
    )  # fmt: skip
    seen = dict.fromkeys(sample.priority for sample in report.samples)
    legend = [Patch(facecolor=COLOURS[name][0], label=f"task, priority {name} (two shades in turn)") for name in seen]
    legend += [
        Patch(facecolor=WAITING, label="waits for the device"),
        Patch(facecolor=BUSY, label="device in use"),
        Patch(facecolor=IDLE, label="device idle"),
    ]
    axes.legend(handles=legend, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(legend), frameon=False, fontsize=9,
                borderaxespad=0.2, handlelength=1.4, columnspacing=1.6)  # fmt: skip
