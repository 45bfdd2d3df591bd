"""AccountStore: what each tenant holds now, and what it has used day by day: the bill."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from penstock.core.task import State
from penstock.store.engine import Engine

EPOCH = date(1970, 1, 1)

TOGETHER = 200
"""Days of tenants that one script reads or forgets."""

HELD = ("redis", "storage", "lines", "reserved_ms")


class Holdings(Struct, frozen=True, kw_only=True):
    """What a tenant holds at this moment: tasks that wait and run; bytes of its records in Redis, and of its inputs,
    uploads and results in the storage; lines of its batches that have not ended; ms of a device that its unfinished
    tasks are expected to take, and that its tasks have used since midnight in UTC."""

    tasks_waiting: int
    tasks_running: int
    redis_bytes: int
    storage_bytes: int
    batch_lines: int = 0
    reserved_ms: int
    used_ms_today: float


class Usage(Struct, frozen=True, kw_only=True):
    """What a tenant has used on one day: tasks that were submitted or run again, and that ended in each state; ms of a
    device; bytes of requests, inputs and uploads that came, and of outcomes and result files."""

    submitted: int = 0
    success: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    device_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class UsageDay(Struct, frozen=True):
    """The usage of one tenant on one day, in UTC."""

    tenant: str
    day: date
    usage: Usage


class AccountStore:
    """The accounts of tenants. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def today(self) -> date:
        """Return the day by the clock of Redis, in UTC: what is used now counts for it."""
        ((seconds, _),) = await self._engine.pipelined([("TIME",)])
        return datetime.fromtimestamp(int(seconds), UTC).date()

    async def held(self, tenants: Sequence[str]) -> list[Holdings]:
        """Return what each of these tenants holds now."""
        found: list[Holdings] = []
        for at in range(0, len(tenants), TOGETHER):
            some = tenants[at : at + TOGETHER]
            rows = await self._engine.run("account_read", waiting=State.PENDING, running=State.RUNNING, tenants=some)
            found += [_holdings(*row) for row in rows]
        return found

    async def usage_of(self, tenant: str, first: date, last: date) -> list[UsageDay]:
        """Return what a tenant has used on each of these days; days without use are left out."""
        days = range(max(0, (first - EPOCH).days), (last - EPOCH).days + 1)
        return await self._read([f"{day} {tenant}" for day in days])

    async def usage_of_all(self, first: date, last: date, *, most: int) -> list[UsageDay] | None:
        """Return what every tenant has used on each of these days, in their order; None when these are more than
        `most` rows."""
        bounds = ((first - EPOCH).days, (last - EPOCH).days)
        (places,) = await self._engine.pipelined([("ZRANGEBYSCORE", self._keys.usage, *bounds, "LIMIT", 0, most + 1)])
        return None if len(places) > most else await self._read([place.decode() for place in places])

    async def prune(self) -> int:
        """Forget what was used longer than `queue.usage_days` ago. Returns how many days of tenants."""
        kept_days, held = self._engine.settings.usage_days, " ".join(HELD)
        return sum(await self._engine.run_to_end("usage_prune", kept_days=kept_days, held=held, most=TOGETHER))

    async def _read(self, places: Sequence[str]) -> list[UsageDay]:
        found: list[UsageDay] = []
        for at in range(0, len(places), TOGETHER):
            some, names = places[at : at + TOGETHER], " ".join(Usage.__struct_fields__)
            rows = await self._engine.run("usage_read", names=names, places=some)
            found += [_usage_day(place, row) for place, row in zip(some, rows, strict=True) if set(row) != {b"0"}]
        return found


def _holdings(
    waiting: int,
    running: int,
    redis_bytes: bytes,
    storage_bytes: bytes,
    batch_lines: bytes,
    reserved_ms: bytes,
    used_ms: bytes,
) -> Holdings:
    return Holdings(
        tasks_waiting=waiting,
        tasks_running=running,
        redis_bytes=int(redis_bytes),
        storage_bytes=int(storage_bytes),
        batch_lines=int(batch_lines),
        reserved_ms=int(reserved_ms),
        used_ms_today=float(used_ms),
    )


def _usage_day(place: str, row: Sequence[bytes]) -> UsageDay:
    day, _, tenant = place.partition(" ")
    named = dict(zip(Usage.__struct_fields__, row, strict=True))
    device_ms = float(named.pop("device_ms"))
    usage = Usage(device_ms=device_ms, **{name: int(number) for name, number in named.items()})
    return UsageDay(tenant, EPOCH + timedelta(days=int(day)), usage)
