"""The books of a worker: each attempt has its own, whatever else happens to its task."""

from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import TaskStore, connect
from penstock.task import State, Task
from tests.integration.slow_model import MODEL
from tests.integration.workers import ended, host, reached, submit_image

LONG = {"tile_s": 0.4}


def outcomes(task: Task) -> list[str]:
    return [attempt.outcome for attempt in task.attempts]


async def test_a_signal_to_cancel_that_comes_late_stops_no_later_attempt(
    settings: Settings, store: TaskStore, storage: Storage
) -> None:
    async with connect(settings.redis) as client, host(store, storage, MODEL):
        task_id = await submit_image(store, MODEL, LONG)
        await reached(store, task_id, "infer")
        await store.cancel(task_id, "default")
        await store.resubmit(task_id, "default")
        await reached(store, task_id, "infer", epoch=2)
        await client.publish(f"{{{store.namespace}}}:signals", f"cancel {task_id} 1")
        task = await ended(store, task_id)

    assert (task.state, outcomes(task)) == (State.SUCCESS, ["cancel", "complete"])


async def test_a_lost_task_that_comes_back_to_its_worker_runs_when_the_old_attempt_has_left_the_device(
    store: TaskStore, storage: Storage
) -> None:
    """It is suspect now, and waits to be alone."""
    async with host(store, storage, MODEL):
        task_id = await submit_image(store, MODEL, LONG)
        await reached(store, task_id, "infer")
        await store.reclaim("w1")
        beside = await submit_image(store, MODEL, LONG)
        task, other = await ended(store, task_id), await ended(store, beside)

    assert (task.state, outcomes(task)) == (State.SUCCESS, ["lost", "complete"])
    assert (other.state, outcomes(other)) == (State.SUCCESS, ["complete"])
    assert task.attempts[1].ended - task.attempts[1].started >= 400, "a whole run of its own"
