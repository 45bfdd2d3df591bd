"""Is it alive, is it ready, how is it doing: for orchestrators and Prometheus, without a key."""

import asyncio
from collections.abc import Sequence

from litestar import Request, Response, get
from litestar.datastructures import State

from penstock import __version__
from penstock.api.http.contents import describe
from penstock.api.http.problems import documented
from penstock.api.schemas.operators import DiscoveryView, LiveView, ReadyView, StartedView
from penstock.api.services import Services, ServicesDep
from penstock.errors import NotReady, StoreUnavailable
from penstock.store import TaskStore, WorkerInfo
from penstock.telemetry import exposition
from penstock.upkeep.watches import Look

WORKER_READY = "READY"

SPOOL_FULL = "its spool is full of results that the storage does not take, so that it claims nothing"


@get("/livez", operation_id="livez", tags=["health"], summary="The process answers", sync_to_thread=False)
def livez() -> LiveView:
    """Answers without asking Redis or the storage."""
    return LiveView(status="ok")


@get(
    "/readyz",
    operation_id="readyz",
    tags=["health"],
    summary="Redis takes writes, the storage answers, and the server is not stopping",
    responses=documented(NotReady),
)
async def readyz(services: ServicesDep, request: Request[None, None, State]) -> ReadyView:
    """503 names what is missing, within a second; `warnings` what only holds tasks up. `workers` may be 0: tasks are
    taken all the same, and wait. A server that left the balancer then could not take the task that makes a scaler start
    a worker.

    Of the storage it says what the last look has found: that it answered to a read a few seconds ago, and that its last
    write, within the hour, was good. In a versioned bucket every write stays, so a look is no write."""
    state = request.app.state
    workers, storage, missing = await _look(services, state)
    if state.draining:
        missing.insert(0, "server: it is stopping")
    if missing:
        raise NotReady("; ".join(missing), retry_after_s=1)
    state.started = True
    return ReadyView(
        status="ready",
        redis="ok",
        storage="ok",
        storage_age_s=round(storage.age_s, 1),
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
async def startupz(services: ServicesDep, request: Request[None, None, State]) -> StartedView:
    """503 names what has not. Once it has answered 200 it does so for good: what is lost later, /readyz says."""
    state = request.app.state
    if not state.started:
        _, _, missing = await _look(services, state)
        if missing:
            raise NotReady("; ".join(missing), retry_after_s=1)
        state.started = True
    return StartedView(status="started")


@get(
    "/metrics",
    operation_id="metrics",
    tags=["health"],
    summary="Metrics of this process, for Prometheus",
    opt=describe(answers={200: {"text/plain": {"type": "string"}}}),
)
async def metrics() -> Response[bytes]:
    """Answers in the text format of Prometheus."""
    text = await asyncio.to_thread(exposition.scrape)
    return Response(text, media_type="text/plain; version=0.0.4")  # Litestar adds the charset


@get("/", operation_id="discover", tags=["health"], summary="What this server is", sync_to_thread=False)
def discover() -> DiscoveryView:
    """Says where everything is."""
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


async def _look(services: Services, state: State) -> tuple[Sequence[WorkerInfo], Look, list[str]]:
    """The workers, how the storage is, and what does not answer."""
    workers, storage = await asyncio.gather(_workers(services.store), state.storage_watch.last())
    known, missing = ((), [f"redis: {workers}"]) if isinstance(workers, str) else (workers, [])
    if storage.problem:
        missing.append(f"storage: {storage.problem}")
    return known, storage, missing


async def _workers(store: TaskStore) -> Sequence[WorkerInfo] | str:
    """Or why they are not known, or Redis takes no writes; within the patience of the API."""
    try:
        workers, _ = await asyncio.gather(store.workers(), store.ping())
    except StoreUnavailable as error:
        return error.detail
    return workers
