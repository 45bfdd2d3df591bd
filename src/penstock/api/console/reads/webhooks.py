"""What webhooks are owed, for operators: no client has a route for it, who sees its own tasks' events with these."""

from msgspec import Struct

from penstock.api.services import Services
from penstock.errors import PenstockError
from penstock.store import OwedEndpoint, OwedEvent


class Owed(Struct, frozen=True):
    """An endpoint that is owed events; its `url` is '' where that of its next event is not known any more."""

    endpoint: OwedEndpoint
    url: str


async def owed(services: Services) -> list[Owed]:
    """Return the endpoints with events that wait, those that do not answer promptly first. Raises StoreUnavailable."""
    found = await services.shards.totals.owed()
    return [Owed(one, await _url_of(one.events[0], services) if one.events else "") for one in found]


async def _url_of(event: OwedEvent, services: Services) -> str:
    store = services.shards.of(event.tenant)
    try:
        if event.subject.startswith("bat_"):
            hook = (await store.batches.batch(event.subject, event.tenant)).plan.webhook
        else:
            hook = (await store.tasks.get(event.subject, event.tenant)).request.webhook
    except PenstockError:  # deleted meanwhile, or damaged
        return ""
    return hook.url if hook else ""
