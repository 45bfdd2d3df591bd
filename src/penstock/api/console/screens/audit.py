"""The audit: who did what to the work or the keys of others."""

from typing import Annotated

import htpy as h
import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from penstock.api.console.answers import page
from penstock.api.console.page.panels import heading, live, pages
from penstock.api.console.page.tables import TableRow, table
from penstock.api.console.page.words import when
from penstock.api.console.reads import accounts
from penstock.api.console.viewer import viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import ADMIN
from penstock.api.schemas.access_keys import AuditView
from penstock.api.services import ServicesDep

A_PAGE = 100
COLUMNS = ("When", "Who", "Act", "On", "From", "More")


@get("/audit", opt=ADMIN)
async def show_audit(
    request: ApiRequest,
    services: ServicesDep,
    cursor: Annotated[str | None, QueryParameter(pattern=r"^[0-9]{1,15}-[0-9]{1,10}(?!\n)$")] = None,
) -> Response[str]:
    """Show a page of the audit, the newest first."""
    viewer = viewer_of(request)
    found = await accounts.acts(services, limit=A_PAGE, cursor=cursor)
    query: dict[str, object] = {"cursor": cursor}
    rows = table(COLUMNS, map(_row, found.data), caption="Audit", empty="Nobody has changed others' work or keys yet.")
    return page(
        request,
        "Audit",
        heading("Audit", under="Acts on queues, workers, models and keys, and on the tasks of other tenants."),
        live("audit", viewer.page("/audit", **query), rows, every_s=0 if cursor else 10),
        pages(viewer, "/audit", query, found.next_cursor),
        screen="audit",
    )


def _row(act: AuditView) -> TableRow:
    said = [h.div[f"{name}: {_text(value)}"] for name, value in act.details.items() if value is not None]
    return TableRow(
        [
            when(act.at),
            [h.b[act.by], f" of {act.tenant}"],
            h.code[act.act],
            h.code[act.subject],
            act.address,
            [said, h.div(".under", title="the id of the request, as in the log")[act.request_id]],
        ],
        id=act.id,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
