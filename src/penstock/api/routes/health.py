"""Liveness, readiness and metrics, for orchestrators and Prometheus, without a key."""

import asyncio
from collections.abc import Iterator, Sequence
from http import HTTPStatus

from litestar import Request, Response, get
from litestar.datastructures import State

from penstock.api.http.contents import describe
from penstock.api.http.problems import documented
from penstock.api.schemas.operators import LiveView, ReadyView, StartedView
from penstock.api.services import Services, ServicesDep
from penstock.errors import NotReady, StoreUnavailable
from penstock.net.session import read_local
from penstock.store import Store, WorkerInfo
from penstock.telemetry import exposition
from penstock.upkeep.watches import StorageCheck

WORKER_READY, WORKER_DOWN = "READY", "DOWN"

METRICS_WITHIN_S = 8.0
"""Longest wait for the metrics of all processes: one that does not answer takes 2 s, and Prometheus waits for 10."""

SPOOL_FULL = "its spool is full of results that the storage does not accept, so it claims no task"


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
    """Answers 503 within a second with what is missing; `warnings` name what only delays tasks. `workers` may be 0: a
    server accepts tasks without a worker, and one that left the load balancer could not accept the task that makes a
    scaler start a worker.

    The storage is as it was at the last check: it answered a read a few seconds ago, and its last write, within the
    hour, succeeded. Checks rarely write, because a versioned bucket keeps every write."""
    state = request.app.state
    workers, storage, missing, lost = await _look(services, state)
    if state.draining:
        missing.insert(0, "server: it is stopping")
    if missing:
        raise NotReady("; ".join(missing), retry_after_s=1)
    state.started = True  # /startupz need not ask again
    return ReadyView(
        status="ready",
        redis="ok",
        storage="ok",
        storage_age_s=round(storage.age_s, 1),
        workers=sum(worker.state == WORKER_READY for worker in workers),
        warnings=(*lost, *_warnings(workers)),
    )


@get(
    "/startupz",
    operation_id="startupz",
    tags=["health"],
    summary="Redis and storage have answered since the server was started",
    responses=documented(NotReady),
)
async def startupz(services: ServicesDep, request: Request[None, None, State]) -> StartedView:
    """Answers 503 with what has not answered yet. After its first 200 it always answers 200; /readyz reports later
    losses."""
    state = request.app.state
    if not state.started:
        _, _, missing, _ = await _look(services, state)
        if missing:
            raise NotReady("; ".join(missing), retry_after_s=1)
        state.started = True
    return StartedView(status="started")


@get(
    "/metrics",
    operation_id="metrics",
    tags=["health"],
    summary="Metrics of the API, for Prometheus",
    opt=describe(answers={200: {"text/plain": {"type": "string"}, exposition.OPENMETRICS: {"type": "string"}}}),
)
async def metrics(request: Request[None, None, State]) -> Response[bytes]:
    """Answers in the text format of Prometheus, or in that of OpenMetrics where `Accept` asks for it; for all processes
    of the API, whichever of them is asked."""
    accept = request.headers.get("accept", "")
    # It takes some milliseconds with many series.
    text = await asyncio.to_thread(_scraped, request.app.state.metrics_of_all, accept)
    return Response(text, media_type=_without_charset(exposition.media_type(accept)))


def _without_charset(media_type: str) -> str:
    """Litestar adds the charset to every text."""
    return media_type.replace("; charset=utf-8", "") if media_type.startswith("text/") else media_type


def _scraped(of_all: str, accept: str) -> bytes:
    if not of_all:
        return exposition.scrape(accept)
    try:
        status, text = read_local(of_all, timeout_s=METRICS_WITHIN_S, accept=accept)
    except OSError:
        status, text = HTTPStatus.SERVICE_UNAVAILABLE, b""
    if status != HTTPStatus.OK:
        raise NotReady("the metrics of all processes cannot be read", retry_after_s=1)
    return text


def _warnings(workers: Sequence[WorkerInfo]) -> Iterator[str]:
    for worker in workers:
        if worker.spool_full:
            yield f"worker {worker.id}: {SPOOL_FULL}"
        if worker.state == WORKER_DOWN:
            yield f"device {worker.device} of {worker.host} is down: {worker.reason}"


async def _look(services: Services, state: State) -> tuple[Sequence[WorkerInfo], StorageCheck, list[str], list[str]]:
    """The workers, the last check of the storage, the names of what does not answer, and of the shards that do not,
    while others do."""
    shards = services.shards
    *of_each, storage = await asyncio.gather(*map(_workers, shards), state.storage_watch.last())
    lost = [store.named(one) for store, one in zip(shards, of_each, strict=True) if isinstance(one, str)]
    known = next((one for one in of_each if not isinstance(one, str)), None)
    missing = [] if known is not None else [f"redis: {'; '.join(lost)}"]
    if storage.problem:
        missing.append(f"storage: {storage.problem}")
    return known or (), storage, missing, [f"redis: {one}; its tenants are refused" for one in lost]


async def _workers(store: Store) -> Sequence[WorkerInfo] | str:
    """The workers, or why Redis cannot be read or written; within `services.PATIENCE_S`."""
    try:
        workers, _ = await asyncio.gather(store.workers.listed(), store.ping())
    except StoreUnavailable as error:
        return error.detail
    return workers
