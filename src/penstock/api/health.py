"""Is it alive, is it ready, how is it doing: for orchestrators and Prometheus, without a key."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from litestar import Request, Response, get
from litestar.datastructures import State
from loguru import logger
from msgspec import Struct

from penstock import __version__, exposition
from penstock.api.overview import DiscoveryView, LiveView, ReadyView, StartedView
from penstock.api.problems import documented
from penstock.api.services import Open, Services
from penstock.errors import NotReady, StorageUnavailable, StoreUnavailable
from penstock.storage import Storage
from penstock.store import TaskStore, WorkerInfo

LOOK_PAUSE_S = 5.0
LOOK_AGAIN_S = 1.0
"""Between two looks at the storage: after one that was answered, and after one that was not."""

SLOW_S = 3.0
"""A look that takes longer counts as not answered until it is."""

FIRST_LOOK_S = 0.7
"""Longest wait for the first look; whoever asks later has the last one at once."""

WORKER_READY = "READY"

SPOOL_FULL = "its spool is full of results that the storage does not take, so that it claims nothing"


class Look(Struct, frozen=True, kw_only=True):
    """What a look at the storage has found, and how long ago; None: all is well."""

    problem: str | None
    age_s: float


class StorageWatch:
    """Looks at the storage every few seconds, beside the requests: these never wait for it."""

    def __init__(self) -> None:
        self._problem: str | None = None
        self._at = time.monotonic()
        self._looked = asyncio.Event()
        self.was_well = asyncio.Event()
        """Set with the first look that was answered."""

    async def last(self) -> Look:
        """The last look. Waits for the first one only, and not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self._looked.wait()
        problem = self._problem if self._looked.is_set() else "it has not answered yet"
        return Look(problem=problem, age_s=time.monotonic() - self._at)

    async def run(self, storage: Storage) -> None:
        """Look again and again, for ever."""
        while True:
            await self._look(storage)
            await asyncio.sleep(LOOK_AGAIN_S if self._problem else LOOK_PAUSE_S)

    async def _look(self, storage: Storage) -> None:
        """A look that hangs is not left for another: in a directory it holds a thread, of which there are few."""
        started, looking = time.monotonic(), asyncio.ensure_future(_problem_of(storage))
        try:
            while not (await asyncio.wait([looking], timeout=SLOW_S))[0]:
                self._note(f"it has not answered for {time.monotonic() - started:.0f} s")
            self._note(await looking)
        finally:
            looking.cancel()

    def _note(self, problem: str | None) -> None:
        if problem and not self._problem:
            logger.bind(reason=problem).warning("the storage cannot be used")
        if self._problem and not problem:
            logger.info("the storage can be used again")
        self._problem, self._at = problem, time.monotonic()
        self._looked.set()
        if not problem:
            self.was_well.set()


@get("/livez", operation_id="livez", tags=["health"], summary="The process answers", sync_to_thread=False)
def livez() -> LiveView:
    """Answers without asking Redis or the storage."""
    return LiveView(status="ok")


@get(
    "/readyz",
    operation_id="readyz",
    tags=["health"],
    summary="Redis and storage answer, and the server is not stopping",
    responses=documented(NotReady),
)
async def readyz(services: Open, request: Request[None, None, State]) -> ReadyView:
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
async def startupz(services: Open, request: Request[None, None, State]) -> StartedView:
    """503 names what has not. Once it has answered 200 it does so for good: what is lost later, /readyz says."""
    state = request.app.state
    if not state.started:
        _, _, missing = await _look(services, state)
        if missing:
            raise NotReady("; ".join(missing), retry_after_s=1)
        state.started = True
    return StartedView(status="started")


@get("/metrics", operation_id="metrics", tags=["health"], summary="Metrics of this process, for Prometheus")
async def metrics() -> Response[bytes]:
    """Answers in the text format of Prometheus."""
    text = await asyncio.to_thread(exposition.scrape)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


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
    """Or why they are not known; within the patience of the API."""
    try:
        return await store.workers()
    except StoreUnavailable as error:
        return error.detail


async def _problem_of(storage: Storage) -> str | None:
    try:
        await storage.look()
    except StorageUnavailable as error:
        return error.detail
    except Exception as error:  # noqa: BLE001  what asks whether it is ready must hear so, whatever is wrong
        logger.exception("the look at the storage failed")
        return f"the look at it failed with {type(error).__name__}"
    return None
