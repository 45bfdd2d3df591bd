"""`penstock doctor --gpu`: the checks of one GPU, each printed as soon as it ends."""

import signal
import tempfile
import time
from collections.abc import Mapping, Sequence

import click
import msgspec
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from penstock.cli.doctor.findings import COLOURS, fail, row_of
from penstock.cli.terminal import console, plain
from penstock.errors import ConfigurationError
from penstock.gpu_checks.expectations import EXPECTATIONS
from penstock.gpu_checks.machine import TestedMachine, describe, uuid_of
from penstock.gpu_checks.process import measure
from penstock.gpu_checks.table import CHECKS, GpuCheck
from penstock.gpu_checks.verdicts import Figures, Miss, State, judge, worst
from penstock.settings import Settings
from penstock.worker.devices import Placement, placements
from penstock.worker.devices.nvidia_smi import list_gpus

EXIT_INTERRUPTED = 130

STATE_STYLES: Mapping[State, str] = {"skipped": "dim", **{state: COLOURS[state] for state in COLOURS}}


class GpuReport(Struct, frozen=True, kw_only=True):
    """The result of one check of a GPU, and a line of `--json`: each can be read without the others."""

    check: str
    state: State
    found: tuple[str, ...]
    misses: tuple[Miss, ...]
    seconds: float
    limit_s: int
    figures: Figures
    machine: TestedMachine


def doctor_gpu(settings: Settings, *, device: str | None, names: Sequence[str], as_json: bool) -> int:
    """Run the checks of these names, or all, and print each result; the exit status is 1 if a check failed.

    Raises click.UsageError for a name that no check has.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise click.UsageError(f"there is no check {unknown[0]}; there are {', '.join(CHECKS)}")
    out = console()
    try:
        settings, place = _gpu_of(settings, device)
    except ConfigurationError as error:
        nothing = fail("gpu", str(error), "see docs/how-to/tune-a-gpu.md")
        click.echo(msgspec.json.encode(nothing)) if as_json else out.print(row_of(nothing))
        return 1
    checks = [check for name, check in CHECKS.items() if not names or name in names]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, or its directory is left behind
    # What a worker measures at its first start is measured anew, once for all checks, and not remembered for workers.
    with tempfile.TemporaryDirectory(prefix="penstock-gpu-checks-") as cache_dir:
        place = replace(place, device=replace(place.device, cache_dir=cache_dir))
        return _run(out, checks, place, settings, as_json=as_json)


def _gpu_of(settings: Settings, device: str | None) -> tuple[Settings, Placement]:
    """The settings of a worker that uses one GPU only, and its placement."""
    wanted = device or settings.worker.gpu_ids.replace("cpu", "auto")
    settings = replace(settings, worker=replace(settings.worker, gpu_ids=wanted))
    places = [place for place in placements(settings.worker) if place.device.kind == "cuda"]
    gpus = [place for place in places if not place.lost]
    if not gpus:
        lost = next((place.lost for place in places), "")
        why = lost or list_gpus().problem or "there is one, but penstock-server[gpu] is not installed"
        raise ConfigurationError(f"no GPU can be used here: {why}")
    return replace(settings, worker=replace(settings.worker, gpu_ids=uuid_of(gpus[0]))), gpus[0]


def _run(out: Console, checks: Sequence[GpuCheck], place: Placement, settings: Settings, *, as_json: bool) -> int:
    machine, states, started = describe(place), [], time.monotonic()
    progress = console(stderr=True)  # seen also while the output goes into a file
    if not as_json:
        _print_heading(out, machine, checks)
    try:
        for check in checks:
            with progress.status(f"{check.name}: {check.question}", spinner="line"):
                report = _report(check, place, settings, machine)
            states.append(report.state)
            click.echo(msgspec.json.encode(report)) if as_json else out.print(_row(report))
    except KeyboardInterrupt:
        click.echo("stopped; what was printed is complete", err=True)
        return EXIT_INTERRUPTED
    if not as_json:
        _print_end(out, states, time.monotonic() - started)
    return 1 if worst(states) == "fail" else 0


def _report(check: GpuCheck, place: Placement, settings: Settings, machine: TestedMachine) -> GpuReport:
    measured = measure(check, place, settings)
    verdict = judge(check.name, check.sentences, measured.figures, EXPECTATIONS)
    return GpuReport(
        check=check.name,
        state=verdict.state,
        found=verdict.found,
        misses=verdict.misses,
        seconds=round(measured.seconds, 3),
        limit_s=check.limit_s,
        figures=measured.figures,
        machine=machine,
    )


def _print_heading(out: Console, machine: TestedMachine, checks: Sequence[GpuCheck]) -> None:
    card = [machine.card, f"{machine.memory_mib} MiB", f"driver {machine.driver}"]
    if machine.compute_capability:
        card.insert(1, f"compute capability {machine.compute_capability}")
    runtime = [f"{name} {version}" for name, version in machine.packages.items() if name.startswith("onnxruntime")]
    out.print(plain(", ".join(card), "bold"))
    out.print(plain(", ".join([f"Penstock {machine.penstock}", *runtime, f"{machine.cores} cores", machine.date])))
    most_s = sum(check.limit_s for check in checks)
    out.print(plain(f"at most {most_s / 60:.1f} minutes; the card should have nothing else to do", "dim"))
    out.print()
    heading = _grid()
    heading.add_row(*(plain(title, "dim") for title in ("check", "state", "found")))
    out.print(heading)


def _row(report: GpuReport) -> Table:
    row = _grid()
    first = [plain(report.check, "bold"), plain(report.state, STATE_STYLES[report.state])]
    for sentence in report.found:
        row.add_row(*first, plain(sentence))
        first = [plain(""), plain("")]
    for miss in report.misses:
        row.add_row(*first, plain(miss.found, STATE_STYLES[miss.state]))
        row.add_row("", "", plain(f"→ {miss.advice}", "cyan"))
        first = [plain(""), plain("")]
    if not report.found and not report.misses:
        row.add_row(*first, plain("nothing was measured"))
    return row


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=12)
    grid.add_column(width=7)
    grid.add_column()
    return grid


def _print_end(out: Console, states: Sequence[State], seconds: float) -> None:
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATE_STYLES if state in states)
    out.print()
    out.print(plain(f"{counts} in {seconds / 60:.1f} minutes", "bold"))
    out.print(plain("all figures: penstock doctor --gpu --json > card.json", "dim"))
