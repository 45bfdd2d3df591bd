"""The backlog: the device time that the work of a model should still take, which is what to scale its workers on."""

from collections.abc import Iterable, Mapping, Sequence

from penstock.store import Pace, QueueDepth, Totals, UnderWay

UNMEASURED_S = 1.0
"""What a task is taken to need while none of its model has been measured: as in `store/lua/parts/pace.lua`."""

LEAST_S = 0.001
"""What a task counts at least that is claimed and has not ended: the backlog is 0 only where there is no work at all,
so that whoever scales to zero on it ends no worker that has some."""


async def backlog(
    totals: Totals, queues: Sequence[QueueDepth], lines: Mapping[str, float], models: Iterable[str]
) -> dict[str, float]:
    """Return the backlog in device seconds of these models, and of those of which something runs or is in a batch.

    It counts what waits in `queues`, but for those that are paused; the `lines` of batches that are no tasks yet; what
    is left of running tasks; and retries before their moment. Whether there are workers does not matter: paces and
    models are kept in Redis. Raises StoreUnavailable.
    """
    return added_up(queues, lines, await totals.under_way(), await totals.paces(), models)


def added_up(
    queues: Sequence[QueueDepth],
    lines: Mapping[str, float],
    under_way: Sequence[UnderWay],
    paces: Mapping[str, Pace],
    models: Iterable[str],
) -> dict[str, float]:
    """Return the sum for each model."""
    found = dict.fromkeys(models, 0.0)

    def add(model: str, seconds: float) -> None:
        found[model] = found.get(model, 0.0) + seconds

    for queue in queues:
        if queue.pause is None:
            add(queue.model, UNMEASURED_S * queue.depth if queue.device_s is None else queue.device_s)
    for model, count in lines.items():
        add(model, count * (paces[model].device_s if model in paces else UNMEASURED_S))
    for task in under_way:
        expected_s = paces[task.model].of(task.cost) if task.model in paces else UNMEASURED_S
        add(task.model, task.tasks * max(LEAST_S, task.left * expected_s))
    return found
