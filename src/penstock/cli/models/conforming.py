"""The part of `penstock models check` that is for classes: whether a runner keeps the contract, as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from penstock.cli.context import settings_of_call
from penstock.cli.terminal import console, plain

if TYPE_CHECKING:
    from penstock.conformance.report import ConformanceReport, ContractFinding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def check_runner(
    reference: str, file: Path | None, inputs: tuple[str, ...], params: dict[str, Any], *, as_json: bool
) -> int:
    """Checks a runner with these members of its input, prints each finding, and returns the exit status: 1 if a check
    failed. Raises ConfigurationError when the model cannot be found or loaded, or an input is missing."""
    from penstock.cli.try_model import members_given
    from penstock.conformance import conformance
    from penstock.conformance.kit import registered
    from penstock.telemetry.logs import set_up_logs
    from penstock.worker.devices import placements

    settings = settings_of_call()
    set_up_logs(msgspec.structs.replace(settings.telemetry, log_level="ERROR", log_format="human"), process="check")
    cls = registered(reference, settings)
    device = placements(settings.worker)[0].device
    out = console()
    report = conformance(
        cls,
        inputs=members_given(cls, file, inputs),
        params=params,
        settings=settings,
        device=device,
        on_finding=lambda one: click.echo(msgspec.json.encode(one)) if as_json else out.print(_row(one)),
    )
    if not as_json:
        out.print(_summary(report, device.name))
    return 1 if report.failures else 0


def _row(finding: "ContractFinding") -> Table:
    row = Table.grid(padding=(0, 2))
    row.add_column(width=12)
    row.add_column(width=4)
    row.add_column()
    row.add_row(plain(finding.check), plain(finding.verdict, COLOURS[finding.verdict]), plain(finding.seen))
    return row


def _summary(report: "ConformanceReport", device: str) -> Text:
    failed = len(report.failures)
    verdict = f"{failed} of {len(report.findings)} checks failed" if failed else "it keeps the contract of a runner"
    style = "red" if failed else "green"
    return plain(f"{report.model} on {device}, loaded in {report.load_s:.2f} s: {verdict}", style)
