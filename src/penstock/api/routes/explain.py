"""/v1/tasks/{id}/explain: why a task is not done yet."""

from collections.abc import Iterator, Sequence

from litestar import get
from litestar.datastructures import State as AppState
from litestar.params import FromPath

from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.schemas.operators import BlockerView, ExplainView
from penstock.api.schemas.render import moment, worker_view
from penstock.api.schemas.tasks import AheadView
from penstock.api.services import ServicesDep
from penstock.errors import ResultExpired, TaskNotFound
from penstock.intake.estimates import able, forecast
from penstock.intake.residence import Resident, failure, residents
from penstock.store import Explanation, WorkerInfo


@get(
    "/tasks/{task_id:str}/explain",
    operation_id="explainTask",
    tags=["tasks"],
    opt=READ | OF_ANY_TENANT,
    summary="Why a task is not done yet",
    description="The tasks ahead of it, the workers that could run it, what blocks it, and when it should be done. "
    "Times are estimated from the device time of the model's last tasks (a moving average over about ten).",
    responses=documented(TaskNotFound, ResultExpired),
)
async def explain(request: ApiRequest, services: ServicesDep, state: AppState, task_id: FromPath[str]) -> ExplainView:
    """Explains the state of this moment."""
    known = await services.store.tasks.explain(task_id, request.auth.tenant)
    workers = able(known.workers, known.model)
    blockers = [] if known.state.is_final else [*_blockers(known, workers), *await _storage_away(state)]
    ahead = known.position or 0
    expected = forecast(known.pace, cost=known.cost, workers=len(workers), left=known.left)
    if known.pause is not None or known.state.is_final:
        expected = None  # nobody knows when a paused queue is resumed
    eta = None if expected is None else round(expected.eta_seconds(ahead) + (known.due_in_s or 0.0), 3)
    return ExplainView(
        task_id=task_id,
        status=known.state,
        stage=known.stage,
        queue_position=known.position,
        ahead=AheadView(tasks=ahead, device_s=round(ahead * known.pace.device_s, 3) if known.pace else None),
        workers=tuple(worker_view(worker) for worker in workers),
        blockers=tuple(blockers),
        eta_s=eta,
    )


def _blockers(known: Explanation, workers: list[WorkerInfo]) -> Iterator[BlockerView]:
    if known.leader:
        yield BlockerView(
            code="follows_equal_task", detail="it waits for the result of an equal task", task_id=known.leader
        )
    if known.due is not None:
        yield BlockerView(
            code="retry_delay", detail="its last attempt failed; it waits before the next one", until=moment(known.due)
        )
    if known.pause is not None:
        queue = f"the queue of {known.model} at priority {known.priority}"
        detail = f"{queue} has been paused by {known.pause.by} since {moment(known.pause.at)}"
        yield BlockerView(code="queue_paused", detail=detail)
    if known.cap is not None and known.position is not None:
        detail = f"its tenant runs as many tasks as it may (tasks_running: {known.cap}); one of them has to end first"
        yield BlockerView(code="tenant_at_quota", detail=detail)
    found = residents(known.model, known.workers)
    if reason := failure(known.model, found):
        yield BlockerView(code="model_failed", detail=f"no worker can load {known.model}: {reason}")
    elif not workers:
        yield BlockerView(code="no_worker", detail=f"no worker that is READY serves {known.model}")
    elif known.pause is None and known.position is not None:
        yield from _not_loaded(known.model, found)
        yield from _unable(workers)


def _not_loaded(model: str, found: Sequence[Resident]) -> Iterator[BlockerView]:
    """What the workers do with a model that none of them has loaded."""
    states = {residence.state for _, residence in found}
    if not found or "ready" in states:
        return
    loading = [(worker, residence) for worker, residence in found if residence.state == "loading"]
    if loading:
        where = ", ".join(f"{worker.id} since {moment(residence.since)}" for worker, residence in loading)
        yield BlockerView(code="model_loading", detail=f"{model} is being loaded on {where}")
    else:
        detail = f"no worker has {model} loaded; the first one that is free loads it"
        yield BlockerView(code="model_cold", detail=detail)


def _unable(workers: list[WorkerInfo]) -> Iterator[BlockerView]:
    """The reason why none of these workers claims a task now, if there is one for all of them."""
    if all(worker.spool_full for worker in workers):
        detail = "the storage cannot be reached, and the spool of every worker that could run it is full of results"
        yield BlockerView(code="spool_full", detail=detail)
    elif all(worker.spool_full or worker.running >= worker.slots for worker in workers):
        yield BlockerView(
            code="workers_busy", detail="every worker that could run it runs as many tasks as it has slots"
        )


async def _storage_away(state: AppState) -> list[BlockerView]:
    problem = (await state.storage_watch.last()).problem
    return [BlockerView(code="storage_unavailable", detail=problem)] if problem else []
