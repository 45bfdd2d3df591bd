"""Batches, keys, the audit and the usage of tenants, as the API answers them."""

from datetime import date
from typing import cast

from penstock.api.http.auth import ApiRequest
from penstock.api.routes import audit, batches, keys, usage
from penstock.api.schemas.access_keys import AuditPage, KeyList
from penstock.api.schemas.batches import BatchList, BatchView
from penstock.api.schemas.usage import UsageReport
from penstock.api.services import Services


async def managed_keys(services: Services, *, tenant: str | None) -> KeyList:
    """Return the managed keys, the newest first, of this tenant or of all."""
    return cast(KeyList, await keys.list_keys.fn(services=services, tenant=tenant))


async def acts(services: Services, *, limit: int, cursor: str | None) -> AuditPage:
    """Return a page of the audit, the newest first."""
    return cast(AuditPage, await audit.read_audit.fn(services=services, limit=limit, cursor=cursor))


async def used(request: ApiRequest, services: Services, *, first: date | None, last: date | None) -> UsageReport:
    """Return what the tenants whom the viewer looks at hold and have used; without days, in this month. Raises
    InvalidRequest."""
    found = await usage.read_usage.fn(request=request, services=services, from_=first, to=last)
    return cast(UsageReport, found)


async def listed_batches(request: ApiRequest, services: Services, *, limit: int, cursor: str | None) -> BatchList:
    """Return a page of the batches, the newest first. Raises InvalidRequest."""
    found = await batches.list_batches.fn(
        request=request, services=services, state=request.app.state, limit=limit, cursor=cursor
    )
    return cast(BatchList, found)


async def batch(batch_id: str, request: ApiRequest, services: Services) -> BatchView:
    """Return a batch. Raises BatchNotFound, ResultExpired."""
    answer = await batches.read_batch.fn(request=request, services=services, batch_id=batch_id, if_none_match=None)
    return cast(BatchView, answer.content)
