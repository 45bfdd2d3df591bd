"""What the handlers of the API work with, opened together and closed together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from loguru import logger

from penstock.api.http.auth import ApiRequest
from penstock.api.waiting import Waiting
from penstock.api.watching import Watching
from penstock.errors import StoreUnavailable
from penstock.intake.deps import Deps
from penstock.intake.estimates import Estimates
from penstock.intake.models import WatchedCatalogue
from penstock.intake.quotas import QuotaTable
from penstock.net.guard import Policy
from penstock.settings import Settings
from penstock.storage import open_storage
from penstock.store import Engine, Store, connect
from penstock.store.connection import Redis
from penstock.store.inspection import open_server

PATIENCE_S = 0.8
"""Longest wait for Redis while a client waits for an answer: it gets a 503 within a second."""


class Services(Deps, frozen=True, kw_only=True, eq=False):
    """What a submit needs, and what only the API needs: who waits and watches, and the store for other work."""

    patient_store: Store
    """The same store for work that no client waits for: it waits longer for an answer of Redis."""
    waiting: Waiting
    watching: Watching


ServicesDep = NamedDependency[SkipValidation[Services]]
"""The type of a handler's parameter `services`."""


def services_of(request: ApiRequest) -> Services:
    """Return the services without Litestar's injection, which takes 14 calls: for the handlers that are called most."""
    services: Services = request.scope["litestar_app"].state.services
    return services


@asynccontextmanager
async def open_services(settings: Settings, quotas: QuotaTable | None = None) -> AsyncIterator[Services]:
    """Connect to Redis and the storage, and read what models there are. None of them has to be there yet. Without
    `quotas` those of the settings are in force.

    Raises ConfigurationError when a setting, or the set-up of Redis, cannot be right.
    """
    public_url = settings.api.public_url
    async with (
        connect(settings.redis) as client,
        open_storage(settings.storage, settings.redis.namespace) as storage,
    ):
        for warning in await _warnings(client, settings.redis.namespace):
            logger.warning("{}", warning)
        store = Store(Engine(client, settings.redis.namespace, settings.queue, patience_s=PATIENCE_S))
        models = WatchedCatalogue(store.models, settings.models.serve)
        with suppress(StoreUnavailable):
            await models.read()
        yield Services(
            settings=settings,
            models=models,
            policy=Policy.from_limits(settings.limits, public_url=public_url),
            webhook_policy=Policy.from_limits(
                settings.limits, allow_http=settings.webhooks.allow_http, public_url=public_url
            ),
            store=store,
            patient_store=Store(Engine(client, settings.redis.namespace, settings.queue)),
            storage=storage,
            waiting=Waiting(store),
            watching=Watching(store),
            estimates=Estimates(store),
            quotas=quotas or QuotaTable(settings.quotas),
            checking=asyncio.Lock(),
        )


async def _warnings(client: Redis, namespace: str) -> list[str]:
    try:
        return await open_server(client, namespace)
    except StoreUnavailable as error:  # it may come later; until then /readyz says so
        return [f"Redis cannot be used yet: {error.detail}"]
