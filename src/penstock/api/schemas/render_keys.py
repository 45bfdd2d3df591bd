"""Answers about keys and the audit, made from the records of the store."""

from penstock.api.schemas.access_keys import AuditView, KeyView
from penstock.api.schemas.render import moment, moment_or_none
from penstock.core.access_keys import AccessKey
from penstock.store import AuditEntry


def key_view(key: AccessKey, last_used: int | None, *, now: int) -> KeyView:
    """Return a key as it is at the ms `now`."""
    return KeyView(
        id=key.id,
        tenant=key.tenant,
        name=key.name,
        scopes=key.scopes,
        status="revoked" if key.revoked is not None else "expired" if key.until <= now else "active",
        created_at=moment(key.created),
        created_by=key.created_by,
        expires_at=moment_or_none(key.expires),
        revoked_at=moment_or_none(key.revoked),
        last_used_at=moment_or_none(last_used),
        replaced_by=key.replaced_by,
    )


def audit_view(entry: AuditEntry) -> AuditView:
    """Return an entry of the audit."""
    record = entry.record
    return AuditView(
        id=entry.place,
        at=moment(entry.at),
        by=record.by,
        tenant=record.tenant,
        act=record.act,
        subject=record.subject,
        address=record.address,
        request_id=record.request_id,
        details=record.details,
    )
