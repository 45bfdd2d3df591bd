"""QuotaStore: the quotas that administrators have set for single tenants, and the requests that count against them."""

import secrets

import msgspec
from msgspec import Struct

from penstock.core.quotas import OwnQuotas
from penstock.store.engine import Engine

ID_BYTES = 8
"""Of the name of a request among those of its tenant within a minute."""


VERSION_BYTES = 8
"""Of what says that something has changed: a random word, as `AccessKeyStore.version` has it."""


class RequestCount(Struct, frozen=True):
    """Whether a request was let in, how many more would be, and the ms until the oldest of the last 60 s no longer
    counts."""

    is_let_in: bool
    left: int
    reset_ms: int


class QuotaStore:
    """Quotas of tenants, for all API processes. Every method raises StoreUnavailable when Redis cannot be reached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def count_request(self, tenant: str, *, quota: int) -> RequestCount:
        """Count a request of this tenant if fewer than `quota` came in the last 60 s."""
        is_let_in, left, reset_ms = await self._engine.run(
            "request", id=secrets.token_bytes(ID_BYTES), tenant=tenant, quota=quota
        )
        return RequestCount(bool(is_let_in), left, reset_ms)

    async def put(self, tenant: str, own: OwnQuotas) -> None:
        """Set what the tenant has in place of the quotas of the settings: these, and no others. All processes hear of
        it as of a change of a key. It may be repeated."""
        version = secrets.token_hex(VERSION_BYTES)
        text = msgspec.json.encode(own).decode() if own else ""
        await self._engine.run("quotas_put", tenant=tenant, own=text, version=version)
