"""Prints reports as tables of 80 columns."""

from collections.abc import Sequence

from rich.table import Table

from tools.device_model.report import BUSY, Report


def overview(reports: Sequence[Report]) -> Table:
    """One row for each run."""
    table = _table("What keeps a card busy, and what it takes")
    for name in ("card", "result"):
        table.add_column(name, no_wrap=True)
    for name in ("busy", "metric", "Mpx/s in", "tasks/s", "our cores", "codecs", "of", "high ≤"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in reports:
        table.add_row(
            one.card,
            one.result,
            f"[{'green' if one.busy >= BUSY else 'red'}]{one.busy:.1%}[/]",
            f"{one.busy_metric:.1%}",
            f"{one.mpx_per_s:.1f}",
            f"{one.tasks_per_s:.1f}",
            f"{sum(one.own_cores.values()):.1f}",
            f"{one.codec_cores:.1f}",
            str(one.cores),
            str(max(one.high_waits, default="–")),
        )
    return table


def details(one: Report) -> Table:
    """The causes, cores and waits of one run."""
    table = _table(f"{one.card}, {one.result}: {one.seconds:.1f} s of the card, slowed {one.slowed:g} times")
    table.show_header = False
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    idle = ", ".join(f"{cause} {share:.1%}" for cause, share in one.idle_by_cause.items() if share >= 0.0005)
    table.add_row("idle", f"{idle or 'never'}; the longest gap {one.longest_gap_ms:.0f} ms")
    table.add_row("busy", f"{one.busy:.1%}; {one.busy_at_full_speed:.1%} where hand-over and event loop are not slowed")
    table.add_row("our cores", ", ".join(f"{group} {cores:.2f}" for group, cores in one.own_cores.items()))
    here = f"ours took {one.cores_here:.2f} cores here"
    table.add_row("all cores", f"{one.all_cores:.1f} with codecs and Redis ({one.redis_cores:.2f}); {here}")
    lock = "not looked at" if one.lock is None else f"held {one.lock:.2f} of the time by each worker"
    table.add_row("interpreter", lock)
    table.add_row("high tasks", f"batches before theirs: {_counts(one.high_waits)}")
    table.add_row("", f"[dim]from the claim on: {_counts(one.high_waits_from_claim)}[/dim]")
    table.add_row("batches", f"{one.tiles_per_batch:.1f} tiles; {one.computed_mpx_per_s:.1f} Mpx/s computed")
    if one.failed:
        table.add_row("failed", f"[red]{one.failed} tasks[/]")
    return table


def _counts(waits: dict[int, int]) -> str:
    return ", ".join(f"{batches} ({tasks} {'task' if tasks == 1 else 'tasks'})" for batches, tasks in waits.items())


def _table(title: str) -> Table:
    return Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False)
