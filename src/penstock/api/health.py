"""Is it alive, is it ready, how is it doing: for orchestrators and Prometheus, without a key."""

import asyncio
import time

from litestar import Request, Response, get
from litestar.datastructures import State

from penstock import __version__, exposition
from penstock.api.overview import DiscoveryView, LiveView, ReadyView, StartedView
from penstock.api.problems import documented
from penstock.api.services import Open, Services
from penstock.errors import NotReady, StorageUnavailable, StoreUnavailable
from penstock.storage import Storage
from penstock.store import WorkerInfo

PROBE_AGE_S = 5.0
"""A storage probe writes, reads and deletes an object: one answer is good for this long."""

WORKER_READY = "READY"

SPOOL_FULL = "its spool is full of results that the storage does not take, so that it claims nothing"


class StorageProbe:
    """The last answer of `storage.probe`, made anew when it is too old; callers meanwhile wait for the same one."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._made = -PROBE_AGE_S
        self._error: StorageUnavailable | None = None

    async def check(self, storage: Storage) -> None:
        """Raises StorageUnavailable."""
        async with self._lock:
            if time.monotonic() - self._made >= PROBE_AGE_S:
                self._error = await _failure(storage)
                self._made = time.monotonic()
        if self._error is not None:
            raise StorageUnavailable(self._error.detail)


@get("/livez", operation_id="livez", tags=["health"], summary="The process answers", sync_to_thread=False)
def livez() -> LiveView:
    """Touches nothing."""
    return LiveView(status="ok")


@get(
    "/readyz",
    operation_id="readyz",
    tags=["health"],
    summary="Redis and storage answer, and the server is not stopping",
    responses=documented(NotReady),
)
async def readyz(services: Open, request: Request[None, None, State]) -> ReadyView:
    """503 names what is missing, `warnings` what only holds tasks up. `workers` may be 0: tasks are taken all the same,
    and wait. A server that left the balancer then could not take the task that makes a scaler start a worker."""
    state = request.app.state
    workers, missing = await _look(services, state)
    if state.draining:
        missing.insert(0, "server: it is stopping")
    if missing:
        raise NotReady("; ".join(missing), retry_after_s=1)
    state.started = True
    return ReadyView(
        status="ready",
        redis="ok",
        storage="ok",
        workers=sum(worker.state == WORKER_READY for worker in workers),
        warnings=tuple(f"worker {worker.id}: {SPOOL_FULL}" for worker in workers if worker.spool_full),
    )


@get(
    "/startupz",
    operation_id="startupz",
    tags=["health"],
    summary="Redis and storage have answered since the server was started",
    responses=documented(NotReady),
)
async def startupz(services: Open, request: Request[None, None, State]) -> StartedView:
    """503 names what has not. Once it has answered 200 it does so for good: what is lost later, /readyz says."""
    state = request.app.state
    if not state.started:
        _, missing = await _look(services, state)
        if missing:
            raise NotReady("; ".join(missing), retry_after_s=1)
        state.started = True
    return StartedView(status="started")


@get("/metrics", operation_id="metrics", tags=["health"], summary="Metrics of this process, for Prometheus")
async def metrics() -> Response[bytes]:
    """In the text format."""
    text = await asyncio.to_thread(exposition.scrape)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@get("/", operation_id="discover", tags=["health"], summary="What this server is", sync_to_thread=False)
def discover() -> DiscoveryView:
    """Where everything is."""
    return DiscoveryView(
        name="penstock",
        version=__version__,
        docs="/docs",
        openapi="/schema/openapi.json",
        links={
            "tasks": "/v1/tasks",
            "models": "/v1/models",
            "workers": "/v1/workers",
            "queues": "/v1/queues",
            "stats": "/v1/stats",
            "live": "/livez",
            "ready": "/readyz",
            "started": "/startupz",
            "metrics": "/metrics",
        },
    )


async def _look(services: Services, state: State) -> tuple[list[WorkerInfo], list[str]]:
    """The workers, and what does not answer."""
    workers: list[WorkerInfo] = []
    missing = []
    try:
        await services.store.ping()
        workers = await services.store.workers()
    except StoreUnavailable as error:
        missing.append(f"redis: {error.detail}")
    try:
        await state.storage_probe.check(services.storage)
    except StorageUnavailable as error:
        missing.append(f"storage: {error.detail}")
    return workers, missing


async def _failure(storage: Storage) -> StorageUnavailable | None:
    try:
        await storage.probe()
    except StorageUnavailable as error:
        return error
    return None
