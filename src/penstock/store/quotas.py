"""QuotaStore: what tenants have used up of their quotas of requests."""

import secrets

from msgspec import Struct

from penstock.store.engine import Engine

ID_BYTES = 8
"""Of the name of a request among those of its tenant within a minute."""


class RequestCount(Struct, frozen=True):
    """Whether a request was let in, how many more would be, and the ms until the oldest of the last 60 s no longer
    counts."""

    is_let_in: bool
    left: int
    reset_ms: int


class QuotaStore:
    """Counts over all API processes. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def count_request(self, tenant: str, *, quota: int) -> RequestCount:
        """Count a request of this tenant if fewer than `quota` came in the last 60 s."""
        is_let_in, left, reset_ms = await self._engine.run(
            "request", id=secrets.token_bytes(ID_BYTES), tenant=tenant, quota=quota
        )
        return RequestCount(bool(is_let_in), left, reset_ms)
