"""Counts the ends of tasks, whichever process causes them; nothing else reports these metrics."""

from collections.abc import Sequence

from loguru import logger

from penstock.core.task import Reclaimed, State
from penstock.errors import PoisonInput
from penstock.telemetry import metrics


def count_end(model: str, status: State, *, code: str = "", tasks: int = 1) -> None:
    """Count tasks of this model that have ended; `code` is the code of their error, empty where they have none."""
    metrics.report("tasks.finished", tasks, model=model, status=status, code=code)


def count_hits(model: str, *, tasks: int = 1) -> None:
    """Count tasks that got the result of an equal task at their submit."""
    metrics.report("tasks.reused", tasks, model=model, how="hit")
    count_end(model, State.SUCCESS, tasks=tasks)


def count_settled(model: str, status: State, *, code: str, tasks: int) -> None:
    """Count the tasks that one attempt has ended: its own, and those that waited for its result."""
    count_end(model, status, code=code, tasks=tasks)
    if tasks > 1:
        metrics.report("tasks.reused", tasks - 1, model=model, how="coalesced")


def count_reclaimed(taken: Sequence[Reclaimed]) -> None:
    """Count tasks that were taken back from dead workers; those that killed too many workers have ended."""
    for task in taken:
        logger.bind(task_id=task.id, status=task.state).warning("task taken back from a dead worker")
        metrics.report("leases.reclaimed", status=task.state)
        if task.state.is_final:
            count_end(task.model, task.state, code=PoisonInput.code)
