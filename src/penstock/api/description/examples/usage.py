"""The example of the usage of a tenant."""

from typing import Any

from penstock.api.schemas.tasks import ResponseBody
from penstock.api.schemas.usage import HeldView, QuotaLeftView, TenantUsageView, UsageDayView, UsageReport, UsageView
from penstock.core.quotas import Quotas

USED: dict[str, Any] = {
    "submitted": 1204,
    "success": 1180,
    "failed": 9,
    "canceled": 11,
    "expired": 0,
    "device_seconds": 3541.25,
    "bytes_in": 512_440_120,
    "bytes_out": 4_102_330_871,
}

TENANT = TenantUsageView(
    tenant="acme",
    now=HeldView(
        tasks_waiting=3,
        tasks_running=1,
        redis_bytes=2_480_112,
        storage_bytes=4_614_770_991,
        batch_lines=0,
        device_seconds_reserved=11.6,
    ),
    quotas=Quotas(tasks_waiting=1000, storage_bytes=10_000_000_000),
    left=QuotaLeftView(
        tasks_waiting=997,
        tasks_running=None,
        redis_bytes=None,
        storage_bytes=5_385_229_009,
        batch_lines=None,
        device_seconds_per_day=None,
    ),
    total=UsageView(**USED),
    days=(UsageDayView(day="2026-11-22", **USED),),
)

ANSWERS: tuple[ResponseBody, ...] = (UsageReport(first="2026-11-01", last="2026-11-22", data=(TENANT,)),)
