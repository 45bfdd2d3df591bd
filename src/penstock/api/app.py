"""The application: its routes, its lifetime, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.routes import HTTPRoute
from litestar.types import Scope
from loguru import logger

from penstock.api.bulk import bulk_of
from penstock.api.description import docs, openapi
from penstock.api.description.site import errors, front
from penstock.api.http import problems
from penstock.api.http.addresses import ClientAddresses
from penstock.api.http.auth import ApiRequest, KeyRing, require_key
from penstock.api.http.bodies import BodyMemory
from penstock.api.http.cors import Cors
from penstock.api.http.cursors import Cursors
from penstock.api.http.filters import filter_of
from penstock.api.http.headers import allow_of
from penstock.api.http.key_table import KeyTable
from penstock.api.http.mounting import MountedRouter
from penstock.api.http.origins import Origins
from penstock.api.http.query import check_query
from penstock.api.http.request_context import RequestContext
from penstock.api.http.request_spans import with_spans
from penstock.api.http.scopes import check_declared
from penstock.api.http.tenant_limits import AT_ONCE, TenantLimits
from penstock.api.http.wrong_keys import WrongKeys
from penstock.api.late_console import LateConsole
from penstock.api.replicate import catalogue, files, outputs, predictions, routes
from penstock.api.routes import (
    audit,
    batches,
    events,
    explain,
    health,
    keys,
    listing,
    manifest,
    models,
    operations,
    quotes,
    removal,
    results,
    retries,
    tasks,
    tenants,
    uploads,
    usage,
)
from penstock.api.routes import (
    settings as settings_of_server,
)
from penstock.api.services import Services, open_services
from penstock.api.webhook_bodies import body_of
from penstock.core.model import Model
from penstock.errors import ConfigurationError, StorageUnavailable, StoreUnavailable
from penstock.intake.batch_feeder import Feeder
from penstock.intake.quotas import QuotaTable
from penstock.settings import ApiSettings, Settings
from penstock.storage import Storage
from penstock.upkeep.links import check_links
from penstock.upkeep.machine import disks_of, watch_disks, watch_loop
from penstock.upkeep.rounds import run_maintenance
from penstock.upkeep.watches import StorageWatch, watch_store
from penstock.webhooks.dispatcher import Dispatcher

V1 = (
    tasks.submit,
    quotes.quote_task,
    tasks.read,
    listing.list_tasks,
    tasks.cancel,
    events.watch,
    explain.explain,
    removal.cancel_matching,
    removal.delete_task,
    removal.delete_matching,
    retries.retry,
    retries.retry_matching,
    tasks.redeliver,
    batches.submit_batch,
    batches.read_batch,
    batches.list_batches,
    batches.cancel_batch,
    batches.delete_batch,
    manifest.read_results,
    batches.redeliver_batch,
    results.read_result,
    results.read_log,
    results.read_result_file,
    uploads.open_upload,
    uploads.send_upload,
    uploads.read_upload,
    uploads.delete_upload,
    models.list_models,
    models.read_model,
    models.set_default,
    models.load,
    models.unload,
    operations.list_workers,
    operations.drain,
    operations.resume_worker,
    operations.list_queues,
    operations.pause,
    operations.resume,
    operations.purge,
    operations.stats,
    settings_of_server.read_settings,
    keys.create_key,
    keys.list_keys,
    keys.read_key,
    keys.rotate_key,
    keys.revoke_key,
    keys.revoke_tokens,
    tenants.list_tenants,
    tenants.read_quotas,
    tenants.set_quotas,
    tenants.reset_quotas,
    audit.read_audit,
    usage.read_usage,
)
REPLICATE = (
    *routes.ROUTES,
    *catalogue.ROUTES,
    *files.ROUTES,
    outputs.read_output,
)
OPEN = (front.discover, health.livez, health.readyz, health.startupz)
"""The routes that need no key; `/metrics` and `/docs` are others, where the settings say `on`."""


class Application(Litestar):
    """An application whose types are those of msgspec and of the standard library.

    Litestar imports pydantic and attrs where they are installed, also for who uses neither: 9 MB in each process.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def create_app(settings: Settings, *, most_of_tenant: int = AT_ONCE, metrics_of_all: str = "") -> Litestar:
    """Return the API as an ASGI application; nothing is opened before its lifespan starts. It works on so many requests
    of one tenant at a time, and shows the metrics of `metrics_of_all`, by default those of this process.

    Raises ConfigurationError when no API key is set.
    """
    check_declared((*V1, *REPLICATE))
    state = _state_of(settings, most_of_tenant, metrics_of_all)
    has_docs = settings.api.docs == "on"

    def refuse(error: ConfigurationError) -> None:
        state.misfit = error

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        state.key_ring.log()
        async with (
            open_services(settings, state.quotas, refuse=refuse) as services,
            _running(services, state),
        ):
            app.state.services = services
            yield

    def services_of_app() -> Services:
        services: Services = app.state.services
        return services

    def services_of_caller(scope: Scope) -> Services:
        services: Services = app.state.services
        caller = scope.get("auth")  # none of a route that is let in by its URL
        return services.of(caller.tenant) if caller else services

    of_handler = services_of_app if settings.redis.shards == 1 else services_of_caller
    application = partial(
        Application,
        state=state,
        dependencies={
            "services": Provide(of_handler, sync_to_thread=False),
            "task_filter": Provide(filter_of),
            "bulk": Provide(bulk_of),
        },
        exception_handlers=problems.HANDLERS,
        before_request=check_query,
        request_class=ApiRequest,
        request_max_body_size=settings.limits.max_body_bytes,
        logging_config=None,
        debug=False,
    )
    app = application(
        [
            *OPEN,
            *([health.metrics] if settings.api.metrics == "on" else []),
            MountedRouter("/v1", route_handlers=V1, middleware=[require_key]),
            MountedRouter(predictions.PREFIX, route_handlers=REPLICATE, middleware=[require_key]),
            errors.router,
            *([docs.router] if has_docs else []),
        ],
        lifespan=[lifespan],
        openapi_config=openapi.config(settings.api.public_url) if has_docs else None,
    )
    allowed = _allowed(app)

    def console() -> Litestar:
        from penstock.api.console.router import console  # what it imports is not loaded where nobody looks at it

        made = application(console(V1), openapi_config=None)
        allowed.update(_allowed(made))
        return made

    app.state.cors = cors = Cors(settings.api.cors_origins, app.routes)
    wrong_keys = WrongKeys(state.addresses, settings.api.wrong_keys_per_minute)
    handler = LateConsole(app.asgi_handler, console) if settings.console.enabled else app.asgi_handler
    context = RequestContext(
        handler, Origins(settings.api), cors, allowed, wrong_keys, lambda: bool(app.state.draining)
    )
    app.asgi_handler = with_spans(context)
    return app


def _allowed(app: Litestar) -> dict[str, str]:
    """The methods of each path: Litestar answers OPTIONS with the first, and leaves out the others."""
    return {route.path_format: allow_of(route.methods) for route in app.routes if isinstance(route, HTTPRoute)}


def _state_of(settings: Settings, most_of_tenant: int, metrics_of_all: str) -> State:
    """Return what all requests share, by its name in `app.state`; `services` are added when the server starts."""
    quotas = QuotaTable(settings.quotas)
    key_table = KeyTable(quotas=quotas)
    return State(
        {
            "quotas": quotas,
            "key_table": key_table,
            "key_ring": KeyRing(settings.api.keys, key_table),
            "addresses": ClientAddresses(settings.api.trusted_proxies),
            "cursors": Cursors(key_table.secret),
            "output_links": predictions.OutputLinks(key_table.secret),
            "storage_watch": StorageWatch(),
            "tenant_limits": TenantLimits(quotas, most_of_tenant),
            "body_memory": BodyMemory(settings.bodies_of_process),
            "metrics_of_all": metrics_of_all,
            "recent_errors": {},
            "draining": False,
            "started": False,
            "misfit": None,
        }
    )


def openapi_document(models: Sequence[Model]) -> str:
    """Return the description of the API of a server with these models. Nothing is opened for it."""
    described = create_app(Settings(api=ApiSettings(keys=("described-not-served",), docs="on", metrics="on")))
    return openapi.complete(described, described.openapi_schema.to_schema(), models).decode()


@asynccontextmanager
async def _running(services: Services, state: State) -> AsyncIterator[None]:
    """Run what goes on beside the requests."""
    watch: StorageWatch = state.storage_watch
    output_links: predictions.OutputLinks = state.output_links
    key_table: KeyTable = state.key_table
    with suppress(StoreUnavailable):  # its loop tries again; until then managed keys are asked to come later
        await key_table.read(services.home.access_keys)
    work = run_maintenance(
        services.shards,
        services.storage,
        services.models.ids,
        services.running_caps,
        patient=services.patient_shards,
        delete_orphans=services.settings.storage.sweep,
    )
    loops = [
        asyncio.create_task(work, name="maintenance"),
        asyncio.create_task(services.models.run(), name="catalogue"),
        asyncio.create_task(key_table.run(services.home.access_keys, services.end_watching), name="keys"),
        *(asyncio.create_task(one.waiting.run(), name="waiting") for one in services.of_each),
        *(asyncio.create_task(one.watching.run(), name="watching") for one in services.of_each),
        *(asyncio.create_task(Feeder(one).run(), name="feeder") for one in services.of_each),
        asyncio.create_task(watch.run(services.storage), name="storage watch"),
        asyncio.create_task(watch_store(services.shards), name="store watch"),
        asyncio.create_task(watch_loop(), name="loop watch"),
        asyncio.create_task(watch_disks(disks_of(services.settings, has_spool=False)), name="disk watch"),
        asyncio.create_task(_try_links(services.storage, watch), name="links"),
    ]
    if services.settings.webhooks.secrets:
        loops.append(asyncio.create_task(_dispatch_webhooks(services, output_links, key_table), name="webhooks"))
    for loop in loops:
        loop.add_done_callback(_log_death)
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def _try_links(storage: Storage, watch: StorageWatch) -> None:
    """Tries the links of the storage once as clients use them, when it works. Faults are logged and stop nothing."""
    await watch.succeeded.wait()
    try:
        report = await check_links(storage)
    except StorageUnavailable as error:
        logger.bind(reason=error.detail).warning("the links to the storage could not be tried")
        return
    if report is None:
        return
    if report.is_public:
        logger.bind(allowed=report.is_public).error("everybody may use the bucket without a key: see penstock doctor")
    logger.bind(stores_once=report.stores_once).info("the bucket was tried")
    for trouble in report.troubles:
        logger.bind(problem=trouble.problem, advice=trouble.advice).warning(
            "clients may not be able to use their links"
        )


async def _dispatch_webhooks(services: Services, output_links: predictions.OutputLinks, key_table: KeyTable) -> None:
    await key_table.was_read.wait()  # the links in their bodies are signed
    settings = services.settings
    body = body_of(services.storage, output_links)
    dispatchers = [
        Dispatcher(store, body, settings.webhooks, settings.limits, public_url=settings.api.public_url)
        for store in services.patient_shards
    ]
    await asyncio.gather(*(dispatcher.run() for dispatcher in dispatchers))


def _log_death(ended: asyncio.Task[None]) -> None:
    """Log why a loop has ended that should end with the server only."""
    if not ended.cancelled() and ended.exception():
        logger.opt(exception=ended.exception()).critical(f"{ended.get_name()} died")
