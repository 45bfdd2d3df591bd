"""Draws the figures of `tools.shard_cost`: what a cluster bears by its shards, and by the workers that listen.

    python -m tools.shard_cost --json FIGURES.json
    python -m tools.shard_plot FIGURES.json PLOT.png

Left: tasks a second that keep one core busy at each node. Right: the same, less what a submit costs more for each
worker that hears of it, and less the renewals of all workers, which go to each node every RENEW_EVERY_S.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RENEW_EVERY_S = 1.5
"""Of a worker, with the lease of the default settings."""

MOST_WORKERS = 2_000


def main() -> None:
    """Draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", type=Path, help="what `tools.shard_cost --json` has written")
    parser.add_argument("plot", type=Path, help="the PNG to write")
    options = parser.parse_args()
    figures = json.loads(options.figures.read_text())
    capacity = {int(count): a_second for count, a_second in figures["capacity"].items()}
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_shards, by_workers = figure.subplots(1, 2)
    draw_shards(by_shards, capacity)
    draw_workers(by_workers, capacity, figures["listeners"])
    for axes in (by_shards, by_workers):
        axes.set_ylabel("tasks a second, computed from CPU")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(options.plot, dpi=150)


def draw_shards(axes: Axes, capacity: dict[int, float]) -> None:
    counts = list(capacity)
    axes.plot(counts, [capacity[1] * count for count in counts], "--", color="grey", label="as many times one node")
    axes.plot(counts, list(capacity.values()), "o-", label="from the CPU of each node alone")
    for count, a_second in capacity.items():
        axes.annotate(f"{a_second / capacity[1]:.2f} x", (count, a_second), (8, -12), textcoords="offset points")
    axes.set(xlabel="shards, each on a node of its own", xticks=counts, xlim=(0, max(counts) + 0.8), ylim=0)


def draw_workers(axes: Axes, capacity: dict[int, float], listeners: list[list[Any]]) -> None:
    heard, submit_us, renew_us, _ = np.array(listeners, dtype=float).T
    each_us = np.polyfit(heard, submit_us, 1)[0]
    workers = np.geomspace(1, MOST_WORKERS, 200)
    for count, a_second in capacity.items():
        task_us = count * 1e6 / a_second + each_us * workers
        left_us = 1e6 - workers * renew_us.mean() / RENEW_EVERY_S
        axes.plot(workers, count * np.maximum(left_us, 0) / task_us, label=f"{count} node{'s' * (count > 1)}")
    axes.set(xlabel="workers that listen", xscale="log", ylim=0)
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])


if __name__ == "__main__":
    main()
