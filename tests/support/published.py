"""The models of the tests in the catalogue, published as a worker does, for servers that have none."""

import asyncio
import threading
from contextlib import suppress

from penstock.core.model import Model
from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.intake.models import Catalogue, WatchedCatalogue
from penstock.models import BUILT_IN, load_runners
from penstock.models.description import descriptions
from penstock.models.loading import modules_of
from penstock.models.registry import registry
from penstock.settings import ModelSettings, Settings
from penstock.store import Engine, ModelStore, PublishedModel, PublishedModels, Store, connect


def models_of(settings: ModelSettings | None = None) -> list[Model]:
    """Returns the descriptions of the built-in models, and of those in the modules of these settings; not of all that
    other tests have imported here."""
    references = settings.modules if settings else ()
    load_runners(ModelSettings(modules=references))
    modules = {*BUILT_IN.values(), *(module.__name__ for one in references for module in modules_of(one))}
    return descriptions(sorted(name for name, runner in registry().items() if runner.__module__ in modules))


def published(*models: Model, defaults: dict[str, str] | None = None) -> PublishedModels:
    """Returns what Redis would hold of these models, published one after the other."""
    versions = tuple(PublishedModel(model=model, worker="w0", first=n * 10**6) for n, model in enumerate(models, 1))
    return PublishedModels(versions=versions, defaults=defaults or {}, is_published=True)


def taken(*models: Model, defaults: dict[str, str] | None = None, serve: tuple[str, ...] = ()) -> Catalogue:
    """Returns a catalogue of these models without any Redis."""
    found = Catalogue(serve)
    found.take(published(*models, defaults=defaults))
    return found


async def publish(store: Store, *models: Model, worker: str = "w0") -> None:
    """Publishes these models, or the built-in ones."""
    await store.models.publish(models or models_of(), worker=worker)


async def catalogue(store: Store, *models: Model, serve: tuple[str, ...] = ()) -> WatchedCatalogue:
    """Publishes models and returns the catalogue of a server."""
    await publish(store, *models)
    found = WatchedCatalogue(store.models, serve)
    await found.read()
    return found


def publish_now(settings: Settings) -> None:
    """Publishes all models of these settings, unless their Redis is away. It may be called beside a running loop."""
    running = threading.Thread(target=lambda: asyncio.run(_publish(settings)))
    running.start()
    running.join()


async def _publish(settings: Settings) -> None:
    with suppress(StoreUnavailable, ConfigurationError):
        async with connect(settings.redis) as client:
            engine = Engine(client, settings.redis.namespace, settings.queue, patience_s=0.5)
            await ModelStore(engine).publish(models_of(settings.models), worker="w0")
