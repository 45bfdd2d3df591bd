"""Several worker processes share what waits: none holds tasks that an idle one could run."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from penstock.settings import Settings
from penstock.store import TaskStore
from penstock.task import State, Task
from tests.integration.slow_model import MODEL
from tests.integration.workers import ended, submit_image
from tests.processes import Process

TASK_S = 1.0
START_WITHIN_S = 60

Start = Callable[[int], list[Process]]


@asynccontextmanager
async def running_workers(settings: Settings, store: TaskStore, directory: Path) -> AsyncIterator[Start]:
    """Gives a function that starts so many `penstock worker`, each with one process on the CPU; all are stopped."""
    environ = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.integration.slow_model",
        "PENSTOCK_MODELS_SERVE": MODEL,
        "PENSTOCK_REDIS_URL": settings.redis.url,
        "PENSTOCK_REDIS_NAMESPACE": settings.redis.namespace,
        "PENSTOCK_STORAGE_DIRECTORY": settings.storage.directory,
        "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")])),
    }
    started: list[Process] = []

    def start(count: int) -> list[Process]:
        new = [Process(["worker"], environ, directory / f"worker{len(started) + n}.log") for n in range(count)]
        started.extend(new)
        return new

    with ExitStack() as stack:
        stack.callback(lambda: [process.stop() for process in started])
        stack.callback(lambda: [process.popen.terminate() for process in started])
        yield start


async def listed(store: TaskStore, count: int) -> None:
    """Return when so many workers are there."""
    async with asyncio.timeout(START_WITHIN_S):
        while len(await store.workers()) < count:
            await asyncio.sleep(0.05)


async def submit_tasks(store: TaskStore, count: int) -> list[str]:
    return [await submit_image(store, MODEL, {"tile_s": TASK_S}) for _ in range(count)]


async def learn_pace(store: TaskStore) -> None:
    """Let one task of this kind be measured."""
    (task_id,) = await submit_tasks(store, 1)
    await ended(store, task_id)


def shares(tasks: list[Task]) -> list[int]:
    """How many of them each worker has ended, the most first."""
    return sorted(Counter(task.attempts[-1].worker for task in tasks).values(), reverse=True)


def given_back(tasks: list[Task]) -> list[int]:
    return [[attempt.outcome for attempt in task.attempts].count("release") for task in tasks]


@pytest.mark.parametrize("is_known", [True, False], ids=["pace known", "pace unknown"])
async def test_equal_tasks_that_come_at_once_are_shared_by_idle_workers(
    settings: Settings, store: TaskStore, tmp_path: Path, is_known: bool
) -> None:
    async with running_workers(settings, store, tmp_path) as start:
        start(3)
        await listed(store, 3)
        if is_known:
            await learn_pace(store)
        tasks = [await ended(store, task_id, 60) for task_id in await submit_tasks(store, 12)]

    assert {task.state for task in tasks} == {State.SUCCESS}
    assert len(shares(tasks)) == 3
    assert max(shares(tasks)) <= 5
    assert max(given_back(tasks)) <= 1


async def test_workers_that_join_a_backlog_get_their_share(
    settings: Settings, store: TaskStore, tmp_path: Path
) -> None:
    async with running_workers(settings, store, tmp_path) as start:
        start(1)
        await listed(store, 1)
        await learn_pace(store)
        made = await submit_tasks(store, 12)
        await ended(store, made[0])
        start(2)
        await listed(store, 3)
        alone = sum([(await store.get(task_id, "default")).state.is_final for task_id in made])
        tasks = [await ended(store, task_id, 60) for task_id in made]

    later = sorted(tasks, key=lambda task: task.attempts[-1].started)[alone + 2 :]
    assert len(shares(later)) == min(3, len(later)), "all but what the first has done, and has begun, is for everyone"
    assert max(given_back(tasks)) <= 1
