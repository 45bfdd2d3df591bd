"""/v1/usage: what tenants hold now and have used day by day."""

from collections.abc import Sequence
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import documented
from penstock.api.http.scopes import ALL_TENANTS, OF_ALL_TENANTS, READ
from penstock.api.schemas.usage import UsageReport, report, tenant_usage_view
from penstock.api.services import Services, ServicesDep
from penstock.errors import InvalidRequest
from penstock.store import UsageDay

MOST_ROWS = 10_000
"""Most days of tenants in one answer; the store reads them in some 50 steps."""


@get(
    "/usage",
    operation_id="readUsage",
    tags=["operation"],
    summary="Read what a tenant holds and has used day by day",
    description="`now` is exact; the sums of a day are what happened between midnight and midnight in UTC. Without "
    "`from` and `to` it is about this month until today. `tenant=*` asks for every tenant.",
    opt=READ | OF_ALL_TENANTS,
    responses=documented(InvalidRequest),
)
async def read_usage(
    request: ApiRequest,
    services: ServicesDep,
    from_: Annotated[date | None, QueryParameter(name="from", description="the first day, such as 2026-11-01")] = None,
    to: Annotated[date | None, QueryParameter(description="the last day")] = None,
) -> UsageReport:
    """Answers the usage of the tenant of the key, or of that which it names."""
    last = to or await services.home.accounts.today()
    first = from_ or last.replace(day=1)
    most = services.settings.queue.usage_days
    if not 0 <= (last - first).days < most:
        raise InvalidRequest(f"`from` must be no later than `to`, and at most {most} days together", param="from")
    tenant = request.auth.tenant
    days = await _days(tenant, first, last, services)
    tenants = await _all(days, services) if tenant == ALL_TENANTS else [tenant]
    held = await services.shards.of_tenants(tenants, lambda store, some: store.accounts.held(some))
    by_tenant = {name: [*rows] for name, rows in groupby(days, attrgetter("tenant"))}
    rows = zip(tenants, held, strict=True)
    views = [tenant_usage_view(one, now, services.quotas_of(one), by_tenant.get(one, ())) for one, now in rows]
    return report(first, last, views)


async def _days(tenant: str, first: date, last: date, services: Services) -> Sequence[UsageDay]:
    """The days of one tenant, or of all, tenant by tenant."""
    if tenant != ALL_TENANTS:
        return await services.store.accounts.usage_of(tenant, first, last)
    days = await services.shards.totals.usage(first, last, most=MOST_ROWS)
    if days is None:
        raise InvalidRequest(f"this would be more than {MOST_ROWS:,} days of tenants; ask for fewer days", param="from")
    return sorted(days, key=attrgetter("tenant", "day"))


async def _all(days: Sequence[UsageDay], services: Services) -> list[str]:
    return sorted({*await services.shards.totals.known_tenants(), *(one.tenant for one in days)})
