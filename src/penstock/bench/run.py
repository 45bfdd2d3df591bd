"""One run from start to report: half of the bare loop, the load, the other half."""

import asyncio
import platform
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from penstock import __version__
from penstock.bench import bare, figures, plot, table
from penstock.bench.bare import BareLoop
from penstock.bench.batches import BatchLoad
from penstock.bench.figures import Bare, Machine, Report, Sample
from penstock.bench.images import Image, image_set
from penstock.bench.load import Load, connections, halves
from penstock.bench.plan import Plan
from penstock.bench.server import (
    Expense,
    Server,
    Watch,
    client_of,
    devices_of,
    expense_of,
    load_average,
    reached,
    settings_of,
)
from penstock.settings import Settings
from penstock.worker.devices import cores


async def run_bench(settings: Settings, plan: Plan) -> int:
    """Run the plan, print its table, write its files; 1 if any task failed or a signal has broken it off, else 0.

    Raises ConfigurationError for whatever keeps the run from being one.
    """
    running = asyncio.create_task(_run(settings, plan), name="bench")
    # Not asyncio's own handling alone: a script's background jobs ignore SIGINT, and SIGTERM would end us uncleared.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        return await running
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        return 1


async def _run(settings: Settings, plan: Plan) -> int:
    console = Console()
    if plan.plot:
        plot.check_library()
    images, settings = image_set(plan.images, plan.model), settings_of(plan, settings)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as home:
        report = await _measure(settings, plan, images, Path(home), console)
    console.print(table.of(report))
    if plan.json:
        plan.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    if plan.plot:
        plot.draw(report, plan.plot)
    return 1 if report.failed else 0


async def _measure(settings: Settings, plan: Plan, images: list[Image], home: Path, console: Console) -> Report:
    machine = Machine(cores=cores(), python=platform.python_version(), load_before=load_average())
    console.print(f"[dim]{plan.url or 'starting a server'} ...[/dim]")
    async with (
        reached(plan, settings, home) as server,
        client_of(server, connections(plan)) as http,
        _bare_loop(settings, plan, images, home) as loop,
    ):
        devices = await devices_of(http)
        before_s = await _half(loop, plan, images, 0, console)
        done_before = _runs(loop)
        client_s = time.process_time()
        samples, spent, peak_bytes = await _under_load(settings, http, server, plan, images, console)
        client_s = time.process_time() - client_s
        after_s = await _half(loop, plan, images, 1, console)
    good = [sample for sample in samples if not sample.error]
    wall_s = figures.wall_s(samples)
    return Report(
        penstock=__version__,
        model=plan.model,
        mode=plan.mode,
        images=[image.name for image in images],
        machine=machine,
        tasks=len(samples),
        failed=len(samples) - len(good),
        errors=dict(Counter(sample.error for sample in samples if sample.error)),
        wall_s=round(wall_s, 3),
        tasks_per_s=_rate(len(good), wall_s),
        input_megapixels_per_s=_rate(sum(images[s.image].megapixels for s in good), wall_s),
        output_megapixels_per_s=_rate(sum(s.output_megapixels for s in good), wall_s),
        submits_per_s=round(figures.submits_per_s(samples), 3),
        latency_ms=figures.latencies(good),
        stages_ms=figures.stage_means(good),
        devices=devices,
        device_busy=None if spent.busy_s is None else round(spent.busy_s / wall_s / devices, 4),
        cpu_s_per_task=None if spent.cpu_s is None else round(spent.cpu_s / len(samples), 6),
        peak_pss_bytes=peak_bytes,
        start_to_ready_s=None if server.start_s is None else round(server.start_s, 3),
        client_cpu=round(client_s / wall_s, 4) if wall_s else 0.0,
        bare=None if loop is None else _bare_of(loop, good, wall_s, devices, images, (done_before, before_s, after_s)),
        samples=samples,
    )


@asynccontextmanager
async def _bare_loop(
    settings: Settings, plan: Plan, images: Sequence[Image], home: Path
) -> AsyncIterator[BareLoop | None]:
    if not plan.bare:
        yield None
        return
    async with bare.started(settings, plan.model, images, home) as loop:
        yield loop


async def _half(loop: BareLoop | None, plan: Plan, images: Sequence[Image], half: int, console: Console) -> float:
    """Runs half of the bare loop: half of the images of a number of tasks, or whole rounds for half of a duration."""
    if loop is None:
        return 0.0
    console.print(f"[dim]the bare loop, {'after' if half else 'before'} the load ...[/dim]")
    if plan.duration_s is None:
        return await loop.run(halves(plan, len(images))[half])
    started, took_s = time.perf_counter(), 0.0
    while not took_s or time.perf_counter() - started < plan.duration_s / 2:
        took_s += await loop.run(range(len(images)))
    return took_s


async def _under_load(
    settings: Settings,
    http: aiohttp.ClientSession,
    server: Server,
    plan: Plan,
    images: Sequence[Image],
    console: Console,
) -> tuple[list[Sample], Expense, int | None]:
    """Runs the load; returns the samples, what the server spent on them, and its highest memory meanwhile."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(f"{plan.model}, {plan.mode}", total=plan.tasks)
        load = (Load if plan.batch is None else BatchLoad)(
            http,
            plan,
            images,
            batch_bytes=settings.limits.max_batch_bytes,
            on_ended=lambda count: progress.advance(bar, count),
        )
        await load.warm_up()
        async with Watch(server) as watch:
            before = await expense_of(server)
            samples = await load.run()
            after = await expense_of(server)
        await load.look_up()
    spent = Expense(busy_s=_minus(after.busy_s, before.busy_s), cpu_s=_minus(after.cpu_s, before.cpu_s))
    return samples, spent, watch.peak_bytes


def _bare_of(
    loop: BareLoop,
    good: Sequence[Sample],
    wall_s: float,
    devices: int,
    images: Sequence[Image],
    measured: tuple[list[int], float, float],
) -> Bare:
    """Compares the bare loop with the tasks that succeeded."""
    done_before, before_s, after_s = measured
    megapixels = [image.megapixels for image in images]
    total = sum(megapixels[number] * len(times) for number, times in loop.seconds.items())
    first = sum(megapixels[number] for number in done_before)
    bare_s = figures.bare_seconds(good, loop.seconds)
    return Bare(
        tasks_per_s=_rate(len(good), bare_s),
        ratio=_rate(bare_s, wall_s * devices),
        bound=_rate((before_s + after_s) * loop.device.threads, loop.cpu_s) if loop.device.kind == "cpu" else None,
        device=loop.device.name,
        threads=loop.device.threads,
        runs=len(_runs(loop)),
        before_megapixels_per_s=_rate(first, before_s),
        after_megapixels_per_s=_rate(total - first, after_s) if after_s else None,
    )


def _runs(loop: BareLoop | None) -> list[int]:
    """Yields the image of every run so far."""
    return [number for number, times in loop.seconds.items() for _ in times] if loop else []


def _rate(amount: float, seconds: float) -> float:
    return round(amount / seconds, 4) if seconds else 0.0


def _minus(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
