"""/v1/workers, /v1/queues and /v1/stats: the state of the installation, and what operators do to workers and queues."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from litestar import get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from penstock.api.auditing import write_down
from penstock.api.bulk import ROUNDS, SHOWN, DryRun
from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import documented
from penstock.api.http.scopes import ALL_TENANTS, OF_ALL_TENANTS, OF_ANY_TENANT, OPERATE, READ
from penstock.api.schemas.operators import PurgedView, QueueList, StatsView, WorkerList, WorkerStatusView
from penstock.api.schemas.render import backlog_view, queue_view, worker_status
from penstock.api.services import Services, ServicesDep
from penstock.core.task import PRIORITIES, Priority, State
from penstock.errors import InvalidRequest, ModelNotFound, NotReady, WorkerNotFound
from penstock.store import QueueStore, Totals
from penstock.telemetry import endings
from penstock.upkeep.backlog import backlog

PRIORITY = "Without a priority, it acts on all of them. It can be repeated safely."


@get(
    "/workers",
    operation_id="listWorkers",
    opt=READ | OF_ALL_TENANTS,
    tags=["operation"],
    summary="List the workers with a current lease",
    description="Each with the tasks that it runs of the tenant; `tenant=*` asks for those of every tenant.",
)
async def list_workers(request: ApiRequest, services: ServicesDep) -> WorkerList:
    """Lists the workers by id, each with the tasks that it runs."""
    return WorkerList(data=await _workers(request.auth.tenant, services))


@post(
    "/workers/{worker_id:str}/drain",
    operation_id="drainWorker",
    tags=["operation"],
    opt=OPERATE,
    summary="Drain a worker: let it claim no more tasks",
    description="The worker claims nothing after the answer, and finishes what it runs. It stays drained until it is "
    "resumed or its process ends, even if it loses its connection meanwhile. It can be repeated safely.",
    status_code=200,
    responses=documented(WorkerNotFound),
)
async def drain(request: ApiRequest, services: ServicesDep, worker_id: FromPath[str]) -> WorkerStatusView:
    """Answers the worker as it is now."""
    await services.shards.each(lambda store: store.workers.drain(worker_id))
    await write_down("worker.drain", worker_id, request, services)
    return await _worker(worker_id, request, services)


@post(
    "/workers/{worker_id:str}/resume",
    operation_id="resumeWorker",
    tags=["operation"],
    opt=OPERATE,
    summary="Let a drained worker claim again",
    description="The worker looks for a task at once. It can be repeated safely.",
    status_code=200,
    responses=documented(WorkerNotFound),
)
async def resume_worker(request: ApiRequest, services: ServicesDep, worker_id: FromPath[str]) -> WorkerStatusView:
    """Answers the worker as it is now."""
    await services.shards.each(lambda store: store.workers.resume(worker_id))
    await write_down("worker.resume", worker_id, request, services)
    return await _worker(worker_id, request, services)


@get(
    "/queues",
    operation_id="listQueues",
    tags=["operation"],
    opt=READ,
    summary="List the queues by model and priority, with their depth and whether they are paused",
)
async def list_queues(request: ApiRequest, services: ServicesDep) -> QueueList:
    """Lists the queues of all models that are served."""
    queues = await _seen(request, services).depths(services.models.ids())
    return QueueList(data=tuple(map(queue_view, queues)))


@post(
    "/queues/{model:str}/pause",
    operation_id="pauseQueue",
    tags=["operation"],
    opt=OPERATE,
    summary="Pause the queues of a model",
    description="No waiting task starts. Running tasks finish, submits are accepted, and time limits go on. "
    + PRIORITY,
    status_code=200,
    responses=documented(ModelNotFound, NotReady, InvalidRequest),
)
async def pause(
    request: ApiRequest, services: ServicesDep, model: FromPath[str], priority: FromQuery[Priority | None] = None
) -> QueueList:
    """Answers the queues of the model as they are now."""
    ids, wanted, by = await _ids(model, services), _wanted(priority), request.auth.id
    paused = await _in_each_shard(ids, services, lambda queues, one: queues.pause(one, wanted, by=by))
    await write_down("queue.pause", model, request, services, priority=priority, paused=paused)
    return await _queues_of(ids, services)


@post(
    "/queues/{model:str}/resume",
    operation_id="resumeQueue",
    tags=["operation"],
    opt=OPERATE,
    summary="Resume the queues of a model",
    description="Waiting tasks may start again. " + PRIORITY,
    status_code=200,
    responses=documented(ModelNotFound, NotReady, InvalidRequest),
)
async def resume(
    request: ApiRequest, services: ServicesDep, model: FromPath[str], priority: FromQuery[Priority | None] = None
) -> QueueList:
    """Answers the queues of the model as they are now."""
    ids, wanted = await _ids(model, services), _wanted(priority)
    resumed = await _in_each_shard(ids, services, lambda queues, one: queues.resume(one, wanted))
    await write_down("queue.resume", model, request, services, priority=priority, resumed=resumed)
    return await _queues_of(ids, services)


@post(
    "/queues/{model:str}/purge",
    operation_id="purgeQueue",
    tags=["operation"],
    opt=OPERATE | OF_ANY_TENANT,
    summary="Cancel the waiting tasks of a model",
    description="Cancels tasks of the tenant that are PENDING, newest first, but none that runs, and none that is "
    "submitted meanwhile. Repeat it while `has_more`. With `dry_run=true` the answer says what would be canceled. "
    + PRIORITY,
    status_code=200,
    responses=documented(ModelNotFound, NotReady, InvalidRequest),
)
async def purge(
    request: ApiRequest,
    services: ServicesDep,
    model: FromPath[str],
    priority: FromQuery[Priority | None] = None,
    dry_run: DryRun = False,
    limit: Annotated[int, QueryParameter(ge=1, le=100_000)] = 10_000,
) -> PurgedView:
    """Answers how many tasks were canceled: up to a hundred more than `limit`, since they are canceled in steps of a
    hundred."""
    tenant, ids = request.auth.tenant, await _ids(model, services)
    if dry_run:
        return await _would_purge(tenant, ids, priority, limit, services)
    canceled, has_more = 0, False
    for one in ids:
        if canceled >= limit:
            has_more = True  # nobody has looked whether this one has any
            break
        purged = await services.store.queues.purge(tenant, one, _wanted(priority), limit=limit - canceled)
        canceled, has_more = canceled + purged.canceled, has_more or purged.has_more
        if purged.canceled:
            endings.count_end(one, State.CANCELED, tasks=purged.canceled)
    await write_down("queue.purge", model, request, services, priority=priority, canceled=canceled)
    return PurgedView(matched=canceled, task_ids=(), dry_run=False, canceled=canceled, has_more=has_more)


@get(
    "/stats",
    operation_id="getStats",
    tags=["operation"],
    opt=READ | OF_ALL_TENANTS,
    summary="Tasks by status, queues by model and priority, workers by state, the backlog in device seconds",
    description="`tenant=*` counts the tasks of every tenant. Queues, workers and the backlog are those of all.",
)
async def stats(request: ApiRequest, services: ServicesDep) -> StatsView:
    """Counts tasks, queues and workers as they are now."""
    tenant, models = request.auth.tenant, services.models.ids()
    totals = _seen(request, services)
    counts = await (totals.count_tasks() if tenant == ALL_TENANTS else services.store.listing.count(tenant))
    queues = await totals.depths(models)
    _, lines = await totals.waiting_lines()
    workers = await services.store.workers.listed()
    return StatsView(
        tasks={state.value: n for state, n in counts.items()},
        queues=tuple(queue_view(queue) for queue in queues),
        workers=dict(Counter(worker.state for worker in workers)),
        backlog=backlog_view(await backlog(totals, queues, lines, models)),
    )


async def _in_each_shard(
    ids: Sequence[str], services: Services, act: Callable[[QueueStore, str], Awaitable[int]]
) -> int:
    """Act on the queues of these models in every shard. Returns how many were changed; a queue counts once."""

    async def changed(one: str) -> int:
        return max(await services.shards.each(lambda store: act(store.queues, one)))

    return sum([await changed(one) for one in ids])


def _seen(request: ApiRequest, services: Services) -> Totals:
    """What the caller sees of all tenants: an operator every shard, and any other the one of its tenant, so that its
    request depends on no other."""
    return services.shards.totals if "operate" in request.auth.scopes else Totals([services.store])


async def _ids(model: str, services: Services) -> tuple[str, ...]:
    """The names of the queues of `name@version`, or of all versions of a bare name. The queues of a model that was
    removed are there as long as tasks wait in them or they are paused. Raises ModelNotFound, NotReady."""
    try:
        return tuple(one.model.id for one in services.models.versions_of(model))
    except ModelNotFound:
        if any(queue.depth or queue.pause for queue in await services.shards.totals.depths([model])):
            return (model,)
        raise


async def _would_purge(
    tenant: str, ids: Sequence[str], priority: Priority | None, limit: int, services: Services
) -> PurgedView:
    found: list[str] = []
    has_more = False
    for one in ids:
        page = await services.store.listing.matching(
            tenant, states=(State.PENDING,), model=one, priority=priority, limit=limit, rounds=ROUNDS
        )
        found += page.ids
        has_more = has_more or page.next_before is not None
    has_more, found = has_more or len(found) > limit, found[:limit]
    return PurgedView(matched=len(found), task_ids=tuple(found[:SHOWN]), dry_run=True, canceled=0, has_more=has_more)


def _wanted(priority: Priority | None) -> tuple[Priority, ...]:
    return PRIORITIES if priority is None else (priority,)


async def _queues_of(ids: Sequence[str], services: Services) -> QueueList:
    return QueueList(data=tuple(map(queue_view, await services.shards.totals.depths(ids))))


async def _workers(tenant: str, services: Services) -> tuple[WorkerStatusView, ...]:
    workers = await services.store.workers.listed()
    is_all = tenant == ALL_TENANTS
    running = await (services.shards.totals.running() if is_all else services.store.workers.running(tenant))
    return tuple(worker_status(w, running) for w in sorted(workers, key=lambda w: w.id))


async def _worker(worker_id: str, request: ApiRequest, services: Services) -> WorkerStatusView:
    for worker in await _workers(request.auth.tenant, services):
        if worker.id == worker_id:
            return worker
    raise WorkerNotFound("the worker was drained or resumed, but its lease has run out")
