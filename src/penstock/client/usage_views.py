"""Answers of the server about what tenants hold and use."""

from msgspec import field

from penstock.client.views import View


class Held(View, frozen=True):
    """What a tenant holds now: tasks, bytes in Redis and in the storage, unfinished lines of batches, and
    expected device time."""

    tasks_waiting: int
    tasks_running: int
    redis_bytes: int
    storage_bytes: int
    batch_lines: int = 0
    device_seconds_reserved: float = 0.0


class Used(View, frozen=True):
    """What was used: tasks by how they ended, device time, bytes that came and that were made."""

    submitted: int
    success: int
    failed: int
    canceled: int
    expired: int
    device_seconds: float
    bytes_in: int
    bytes_out: int


class UsedOnDay(Used, frozen=True):
    """What was used on a day in UTC, such as `2026-11-22`."""

    day: str


class TenantUsage(View, frozen=True):
    """A tenant: what it holds `now`, its `quotas` by name (0 means no limit), what is `left` of some of them (None
    without a limit), and what it has used in all and on each day with any use."""

    tenant: str
    now: Held
    quotas: dict[str, int]
    left: dict[str, float | None]
    total: Used
    days: tuple[UsedOnDay, ...]


class UsageReport(View, frozen=True):
    """The usage of tenants from the day `first` to the day `last`."""

    first: str = field(name="from")
    last: str = field(name="to")
    data: tuple[TenantUsage, ...]
