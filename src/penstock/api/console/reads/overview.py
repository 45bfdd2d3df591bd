"""What the overview shows: the counts of now, the last hour, and the errors of late, for one tenant or for all."""

import time
from collections import Counter

from litestar.datastructures import State as AppState
from msgspec import Struct, field
from msgspec.structs import replace

from penstock.api.console.reads import operations
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import ALL_TENANTS
from penstock.api.schemas.operators import StatsView
from penstock.api.services import Services
from penstock.core.history import MinuteSample, Rate, rates_of
from penstock.intake.residence import differing
from penstock.store import WorkerInfo

ERRORS_LOOKED_AT = 100
ERRORS_KEPT_S = 20.0
"""How long the errors of late are shown before they are read again: every viewer would read a hundred records."""
MOST_TENANTS = 200
HOUR_US = 3_600_000_000


class Now(Struct, frozen=True, kw_only=True):
    """The state of an installation. `errors` are those of the tenant, or of all for an operator, by code."""

    stats: StatsView
    workers: tuple[WorkerInfo, ...]
    samples: list[MinuteSample]
    rates: list[Rate]
    errors: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    storage_problem: str = ""
    differing: tuple[str, ...] = ()


def for_all_tenants(request: ApiRequest) -> ApiRequest:
    """Return the request as one about all tenants, where its caller may ask for that."""
    caller = request.auth
    if "operate" not in caller.scopes or caller.home is not None:
        return request
    everywhere = replace(caller, tenant=ALL_TENANTS, home=caller.tenant)
    return ApiRequest({**request.scope, "auth": everywhere})


async def now(request: ApiRequest, services: Services) -> Now:
    """Return what is to be known now."""
    asked, store = for_all_tenants(request), services.home
    workers = tuple(await store.workers.listed())
    samples = await store.history.last_hour()
    found = {model: differing(model, workers) for model in services.models.ids()}
    return Now(
        stats=await operations.stats(asked, services),
        workers=workers,
        samples=samples,
        rates=rates_of(samples),
        errors=await _errors(asked.auth.tenant, request.app.state, services),
        unreadable=len(await services.shards.totals.unreadable()),
        storage_problem=(await request.app.state.storage_watch.last()).problem or "",
        differing=tuple(model for model, digests in found.items() if digests),
    )


async def _errors(tenant: str, state: AppState, services: Services) -> dict[str, int]:
    kept: dict[str, tuple[float, dict[str, int]]] = state.recent_errors
    at, errors = kept.get(tenant, (0.0, {}))
    if time.monotonic() - at < ERRORS_KEPT_S and tenant in kept:
        return errors
    tenants = (await services.shards.totals.known_tenants())[:MOST_TENANTS] if tenant == ALL_TENANTS else [tenant]
    since_us = int(time.time() * 1_000_000) - HOUR_US
    codes = await services.shards.totals.recent_errors(tenants, after=since_us, limit=ERRORS_LOOKED_AT)
    if len(kept) > MOST_TENANTS:
        kept.clear()
    kept[tenant] = (time.monotonic(), dict(Counter(codes).most_common()))
    return kept[tenant][1]
