"""Prints the usage of tenants as tables on a terminal, as CSV, or as JSON lines."""

import csv
import sys
from collections.abc import Callable
from typing import Literal

from rich.table import Column, Table

from penstock.cli.terminal import console, plain, plain_lines, say, table
from penstock.client import TenantUsage, UsageReport
from penstock.client.usage_views import Used

COLUMNS = ("submitted", "success", "failed", "canceled", "expired", "device_seconds", "bytes_in", "bytes_out")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


MANY_S = 1000
"""From here on, seconds are shown without a fraction."""


def usage(report: UsageReport, *, how: Literal["table", "csv", "json"]) -> None:
    """Prints what each tenant holds and has used."""
    if how == "csv":
        _print_csv(report)
        return
    for tenant in report.data:
        if how == "json":
            say(tenant)
        else:
            console().print(plain_lines(_now(tenant)), _days(tenant), "", sep="\n", markup=False)


def readable_bytes(count: float) -> str:
    """Returns a number of bytes with three digits or more and a unit, such as `4.61 GB`."""
    for unit in UNITS:
        if count < 999.5 or unit == UNITS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"


def _print_csv(report: UsageReport) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(("tenant", "day", *COLUMNS))
    for tenant in report.data:
        for one in tenant.days:
            rows.writerow((tenant.tenant, one.day, *(getattr(one, name) for name in COLUMNS)))


def _now(tenant: TenantUsage) -> str:
    parts = {
        name: f"{written(getattr(tenant.now, name))} {word}{_limit(tenant.quotas, name, written)}"
        for name, written, word in HELD
    }
    left_s = tenant.left.get("device_seconds_per_day")
    device = "" if left_s is None else f", {left_s:,.0f} s of a device left today"
    return (
        f"{tenant.tenant}: {parts['tasks_waiting']}, {parts['tasks_running']}{device}\n"
        f"  {parts['redis_bytes']}, {parts['storage_bytes']}"
    )


HELD: tuple[tuple[str, Callable[[int], str], str], ...] = (
    ("tasks_waiting", "{:,}".format, "waiting"),
    ("tasks_running", "{:,}".format, "running"),
    ("redis_bytes", readable_bytes, "in Redis"),
    ("storage_bytes", readable_bytes, "stored"),
)
"""What is held: the name of it and of its quota, how it is written, and what it is."""


def _limit(quotas: dict[str, int], name: str, written: Callable[[int], str]) -> str:
    return f" (of {written(quotas[name])})" if quotas.get(name) else ""


def _days(tenant: TenantUsage) -> Table:
    columns = ("tasks", "success", "failed", "others", "device", "in", "out")
    rows = table(Column("day", no_wrap=True), *(Column(name, justify="right") for name in columns))
    for day in tenant.days:
        rows.add_row(plain(day.day), *_cells(day))
    if len(tenant.days) != 1:
        rows.add_row("total", *_cells(tenant.total))
    return rows


def _cells(used: Used) -> list[str]:
    counts = (used.submitted, used.success, used.failed, used.canceled + used.expired)
    device = f"{used.device_seconds:,.{1 if used.device_seconds < MANY_S else 0}f} s"
    return [*(f"{count:,}" for count in counts), device, readable_bytes(used.bytes_in), readable_bytes(used.bytes_out)]
