"""The usage of tenants, as clients read it, and how it is made of what the store knows."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from penstock.api.schemas.tasks import ResponseBody
from penstock.core.quotas import Quotas
from penstock.store import Holdings, Usage, UsageDay

Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class HeldView(ResponseBody, frozen=True):
    """What a tenant holds now: tasks that wait and run, bytes of its records in Redis, bytes of its inputs, uploads and
    results in the storage, unfinished lines of its batches, and the device time that its unfinished tasks are expected
    to take."""

    tasks_waiting: int
    tasks_running: int
    redis_bytes: int
    storage_bytes: int
    batch_lines: int
    device_seconds_reserved: float


class QuotaLeftView(ResponseBody, frozen=True):
    """What is left of the quotas that are about amounts, 0 when nothing is; null where there is no limit. Reserved
    device time counts as used."""

    tasks_waiting: int | None
    tasks_running: int | None
    redis_bytes: int | None
    storage_bytes: int | None
    batch_lines: int | None
    device_seconds_per_day: float | None


class UsageView(ResponseBody, frozen=True):
    """What was used: tasks that were submitted or run again, and that ended in each state; time that attempts kept a
    device busy, those that failed too; bytes of requests, inputs and uploads that came, and of outcomes and result
    files."""

    submitted: int
    success: int
    failed: int
    canceled: int
    expired: int
    device_seconds: float
    bytes_in: int
    bytes_out: int


class UsageDayView(UsageView, frozen=True):
    """What was used on one day, from midnight to midnight in UTC."""

    day: Day


class TenantUsageView(ResponseBody, frozen=True):
    """A tenant: what it holds now, what it may use (0 means no limit), what is left of that, and what it has used in
    all and on each day with any use."""

    tenant: str
    now: HeldView
    quotas: Quotas
    left: QuotaLeftView
    total: UsageView
    days: tuple[UsageDayView, ...]


class UsageReport(ResponseBody, frozen=True):
    """The usage of tenants on the days `from` to `to`, both included."""

    first: Day = field(name="from")
    last: Day = field(name="to")
    data: tuple[TenantUsageView, ...]


def tenant_usage_view(tenant: str, held: Holdings, quotas: Quotas, days: Sequence[UsageDay]) -> TenantUsageView:
    """Return the usage of a tenant on these days of its own."""
    return TenantUsageView(
        tenant=tenant,
        now=HeldView(
            tasks_waiting=held.tasks_waiting,
            tasks_running=held.tasks_running,
            redis_bytes=held.redis_bytes,
            storage_bytes=held.storage_bytes,
            batch_lines=held.batch_lines,
            device_seconds_reserved=_seconds(held.reserved_ms),
        ),
        quotas=quotas,
        left=_left(held, quotas),
        total=UsageView(**_members(_total([one.usage for one in days]))),
        days=tuple(UsageDayView(day=one.day.isoformat(), **_members(one.usage)) for one in days),
    )


def report(first: date, last: date, tenants: Sequence[TenantUsageView]) -> UsageReport:
    """Return the whole answer."""
    return UsageReport(first=first.isoformat(), last=last.isoformat(), data=tuple(tenants))


def _left(held: Holdings, quotas: Quotas) -> QuotaLeftView:
    def left(quota: int, used: int) -> int | None:
        return max(0, quota - used) if quota else None

    device_ms = left(quotas.device_seconds_per_day * 1000, round(held.used_ms_today) + held.reserved_ms)
    return QuotaLeftView(
        tasks_waiting=left(quotas.tasks_waiting, held.tasks_waiting),
        tasks_running=left(quotas.tasks_running, held.tasks_running),
        redis_bytes=left(quotas.redis_bytes, held.redis_bytes),
        storage_bytes=left(quotas.storage_bytes, held.storage_bytes),
        batch_lines=left(quotas.batch_lines, held.batch_lines),
        device_seconds_per_day=None if device_ms is None else _seconds(device_ms),
    )


def _members(usage: Usage) -> dict[str, Any]:
    found = msgspec.structs.asdict(usage)
    return {"device_seconds": _seconds(found.pop("device_ms")), **found}


def _total(usages: Sequence[Usage]) -> Usage:
    return Usage(**{name: sum(getattr(usage, name) for usage in usages) for name in Usage.__struct_fields__})


def _seconds(ms: float) -> float:
    return round(ms / 1000, 6)
