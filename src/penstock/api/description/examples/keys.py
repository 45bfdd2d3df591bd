"""Examples of managed keys, of tenants and their quotas, and of the audit."""

from msgspec.structs import replace

from penstock.api.schemas.access_keys import (
    AuditPage,
    AuditView,
    KeyList,
    KeyRequest,
    KeyView,
    NewKeyView,
    TokensRevokedView,
)
from penstock.api.schemas.tasks import ResponseBody
from penstock.api.schemas.tenants import QuotasRequest, TenantList, TenantQuotasView, TenantView, quotas_view
from penstock.core.quotas import Quotas

KEY_ID = "4fQm1ZbT0xYk"

REQUEST = KeyRequest(tenant="acme", name="web", scopes=("read", "submit"), expires_in_s=7_776_000)

KEY = KeyView(
    id=KEY_ID,
    tenant="acme",
    name="web",
    scopes=("read", "submit"),
    status="active",
    created_at="2026-11-22T08:00:00.000Z",
    created_by="root",
    expires_at="2027-02-20T08:00:00.000Z",
    revoked_at=None,
    last_used_at="2026-11-22T09:00:00.000Z",
    replaced_by=None,
)

QUOTAS_REQUEST = QuotasRequest(tasks_waiting=10_000, tasks_running=4)
QUOTAS = quotas_view(Quotas(requests_per_minute=6_000, tasks_waiting=10_000, tasks_running=4))

ANSWERS: tuple[ResponseBody, ...] = (
    KEY,
    KeyList(data=(KEY,)),
    # Not a key that works, nor one whose checksum is right: scanners would take it for a leaked one.
    NewKeyView(key=f"pk_{KEY_ID}_{'0' * 38}", record=replace(KEY, last_used_at=None), replaced=None),
    TokensRevokedView(tenant="acme"),
    QUOTAS,
    TenantQuotasView(tenant="acme", quotas=QUOTAS, own=dict(QUOTAS_REQUEST.given())),
    TenantList(
        data=(
            TenantView(tenant="acme", keys=2, pending=120, running=4, quotas=QUOTAS),
            TenantView(tenant="default", keys=1, pending=0, running=0, quotas=quotas_view(Quotas())),
        )
    ),
    AuditPage(
        data=(
            AuditView(
                id="1795338000000-0",
                at="2026-11-22T09:00:00.000Z",
                by="root",
                tenant="ops",
                act="queue.pause",
                subject="superres-x4",
                address="192.0.2.7",
                request_id="req_7f3c1a9e5b2d4f6081a3c5e7",
                details={"paused": 3},
            ),
        ),
        has_more=False,
        next_cursor=None,
    ),
)
