"""The usage: what tenants hold, what they may, and what they have used day by day."""

from collections.abc import Iterator
from datetime import date
from typing import Annotated

import htpy as h
import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from penstock.api.console.answers import page
from penstock.api.console.page.fields import filter_form, text_field
from penstock.api.console.page.panels import all_tenants, bar, heading, panel
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import duration, number, size
from penstock.api.console.reads import accounts
from penstock.api.console.viewer import viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ALL_TENANTS, READ
from penstock.api.schemas.usage import TenantUsageView, UsageView
from penstock.api.services import ServicesDep

COLUMNS = (
    "Day",
    Column("Submitted", True),
    Column("Succeeded", True),
    Column("Failed", True),
    Column("Device time", True),
    Column("Came in", True),
    Column("Went out", True),
)
HELD_COLUMNS = ("What", Column("Now", True), Column("Quota", True), "Of it")
HELD = (
    ("Tasks that wait", "tasks_waiting", "tasks_waiting", number),
    ("Tasks that run", "tasks_running", "tasks_running", number),
    ("Redis", "redis_bytes", "redis_bytes", size),
    ("Storage", "storage_bytes", "storage_bytes", size),
    ("Lines of batches", "batch_lines", "batch_lines", number),
    ("Device time that is reserved", "device_seconds_reserved", "device_seconds_per_day", duration),
)
"""What a tenant holds: its words, its members of `now` and of `quotas`, and how it is written."""


@get("/usage", opt=READ | OF_ALL_TENANTS)
async def show_usage(
    request: ApiRequest,
    services: ServicesDep,
    from_: Annotated[date | None, QueryParameter(name="from")] = None,
    to: Annotated[date | None, QueryParameter()] = None,
) -> Response[str]:
    """Show a panel for each tenant: for who does not operate, their own."""
    viewer = viewer_of(request)
    report = await accounts.used(request, services, first=from_, last=to)
    days = (
        text_field("From", "from", report.first, type="date"),
        text_field("To", "to", report.last, type="date"),
    )
    under = "What a tenant holds now, and has used from midnight to midnight in UTC."
    return page(
        request,
        "Usage",
        heading(
            "Usage",
            all_tenants(viewer, "/usage"),
            under=under,
        ),
        filter_form(viewer, "/usage", *days, submit="Show"),
        [_tenant(one) for one in report.data] or h.div(".empty")["Nobody has used anything on these days."],
        screen="usage",
    )


def _tenant(usage: TenantUsageView) -> h.Element:
    rows = [_row("In all", usage.total), *(_row(day.day, day) for day in reversed(usage.days))]
    return panel(
        usage.tenant,
        table(HELD_COLUMNS, _held(usage), caption=f"What {usage.tenant} holds"),
        h.h3["Used"],
        table(COLUMNS, rows, caption=f"What {usage.tenant} has used"),
    )


def _held(usage: TenantUsageView) -> Iterator[TableRow]:
    now, quotas, left = (msgspec.structs.asdict(one) for one in (usage.now, usage.quotas, usage.left))
    for words, held, limit, written in HELD:
        most = quotas[limit]
        part = bar(1 - left[limit] / most, f"{words} of the quota") if most else "–"
        yield TableRow([words, written(now[held]), written(most) if most else "no limit", part])


def _row(name: str, used: UsageView) -> TableRow:
    return TableRow(
        [
            name,
            number(used.submitted),
            number(used.success),
            number(used.failed),
            duration(used.device_seconds),
            size(used.bytes_in),
            size(used.bytes_out),
        ]
    )
