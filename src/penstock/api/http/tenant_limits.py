"""What one tenant may ask of the API, whatever its requests are about: how many at a time, and how many a minute."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.api.http.headers import rate_headers
from penstock.errors import QuotaExceeded, RateLimited
from penstock.intake.quotas import QuotaTable
from penstock.store import QuotaStore
from penstock.telemetry import metrics

AT_ONCE = 2_048
"""Requests of a tenant in progress, where nobody says how many connections there may be."""
RETRY_S = 1
POLICY = "requests"
"""The name of the quota of requests a minute in the headers of answers."""


class TenantLimits:
    """Counts the requests of each tenant that this process works on: event streams, waits and transfers too.

    So no key takes all connections of the process, nor all that the address of its proxy may have.
    """

    def __init__(self, quotas: QuotaTable, most_at_once: int = AT_ONCE) -> None:
        self._quotas = quotas
        self._most_at_once = most_at_once
        self._in_progress: dict[str, int] = {}
        self._full_until: dict[str, tuple[int, float]] = {}

    def enter(self, tenant: str) -> int:
        """Count a request, which has to `exit`, and return how many the tenant may make in a minute; 0 means any
        number. Raises RateLimited, and counts nothing, when there are too many in progress."""
        in_progress = self._in_progress.get(tenant, 0)
        if in_progress >= self._most_at_once:
            metrics.report("connections.refused", why="tenant")
            raise RateLimited("too many requests of this tenant are in progress", retry_after_s=RETRY_S)
        self._in_progress[tenant] = in_progress + 1
        return self._quotas.of(tenant).requests_per_minute

    def exit(self, tenant: str) -> None:
        """Count the end of a request."""
        self._in_progress[tenant] -= 1
        if not self._in_progress[tenant]:
            del self._in_progress[tenant]

    @contextmanager
    def counted(self, tenant: str) -> Iterator[None]:
        """Count what is done here as a request of this tenant, which came without a key. Raises RateLimited."""
        self.enter(tenant)
        try:
            yield
        finally:
            self.exit(tenant)

    async def count(self, tenant: str, quota: int, store: QuotaStore) -> dict[str, str]:
        """Count a request over all processes, and return the headers that say how many are left.

        Raises QuotaExceeded and StoreUnavailable. Redis is not asked while it is known to let nobody in.
        """
        full, until = self._full_until.get(tenant, (0, 0.0))
        wait_s = until - time.monotonic()
        if full == quota and wait_s > 0:
            raise _refusal(quota, wait_s)
        found = await store.count_request(tenant, quota=quota)
        if not found.is_let_in:
            self._full_until[tenant] = (quota, time.monotonic() + found.reset_ms / 1000)
            raise _refusal(quota, found.reset_ms / 1000)
        self._full_until.pop(tenant, None)
        return rate_headers(POLICY, quota, left=found.left, reset_s=math.ceil(found.reset_ms / 1000))


def _refusal(quota: int, wait_s: float) -> QuotaExceeded:
    reset_s = max(1, math.ceil(wait_s))
    return QuotaExceeded(
        f"this tenant has made the {quota} requests that it may make in a minute",
        quota="requests_per_minute",
        retry_after_s=reset_s,
        headers=rate_headers(POLICY, quota, left=0, reset_s=reset_s),
    )
