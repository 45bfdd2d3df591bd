"""/v1/audit: who has changed the work or the keys of others."""

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from penstock.api.http.scopes import ADMIN
from penstock.api.schemas.access_keys import AuditPage
from penstock.api.schemas.render_keys import audit_view
from penstock.api.services import ServicesDep
from penstock.store.audit import MAX_ENTRIES


@get(
    "/audit",
    operation_id="readAudit",
    tags=["keys"],
    summary="Read who did what to the work or the keys of others",
    description="The newest first: acts on queues, workers, models and keys, and on tasks and batches of "
    "other tenants. "
    f"The last {MAX_ENTRIES:,} are kept. `cursor` continues from `next_cursor` of the answer before.",
    opt=ADMIN,
)
async def read_audit(
    services: ServicesDep,
    limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, QueryParameter(pattern=r"^[0-9]{1,15}-[0-9]{1,10}(?!\n)$")] = None,
) -> AuditPage:
    """Answers a page."""
    entries = await services.home.audit.newest(limit + 1, before=cursor)
    page, has_more = entries[:limit], len(entries) > limit
    return AuditPage(
        data=tuple(map(audit_view, page)), has_more=has_more, next_cursor=page[-1].place if has_more else None
    )
