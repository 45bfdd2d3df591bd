"""The run as a picture: a row for each stage with a bar for each task, and below them the device, busy and idle."""

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

LANE_INCHES, GAP_LANES = 0.17, 0.8

THINNEST = 1 / 1500
"""Of the width: what is shorter is drawn this wide, or it would not be seen."""


Span = tuple[float, float]


class Bar(Struct, frozen=True):
    """One stage of one task; seconds since the first task was created."""

    sample: Sample
    start: float
    end: float


def check_library() -> None:
    """Raises ConfigurationError when a plot is asked for and cannot be drawn."""
    if find_spec("matplotlib") is None:
        raise ConfigurationError("--plot needs matplotlib: pip install 'penstock[bench]', or leave --plot out")


def draw(report: Report, path: Path) -> None:
    """Write the picture; its form is the suffix of the path."""
    from matplotlib.figure import Figure

    rows = bars(report.samples)
    ran = device_spans(rows["infer"])
    lanes = {stage: laid_out(rows[stage]) for stage in STAGES}
    height = sum(len(lanes[stage]) for stage in STAGES) + GAP_LANES * (len(STAGES) + 1) + 2
    figure = Figure(figsize=(13, LANE_INCHES * height + 1.9), layout="constrained")
    axes = figure.add_subplot()
    span = max((bar.end for bar in rows["upload"]), default=1.0)
    top, ticks = 0.0, []
    for stage in STAGES:
        ticks.append((top + len(lanes[stage]) / 2, stage))
        _stage(axes, lanes[stage], top, span, ran if stage == "infer" else {})
        _margin(axes, span, ticks[-1][0], _of_stage(rows[stage], span))
        top += len(lanes[stage]) + GAP_LANES
        axes.axhline(top - GAP_LANES / 2, color="#e6e6e6", linewidth=0.8, zorder=0)
    ticks.append((top + 1, "device"))
    busy = merged(piece for pieces in ran.values() for piece in pieces)
    axes.broken_barh([(0, span)], (top, 2), facecolors=IDLE)
    axes.broken_barh([(start, end - start) for start, end in busy], (top, 2), facecolors=BUSY)
    share = report.device_busy
    _margin(axes, span, top + 1, "" if share is None else f"busy {share:.1%}\nof the time")
    _frame(axes, report, span, top + 2, ticks)
    figure.savefig(path, dpi=150)


def bars(samples: Sequence[Sample]) -> dict[str, list[Bar]]:
    """Every stage's bars, of the tasks that succeeded: the stages of an attempt follow one another without a gap."""
    done = [s for s in samples if s.started is not None and "upload_ms" in s.timing]
    zero = min((s.created for s in done), default=0.0)
    rows: dict[str, list[Bar]] = {stage: [] for stage in STAGES}
    for sample in done:
        clock = (sample.started or 0.0) - zero
        for stage in STAGES:
            end = clock + sample.timing[f"{stage}_ms"] / 1000
            rows[stage].append(Bar(sample, clock, end))
            clock = end
    return rows


def device_spans(infer: Sequence[Bar]) -> dict[int, list[Span]]:
    """When the device worked on each task, by its number.

    A task knows the sum of its device time and that it lies within `infer`. The device does one thing at a time, and
    of two tasks it finishes the one that came first, unless the later one has priority: so the last that came is put
    as late as it can be, and those before it into what is left. The sum is exact, the place a good guess.
    """
    found: dict[int, list[Span]] = {}
    taken: list[Span] = []
    for bar in sorted(infer, key=lambda b: (b.start, b.end), reverse=True):
        pieces = _latest(bar.start, bar.end, bar.sample.device_ms / 1000, taken)
        found[bar.sample.number] = pieces
        taken = merged([*taken, *pieces])
    return found


def _latest(start: float, end: float, length: float, taken: Sequence[Span]) -> list[Span]:
    """The latest free pieces between `start` and `end` that have this length together, or all that are free."""
    pieces: list[Span] = []
    for low, high in [*reversed(taken), (start, start)]:
        begin = max(start, min(end, high), end - length)
        if begin < end:
            pieces.append((begin, end))
            length -= end - begin
        end = min(end, low)
        if length <= 0 or end <= start:
            break
    return pieces


def laid_out(row: Sequence[Bar]) -> list[list[Bar]]:
    """Bars that overlap in lanes of their own: as many lanes as there were tasks at once, one if there was none."""
    lanes: list[list[Bar]] = []
    for bar in sorted(row, key=lambda b: b.start):
        lane = next((lane for lane in lanes if lane[-1].end <= bar.start), None)
        if lane is None:
            lanes.append([bar])
        else:
            lane.append(bar)
    return lanes or [[]]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans of time without their overlaps."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _stage(axes: Any, lanes: list[list[Bar]], top: float, span: float, ran: dict[int, list[Span]]) -> None:
    """One stage; where `ran` knows when the device worked on a task, the rest of its bar is waiting."""
    for number, lane in enumerate(lanes):
        where = (top + number + 0.06, 0.88)
        waits = [(bar.start, bar.end - bar.start) for bar in lane if bar.sample.number in ran]
        axes.broken_barh(waits, where, facecolors=WAITING)
        pieces = [(bar, piece) for bar in lane for piece in ran.get(bar.sample.number, [(bar.start, bar.end)])]
        colours = [COLOURS[bar.sample.priority][bar.sample.number % 2] for bar, _ in pieces]
        shown = [(start, max(end - start, span * THINNEST)) for _, (start, end) in pieces]
        axes.broken_barh(shown, where, facecolors=colours)


def _of_stage(row: Sequence[Bar], span: float) -> str:
    """Mean, and how much of the time some task was in this stage."""
    if not row:
        return ""
    mean_s = sum(bar.end - bar.start for bar in row) / len(row)
    taken = sum(end - start for start, end in merged((bar.start, bar.end) for bar in row)) / span
    mean = f"{mean_s:.2f} s" if mean_s >= 1 else f"{mean_s * 1000:.1f} ms"
    return f"mean {mean}\noccupied {taken:.1%} of the time"


def _margin(axes: Any, span: float, y: float, text: str) -> None:
    axes.text(span * 1.012, y, text, va="center", fontsize=9, color="#444444")


def _frame(axes: Any, report: Report, span: float, bottom: float, ticks: list[tuple[float, str]]) -> None:
    """Axes, title, legend."""
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
        Patch(facecolor=BUSY, label="device runs a batch"),
        Patch(facecolor=IDLE, label="device idle"),
    ]
    axes.legend(handles=legend, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(legend), frameon=False, fontsize=9,
                borderaxespad=0.2, handlelength=1.4, columnspacing=1.6)  # fmt: skip
