"""What one tenant may ask of an API process, whatever its requests are about."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.errors import RateLimited

AT_ONCE = 2_048
"""Requests of a tenant in progress, where nobody says how many connections there may be."""
RETRY_S = 1


class TenantLimits:
    """Counts the requests of each tenant that this process works on: event streams, waits and transfers too.

    So no key takes all connections of the process, nor all that the address of its proxy may have.
    """

    def __init__(self, most_at_once: int = AT_ONCE) -> None:
        self._most_at_once = most_at_once
        self._in_progress: Counter[str] = Counter()

    def enter(self, tenant: str) -> None:
        """Count a request, which has to `exit`. Raises RateLimited, and counts nothing, when there are too many."""
        if self._in_progress[tenant] >= self._most_at_once:
            raise RateLimited("too many requests of this tenant are in progress", retry_after_s=RETRY_S)
        self._in_progress[tenant] += 1

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
