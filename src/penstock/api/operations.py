"""/v1/workers and /v1/stats: what is going on."""

from collections import Counter

from litestar import get

from penstock.api.schemas import QueueView, StatsView, WorkerList
from penstock.api.services import ApiRequest, Open
from penstock.api.views import worker_view
from penstock.task import Priority


@get("/workers", operation_id="listWorkers", tags=["operation"], summary="The workers heard of within their lease")
async def list_workers(services: Open) -> WorkerList:
    """By id."""
    workers = await services.store.workers()
    return WorkerList(data=tuple(worker_view(w) for w in sorted(workers, key=lambda w: w.id)))


@get(
    "/stats",
    operation_id="getStats",
    tags=["operation"],
    summary="Tasks by status, queues by model and priority, workers by state",
)
async def stats(request: ApiRequest, services: Open) -> StatsView:
    """Of this moment."""
    counts = await services.store.count(request.auth.tenant)
    queues = await services.store.depths(services.models)
    workers = await services.store.workers()
    return StatsView(
        tasks={state.value: n for state, n in counts.items()},
        queues=tuple(
            QueueView(model=q.model, priority=Priority(q.priority), depth=q.depth, oldest_s=round(q.oldest_s, 3))
            for q in queues
        ),
        workers=dict(Counter(worker.state for worker in workers)),
    )
