"""The methods of `AsyncClient` about keys, task tokens, tenants and the audit, for keys with the scope `admin`."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.client.key_views import (
    AuditEntry,
    AuditPage,
    Key,
    KeyList,
    NewKey,
    Tenant,
    TenantPage,
    TenantQuotas,
    TokensRevoked,
)
from penstock.client.requests import segment
from penstock.client.transport import Transport

DAY_S = 86_400
LIFE_S = 90 * DAY_S
PAGE = 200


class KeyAdministration:
    """Makes and ends keys, sets quotas, and reads who did what."""

    _transport: Transport

    async def create_key(
        self,
        tenant: str,
        *,
        scopes: Sequence[str] = ("read", "submit"),
        name: str | None = None,
        expires_in_s: int | None = LIFE_S,
    ) -> NewKey:
        """Makes a key of a tenant, which works for 90 days, or until it is revoked with `expires_in_s=None`. It is sent
        once, whatever happens, since each call makes a key. Raises ValueError for a time that is over."""
        if expires_in_s is not None and expires_in_s < 1:  # for the server, 0 stands for a key that never ends
            raise ValueError("expires_in_s must be at least 1; with None the key works until it is revoked")
        said: dict[str, Any] = {"tenant": tenant, "scopes": scopes, "name": name, "expires_in_s": expires_in_s or 0}
        body = msgspec.json.encode(said)
        return await self._transport.ask("POST", "/v1/keys", NewKey, body=body, repeat=False)

    async def keys(self, *, tenant: str | None = None) -> Sequence[Key]:
        """Returns the managed keys of all tenants, or of one, the newest first."""
        return (await self._transport.ask("GET", "/v1/keys", KeyList, query={"tenant": tenant})).data

    async def key(self, key_id: str) -> Key:
        """Returns one managed key."""
        return await self._transport.ask("GET", f"/v1/keys/{segment(key_id)}", Key)

    async def rotate_key(self, key_id: str, *, overlap_s: int = DAY_S) -> NewKey:
        """Makes a key that takes the place of another, which works for `overlap_s` more. It is sent once, whatever
        happens."""
        path = f"/v1/keys/{segment(key_id)}/rotate"
        return await self._transport.ask("POST", path, NewKey, query={"overlap_s": overlap_s}, repeat=False)

    async def revoke_key(self, key_id: str) -> Key:
        """Lets a key work no longer. It may be called again."""
        return await self._transport.ask("DELETE", f"/v1/keys/{segment(key_id)}", Key)

    async def revoke_tokens(self, tenant: str) -> None:
        """Ends all task tokens that the tenant was given so far. It may be called again."""
        await self._transport.ask("POST", "/v1/tokens/revoke", TokensRevoked, query={"tenant": tenant})

    async def tenants(self) -> Sequence[Tenant]:
        """Returns the tenants that have keys, tasks, batches, or quotas of their own, by name."""
        return (await self._transport.ask("GET", "/v1/tenants", TenantPage)).data

    async def quotas(self, tenant: str) -> TenantQuotas:
        """Returns what a tenant may use."""
        return await self._transport.ask("GET", _quotas_of(tenant), TenantQuotas)

    async def set_quotas(self, tenant: str, quotas: Mapping[str, int]) -> TenantQuotas:
        """Lets a tenant have these quotas in place of those of the settings, and of all that were set for it before. It
        may be called again."""
        body = msgspec.json.encode(quotas)
        return await self._transport.ask("PUT", _quotas_of(tenant), TenantQuotas, body=body)

    async def reset_quotas(self, tenant: str) -> TenantQuotas:
        """Lets a tenant have the quotas of the settings. It may be called again."""
        return await self._transport.ask("DELETE", _quotas_of(tenant), TenantQuotas)

    async def audit(self) -> AsyncGenerator[AuditEntry, None]:
        """Yields who did what to the work or the keys of others, newest first, reading page by page."""
        async for page in self._transport.pages("/v1/audit", AuditPage, {"limit": PAGE}):
            for entry in page.data:
                yield entry


def _quotas_of(tenant: str) -> str:
    return f"/v1/tenants/{segment(tenant)}/quotas"
