"""Prints the report as a table."""

from collections.abc import Iterator

from rich.table import Table

from penstock.bench.figures import Bare, Report, Spread

Row = tuple[str, str]

BUSY_CLIENT = 0.7
CLIENT_WARNING = ": the client may be what limits this run"
"""It has one thread, and runs on the machine of the server when that is its own."""

PERCENTILES = ("p50", "p90", "p99", "max")


def of(report: Report) -> Table:
    """Returns one table: the plan as its title, then figures with their units."""
    machine = report.machine
    title = (
        f"{report.model} · {report.mode} · {report.tasks} tasks, "
        f"{len(report.images)} image{'s' if len(report.images) != 1 else ''}\n"
        f"[dim]Penstock {report.penstock}, Python {machine.python}, {machine.cores} cores, "
        f"load average before {machine.load_before:.2f}[/dim]"
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _rows(report):
        table.add_row(name, value)
    return table


def _rows(report: Report) -> Iterator[Row]:
    if report.failed:
        reasons = ", ".join(f"{reason} × {count}" for reason, count in report.errors.items())
        yield "failed", f"[red]{report.failed} of {report.tasks}: {reasons}[/red]"
    yield from _throughput(report)
    yield from _latency(report)
    yield from _stages(report.stages_ms)
    yield from _expense(report)


def _throughput(report: Report) -> Iterator[Row]:
    rates = [f"{report.tasks_per_s:.2f} tasks/s", f"{report.input_megapixels_per_s:.3f} MP/s in"]
    if report.output_megapixels_per_s:
        rates.append(f"{report.output_megapixels_per_s:.2f} MP/s out")
    yield "throughput", f"[bold]{', '.join(rates)}[/bold], over {report.wall_s:.1f} s"
    if report.bare:
        of_devices = f" × {report.devices} devices" if report.devices > 1 else ""
        yield "ratio", f"[bold]{report.bare.ratio:.3f}[/bold] × the bare loop{of_devices}"
        yield from _bare(report.bare)
    if report.device_busy is not None:
        yield "device busy", f"{report.device_busy:.1%} of the time"
    yield "submits", f"{report.submits_per_s:.1f} accepted/s"


def _bare(bare: Bare) -> Iterator[Row]:
    """Shows both halves: if they differ, something else ran on the machine."""
    yield "bare loop", f"{bare.tasks_per_s:.2f} tasks/s of these ({bare.device}, {bare.threads} threads, one process)"
    halves = [f"{bare.before_megapixels_per_s:.3f} MP/s in before the load"]
    if bare.after_megapixels_per_s is not None:
        halves.append(f"{bare.after_megapixels_per_s:.3f} after it")
    yield "", f"{', '.join(halves)}; {bare.runs} images"
    if bare.bound is not None:
        yield "", f"{bare.bound:.3f} × is its own work, spread evenly over {bare.threads} cores"


def _latency(report: Report) -> Iterator[Row]:
    names = list(report.latency_ms)
    for name in names[:-1] if len(names) == 2 else names:
        latency = report.latency_ms[name]
        yield f"{name}, n = {latency.seen.n}", f"[dim]{' '.join(name.rjust(9) for name in PERCENTILES)}[/dim]"
        yield "  submit", f"{_spread(latency.submit)}  [dim]POST answered[/dim]"
        yield "  seen", f"{_spread(latency.seen)}  [dim]seen finished[/dim]"
        yield "  queue", f"{_spread(latency.queue)}  [dim]accepted to claimed[/dim]"
        yield "  to device", f"{_spread(latency.to_device)}  [dim]to first batch[/dim]"
        yield "  run", f"{_spread(latency.run)}  [dim]claimed to done[/dim]"


def _spread(spread: Spread) -> str:
    return " ".join(_ms(getattr(spread, name)).rjust(9) for name in PERCENTILES)


def _stages(stages_ms: dict[str, float]) -> Iterator[Row]:
    """Lists the stages; waiting for the device is part of `infer`."""
    if stages_ms:
        yield "stages", f"[dim]{'mean':>9}     share[/dim]"
    total = sum(stages_ms.values())
    for name, value in stages_ms.items():
        yield f"  {name}", f"{_ms(value):>9} {value / total:>9.1%}"


def _expense(report: Report) -> Iterator[Row]:
    if report.cpu_s_per_task is not None:
        yield "CPU", f"{_ms(report.cpu_s_per_task * 1000)} a task, all processes of the server"
    if report.peak_pss_bytes is not None:
        yield "memory, peak", f"{report.peak_pss_bytes / 1e6:.0f} MB PSS, all processes of the server"
    if report.start_to_ready_s is not None:
        yield "start to ready", f"{report.start_to_ready_s:.2f} s"
    yield "client", f"{report.client_cpu:.1%} of a core{CLIENT_WARNING if report.client_cpu > BUSY_CLIENT else ''}"


def _ms(value: float) -> str:
    """Formats a duration with three digits, in ms or s."""
    if value >= 1000:
        return f"{value / 1000:.2f} s" if value < 10_000 else f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"
