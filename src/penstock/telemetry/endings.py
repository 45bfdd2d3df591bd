"""Every way in which a task ends, or is taken back, is counted here, by whichever process caused it."""

from collections.abc import Sequence

from loguru import logger

from penstock.core.task import Reclaimed, State
from penstock.errors import PoisonInput
from penstock.telemetry import metrics


def count_end(model: str, status: State, *, code: str = "", tasks: int = 1) -> None:
    """Tasks of this model have ended; `code` is that of their error, if they have one."""
    metrics.report("tasks.finished", tasks, model=model, status=status, code=code)


def count_hits(model: str, *, tasks: int = 1) -> None:
    """Tasks were answered at their submit with the result of an equal one."""
    metrics.report("tasks.reused", tasks, model=model, how="hit")
    count_end(model, State.SUCCESS, tasks=tasks)


def count_settled(model: str, status: State, *, code: str, tasks: int) -> None:
    """One attempt has ended so many tasks: its own, and those that waited for its result."""
    count_end(model, status, code=code, tasks=tasks)
    if tasks > 1:
        metrics.report("tasks.reused", tasks - 1, model=model, how="coalesced")


def count_reclaimed(taken: Sequence[Reclaimed]) -> None:
    """Tasks were taken back from a dead worker; those that have killed too many workers have ended."""
    for task in taken:
        logger.bind(task_id=task.id, status=task.state).warning("task taken back from a dead worker")
        metrics.report("leases.reclaimed", status=task.state)
        if task.state.is_final:
            count_end(task.model, task.state, code=PoisonInput.code)
