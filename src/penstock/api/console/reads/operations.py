"""Workers, queues, models, counts, and why a task waits, as the API answers them."""

from collections.abc import Sequence
from typing import cast

from penstock.api.http.auth import ApiRequest
from penstock.api.routes import explain, health, models, operations
from penstock.api.schemas.models import ModelList, ModelView
from penstock.api.schemas.operators import ExplainView, QueueList, QueueView, ReadyView, StatsView, WorkerList
from penstock.api.services import Services


async def stats(request: ApiRequest, services: Services) -> StatsView:
    """Return the counts of tasks, the queues, and the workers by state."""
    return cast(StatsView, await operations.stats.fn(request=request, services=services))


async def workers(request: ApiRequest, services: Services) -> WorkerList:
    """Return the workers, each with the tasks that it runs."""
    return cast(WorkerList, await operations.list_workers.fn(request=request, services=services))


async def queues(request: ApiRequest, services: Services) -> QueueList:
    """Return the queues of all models that are served."""
    return cast(QueueList, await operations.list_queues.fn(request=request, services=services))


async def shares(request: ApiRequest, services: Services, queues: Sequence[QueueView]) -> dict[str, dict[str, int]]:
    """Return how many tasks wait by `tenant/key` in each queue that has any, by `model:priority`: of all tenants for an
    operator who looks at no other, else of one."""
    caller, waiting = request.auth, [(one.model, one.priority) for one in queues if one.depth]
    tenant = None if "operate" in caller.scopes and caller.home is None else caller.tenant
    found = await services.shards.totals.shares(waiting, tenant)
    return {f"{model}:{priority}": shares for (model, priority), shares in zip(waiting, found, strict=True)}


async def explained(task_id: str, request: ApiRequest, services: Services) -> ExplainView:
    """Return why a task is not done yet. Raises TaskNotFound, ResultExpired."""
    found = await explain.explain.fn(request=request, services=services, state=request.app.state, task_id=task_id)
    return cast(ExplainView, found)


async def ready(request: ApiRequest, services: Services) -> ReadyView:
    """Return what the server can do. Raises NotReady, which says what is missing."""
    return cast(ReadyView, await health.readyz.fn(services=services, request=request))


async def served(services: Services) -> ModelList:
    """Return the models, and what no worker can serve."""
    return cast(ModelList, await models.list_models.fn(services=services))


async def described(name: str, services: Services) -> ModelView:
    """Return one model, or one of its versions as `name@version`. Raises ModelNotFound, NotReady."""
    return cast(ModelView, await models.read_model.fn(name=name, services=services))


def is_in_code(name: str, services: Services) -> bool:
    """Return whether a model is a part of its workers, which have it as long as they run. Raises ModelNotFound."""
    return not services.models.find(name).versioned
