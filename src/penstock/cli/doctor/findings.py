"""The result of one check, and how it is printed."""

from typing import Literal

from msgspec import Struct
from rich.table import Table

from penstock.cli.terminal import plain

State = Literal["ok", "warn", "fail"]
COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of one check, and a line of `--json`. `advice` says what to do about a problem."""

    check: str
    state: State
    found: str
    advice: str = ""


def ok(check: str, found: str) -> CheckResult:
    return CheckResult(check=check, state="ok", found=found)


def warn(check: str, found: str, advice: str) -> CheckResult:
    return CheckResult(check=check, state="warn", found=found, advice=advice)


def fail(check: str, found: str, advice: str) -> CheckResult:
    return CheckResult(check=check, state="fail", found=found, advice=advice)


def row_of(finding: CheckResult) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=4)
    row.add_column(width=8)
    row.add_column(overflow="fold")  # an address longer than a line is never cut
    row.add_row(plain(finding.state, COLOURS[finding.state]), plain(finding.check), plain(finding.found))
    if finding.advice:
        row.add_row("", "", plain(f"→ {finding.advice}", "yellow"))
    return row
