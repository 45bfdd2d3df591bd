"""Draws runs: when each card computed and why it did not, the cores that it takes, and the waits of high priority."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.device_model.causes import CAUSES
from tools.device_model.report import BUSY, DRAWN_S, WAIT, Report

COMPUTING = "#2b8a5a"
COLOURS = dict(
    zip(
        CAUSES,
        ("#9ecae1", "#3182bd", "#08306b", "#c7a9d9", "#d55e00", "#000000", "#e6ab02", "#a6761d", "#f0c060", "#999999",
         "#cc79a7"),
        strict=True,
    )
)  # fmt: skip
"""Blue for copies and the card's own threads, orange for taking in, brown for codecs and slots."""

CORES = {
    "tiles": ("#d55e00", "cut tiles, take outputs in"),
    "codec": ("#c7a9d9", "our part of codec threads"),
    "loop": ("#0072b2", "event loop"),
    "device": ("#2b8a5a", "device threads"),
    "other": ("#999999", "other threads"),
    "redis": ("#7a1f1f", "Redis"),
    "codecs": ("#ead9b0", "JPEG, PNG or WebP itself"),
}
ROW_INCHES, BAR, WIDTHS = 0.62, 0.62, (11, 5, 3)


def draw(reports: Sequence[Report], before: Sequence[Report], path: Path) -> None:
    """Write the picture, as PNG or SVG by the suffix of the path; runs of `before` stand above those of the same
    card."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = [(one, is_before) for now in reports for one, is_before in [*_earlier(now, before), (now, False)]]
    figure = Figure(figsize=(16, 2.2 + ROW_INCHES * len(rows)), layout="constrained")
    timelines, cores, waits = figure.subplots(1, 3, sharey=True, width_ratios=WIDTHS)
    for row, (one, is_before) in enumerate(rows):
        _timeline(timelines, row, one)
        _cores(cores, row, one)
        _waits(waits, row, one, faint=is_before)
    timelines.set_yticks(range(len(rows)), [_name(one, is_before) for one, is_before in rows], fontsize=10)
    timelines.set_ylim(len(rows) - 0.5, -0.5)
    _frame(timelines, "when the card computed (one of eight, where there are eight)", "seconds at full speed")
    _frame(cores, "cores needed, of those of the host", "share of the host's cores")
    _frame(waits, "tasks of high priority", "batches that went before")
    waits.xaxis.set_major_locator(MaxNLocator(integer=True))
    cores.axvline(1, color="#333333", linewidth=0.8, linestyle=":")
    timelines.set_xticks([DRAWN_S * part / 4 for part in range(5)])
    _legends(figure, rows)
    figure.savefig(path, dpi=150)


def _earlier(now: Report, before: Sequence[Report]) -> list[tuple[Report, bool]]:
    return [(one, True) for one in before if (one.card, one.result) == (now.card, now.result)]


def _name(one: Report, is_before: bool) -> str:
    return f"{one.card.replace('x', ' × ')}\n{'before' if is_before else one.result.upper()}"


def _timeline(axes: Any, row: int, one: Report) -> None:
    where = (row - BAR / 2, BAR)
    axes.broken_barh([(low, high - low) for low, high in one.timeline.computing], where, facecolors=COMPUTING)
    for cause, colour in COLOURS.items():
        spans = [(gap.start, gap.end - gap.start) for gap in one.timeline.idle if gap.cause == cause]
        axes.broken_barh(spans, where, facecolors=colour)
    text = f"{one.busy:.1%} busy\n{one.mpx_per_s:.1f} Mpx/s in"
    weight = "bold" if one.busy >= BUSY else "normal"
    axes.text(DRAWN_S * 1.01, row, text, va="center", fontsize=9, fontweight=weight, color="#333333")
    axes.set_xlim(0, DRAWN_S * 1.14)


def _cores(axes: Any, row: int, one: Report) -> None:
    needed = one.own_cores | {"redis": one.redis_cores, "codecs": one.codec_cores}
    left = 0.0
    for part, (colour, _) in CORES.items():
        share = needed.get(part, 0.0) / one.cores
        axes.barh(row, share, BAR, left=left, color=colour)
        left += share
    ours = sum(one.own_cores.values())
    axes.text(left + 0.01, row, f"{ours:.1f} ours, {one.all_cores:.1f} in all, of {one.cores}", va="center", fontsize=9)
    axes.set_xlim(0, 1.15)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _waits(axes: Any, row: int, one: Report, *, faint: bool) -> None:
    most = max(one.high_waits.values(), default=1)
    for batches, tasks in one.high_waits.items():
        colour = COMPUTING if batches <= WAIT else "#d55e00"
        height = BAR * tasks / most
        axes.bar(batches, -height, 0.8, bottom=row + BAR / 2, color=colour, alpha=0.5 if faint else 1.0)
    axes.set_xlim(-0.6, max(4.6, *(b + 0.6 for b in one.high_waits), axes.get_xlim()[1]))


def _frame(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#eeeeee", zorder=0)
    axes.set_axisbelow(True)


def _legends(figure: Any, rows: Sequence[tuple[Report, bool]]) -> None:
    from matplotlib.patches import Patch

    seen = {gap.cause for one, _ in rows for gap in one.timeline.idle}
    timeline = [Patch(facecolor=COMPUTING, label="computes")]
    timeline += [Patch(facecolor=colour, label=cause) for cause, colour in COLOURS.items() if cause in seen]
    cores = [Patch(facecolor=colour, label=label) for colour, label in CORES.values()]
    plain = {"frameon": False, "fontsize": 9, "handlelength": 1.4, "columnspacing": 1.6}
    figure.legend(handles=timeline, loc="outside upper left", ncols=len(timeline), **plain)
    figure.legend(handles=cores, loc="outside lower right", ncols=len(cores), **plain)
