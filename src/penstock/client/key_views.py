"""Answers of the server about keys, tenants and the audit."""

from typing import Any

from msgspec import field

from penstock.client.views import View


class Key(View, frozen=True):
    """A managed key, without its secret. Its `status` is `active`, `expired` or `revoked`; moments are RFC 3339,
    UTC."""

    id: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    status: str
    created_at: str
    created_by: str = ""
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    replaced_by: str | None = None


class NewKey(View, frozen=True):
    """A key that was just made: `key` is its text, which the server shows this once. `replaced` is the key whose place
    it takes."""

    key: str
    record: Key
    replaced: Key | None = None


class KeyList(View, frozen=True):
    """Keys, the newest first."""

    data: tuple[Key, ...]


class TokensRevoked(View, frozen=True):
    """The tenant whose task tokens open nothing any more."""

    tenant: str


class TenantQuotas(View, frozen=True):
    """What a tenant may use, by the names of the quotas; 0 means no limit. `own` has those of them that an
    administrator has set for it."""

    tenant: str
    quotas: dict[str, int]
    own: dict[str, int] = field(default_factory=dict)


class Tenant(View, frozen=True):
    """A tenant, the number of its keys that work, those of its tasks that wait and run, and what it may use."""

    tenant: str
    keys: int = 0
    pending: int = 0
    running: int = 0
    quotas: dict[str, int] = field(default_factory=dict)


class TenantPage(View, frozen=True):
    """All tenants, by name."""

    data: tuple[Tenant, ...]


class AuditEntry(View, frozen=True):
    """Who did what, on what, when and from which address."""

    id: str
    at: str
    by: str
    tenant: str
    act: str
    subject: str
    address: str
    request_id: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class AuditPage(View, frozen=True):
    """A page of the audit, newest first."""

    data: tuple[AuditEntry, ...]
    next_cursor: str | None = None
