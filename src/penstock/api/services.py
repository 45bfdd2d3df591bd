"""What the handlers of the API work with, opened together and closed together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import field
from msgspec.structs import replace

from penstock.api.http.auth import ApiRequest
from penstock.api.waiting import Waiting
from penstock.api.watching import Watching
from penstock.core.upload import new_upload_id
from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.intake.deps import Deps
from penstock.intake.estimates import Estimates
from penstock.intake.models import WatchedCatalogue
from penstock.intake.quotas import QuotaTable
from penstock.net.guard import Policy
from penstock.settings import Settings
from penstock.storage import open_storage
from penstock.store import Opening, Shards, Store, connect_each

PATIENCE_S = 0.8
"""Longest wait for Redis while a client waits for an answer: it gets a 503 within a second."""


class Services(Deps, frozen=True, kw_only=True, eq=False):
    """What a submit needs, and what only the API needs: who waits and watches, and the store for other work.

    `store` and all that goes with it are of one shard: a handler is given the services of its caller's tenant.
    """

    patient_store: Store
    """The same store for work that no client waits for: it waits longer for an answer of Redis."""
    waiting: Waiting
    watching: Watching
    shards: Shards
    """The stores of all tenants, and the home of what belongs to none."""
    patient_shards: Shards
    of_each: list["Services"] = field(default_factory=list)
    """The services of every shard; these are among them."""

    @property
    def home(self) -> Store:
        """The store with what belongs to no tenant."""
        return self.shards.home

    def of(self, name: str) -> "Services":
        """Return the services of the shard of a tenant or an upload."""
        return self if len(self.of_each) == 1 else self.of_each[self.shards.of(name).shard]

    def end_waits(self) -> None:
        """End the requests that wait and the event streams of all shards, as a stop of the server needs it."""
        for one in self.of_each:
            one.waiting.end_all()
        self.end_watching()

    def end_watching(self) -> None:
        """Wake the event streams of all shards, so that each looks whether it is to end."""
        for one in self.of_each:
            one.watching.end_all()

    def new_upload_id(self) -> str:
        """Return an id for an upload of a tenant of this shard: where its bytes are sent, only the id is known."""
        upload_id = new_upload_id()
        while self.shards.of(upload_id) is not self.store:
            upload_id = new_upload_id()
        return upload_id


ServicesDep = NamedDependency[SkipValidation[Services]]
"""The type of a handler's parameter `services`."""


def services_of(request: ApiRequest) -> Services:
    """Return the services without Litestar's injection, which takes 14 calls: for the handlers that are called most."""
    services: Services = request.scope["litestar_app"].state.services
    return services.of(request.auth.tenant)


@asynccontextmanager
async def open_services(
    settings: Settings,
    quotas: QuotaTable | None = None,
    *,
    refuse: Callable[[ConfigurationError], None] = lambda _: None,
) -> AsyncIterator[Services]:
    """Connect to Redis and the storage, and read what models there are. None of them has to be there yet: a Redis that
    comes later is looked at then, and `refuse` is called when it must not be used. Without `quotas` those of the
    settings are in force.

    Raises ConfigurationError when a setting, or the set-up of Redis, cannot be right.
    """
    public_url = settings.api.public_url
    async with (
        connect_each(settings.redis) as clients,
        open_storage(settings.storage, settings.redis.namespace) as storage,
        aclosing(Opening(clients)) as opening,
    ):
        await opening.tried()
        shards = Shards.over(clients, settings.queue, patience_s=PATIENCE_S)
        patient = Shards.over(clients, settings.queue)
        models = WatchedCatalogue(shards.home.models, settings.models.serve, may_read=lambda: opening.is_home_open)
        with suppress(StoreUnavailable):
            await models.read()
        home = Services(
            settings=settings,
            models=models,
            policy=Policy.from_limits(settings.limits, public_url=public_url),
            webhook_policy=Policy.from_limits(
                settings.limits, allow_http=settings.webhooks.allow_http, public_url=public_url
            ),
            storage=storage,
            quotas=quotas or QuotaTable(settings.quotas),
            checking=asyncio.Lock(),
            shards=shards,
            patient_shards=patient,
            **_of_shard(shards.home, patient.home),
        )
        others = [replace(home, **_of_shard(*pair)) for pair in zip(shards, patient, strict=True)][1:]
        home.of_each.extend([home, *others])
        late = asyncio.create_task(_open_late(opening, models, refuse), name="opening")
        try:
            yield home
        finally:
            late.cancel()


async def _open_late(opening: Opening, models: WatchedCatalogue, refuse: Callable[[ConfigurationError], None]) -> None:
    try:
        if not opening.is_home_open:
            await opening.home()
            with suppress(StoreUnavailable):  # its loop tries again
                await models.read()
        await opening.all()
    except ConfigurationError as error:
        refuse(error)


def _of_shard(store: Store, patient: Store) -> dict[str, Any]:
    """The services that each shard has for itself."""
    return {
        "store": store,
        "patient_store": patient,
        "waiting": Waiting(store),
        "watching": Watching(store),
        "estimates": Estimates(store),
    }
