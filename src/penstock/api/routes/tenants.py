"""/v1/tenants: who there is, and what each may use, while the server runs."""

from litestar import delete, get, put
from litestar.params import FromPath

from penstock.api.auditing import AuditedAct, write_down
from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import json_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.problems import documented
from penstock.api.http.scopes import ADMIN, TENANT_PARAMETER
from penstock.api.schemas.tenants import QuotasRequest, TenantList, TenantQuotasView, TenantView, quotas_view
from penstock.api.services import Services, ServicesDep
from penstock.core.access import NAME
from penstock.core.quotas import OwnQuotas
from penstock.errors import InvalidRequest, MalformedRequest, UnsupportedMediaType

EVERYWHERE = "Every API process goes by it at once, and within 5 s where its message was lost. "


@get(
    "/tenants",
    operation_id="listTenants",
    tags=["tenants"],
    summary="List the tenants",
    description="Those that have keys, tasks, batches, or quotas of their own, by name.",
    opt=ADMIN,
)
async def list_tenants(request: ApiRequest, services: ServicesDep) -> TenantList:
    """Answers all of them."""
    await _read_again(request, services)
    keys = request.app.state.key_ring.tenants()
    names = sorted({*await services.shards.totals.known_tenants(), *keys, *services.quotas.tenants})
    loads = await services.shards.of_tenants(names, lambda store, some: store.tenants.loads(some))
    return TenantList(
        data=tuple(
            TenantView(
                tenant=name,
                keys=keys[name],
                pending=pending,
                running=running,
                quotas=quotas_view(services.quotas_of(name)),
            )
            for name, (pending, running) in zip(names, loads, strict=True)
        )
    )


@get(
    "/tenants/{tenant:str}/quotas",
    operation_id="getQuotas",
    tags=["tenants"],
    summary="Read the quotas of a tenant",
    opt=ADMIN,
    responses=documented(InvalidRequest),
)
async def read_quotas(request: ApiRequest, services: ServicesDep, tenant: FromPath[str]) -> TenantQuotasView:
    """Answers those in force, also for a name that nobody has yet."""
    _check(tenant)
    await _read_again(request, services)
    return _view(tenant, services)


@put(
    "/tenants/{tenant:str}/quotas",
    operation_id="setQuotas",
    tags=["tenants"],
    summary="Set quotas of a tenant",
    description="They stand in place of those of the settings, and of all that were set for the tenant before. What is "
    "left out is as in the settings. It can be repeated safely. " + EVERYWHERE,
    opt=ADMIN | describe(body={JSON: QuotasRequest}),
    status_code=200,
    responses=documented(MalformedRequest, UnsupportedMediaType, InvalidRequest),
)
async def set_quotas(request: ApiRequest, services: ServicesDep, tenant: FromPath[str]) -> TenantQuotasView:
    """Answers those in force now. What a tenant has beyond a lower quota stays."""
    _check(tenant)
    own = (await json_of(request, QuotasRequest)).given()
    return await _put(tenant, own, "quotas.set", request, services)


@delete(
    "/tenants/{tenant:str}/quotas",
    operation_id="resetQuotas",
    tags=["tenants"],
    summary="Let a tenant have the quotas of the settings",
    description="Takes back what was set for it. It can be repeated safely. " + EVERYWHERE,
    opt=ADMIN,
    status_code=200,
    responses=documented(InvalidRequest),
)
async def reset_quotas(request: ApiRequest, services: ServicesDep, tenant: FromPath[str]) -> TenantQuotasView:
    """Answers those in force now."""
    _check(tenant)
    return await _put(tenant, {}, "quotas.reset", request, services)


def _check(tenant: str) -> None:
    if not NAME.fullmatch(tenant):
        raise InvalidRequest("this is not the name of a tenant", param=TENANT_PARAMETER)


async def _put(
    tenant: str, own: OwnQuotas, act: AuditedAct, request: ApiRequest, services: Services
) -> TenantQuotasView:
    await services.home.quotas.put(tenant, own)
    await _read_again(request, services)
    await write_down(act, tenant, request, services, **{str(name): value for name, value in own.items()})
    return _view(tenant, services)


async def _read_again(request: ApiRequest, services: Services) -> None:
    """Let this process go by the latest that was set, before it answers."""
    await request.app.state.key_table.read(services.home.access_keys)


def _view(tenant: str, services: Services) -> TenantQuotasView:
    return TenantQuotasView(
        tenant=tenant, quotas=quotas_view(services.quotas_of(tenant)), own=dict(services.quotas.own(tenant))
    )
