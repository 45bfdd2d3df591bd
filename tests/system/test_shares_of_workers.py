"""Several worker processes share what waits: none holds tasks that an idle one could run."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from penstock.core.task import State, Task
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from tests.support.lengths import at_length
from tests.support.processes import Process
from tests.support.redis_server import RedisProcess
from tests.support.slow_model import MODEL
from tests.support.stores import open_store
from tests.support.workers import ended, host, reached, submit_image

TASK_S = 1.0
START_WITHIN_S = 120

Start = Callable[[int], list[Process]]


@asynccontextmanager
async def running_workers(settings: Settings, store: Store, directory: Path) -> AsyncIterator[Start]:
    """Gives a function that starts so many `penstock worker`, each with one process on the CPU; all are stopped."""
    environ = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "tests.support.slow_model",
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


async def listed(store: Store, count: int) -> None:
    """Return when so many workers are there."""
    async with asyncio.timeout(START_WITHIN_S):
        while len(await store.workers.listed()) < count:
            await asyncio.sleep(0.05)


async def submit_tasks(store: Store, count: int) -> list[str]:
    return [await submit_image(store, MODEL, {"tile_s": TASK_S}) for _ in range(count)]


async def learn_pace(store: Store) -> None:
    """Let one task of this kind be measured."""
    (task_id,) = await submit_tasks(store, 1)
    await ended(store, task_id)


def shares(tasks: list[Task]) -> list[int]:
    """How many of them each worker has ended, the most first."""
    return sorted(Counter(task.attempts[-1].worker for task in tasks).values(), reverse=True)


def given_back(tasks: list[Task]) -> list[int]:
    return [[attempt.outcome for attempt in task.attempts].count("release") for task in tasks]


@pytest.mark.parametrize("is_known", [True, *at_length(False)], ids=["pace known", "pace unknown"])
async def test_equal_tasks_that_come_at_once_are_shared_by_idle_workers(
    settings: Settings, store: Store, tmp_path: Path, is_known: bool
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


@pytest.mark.at_length
async def test_workers_that_join_a_backlog_get_their_share(settings: Settings, store: Store, tmp_path: Path) -> None:
    async with running_workers(settings, store, tmp_path) as start:
        start(3)
        await listed(store, 3)
        await learn_pace(store)
        later = [worker.id for worker in await store.workers.listed()][1:]
        for worker in later:
            await store.workers.drain(worker)
        made = await submit_tasks(store, 12)
        await ended(store, made[0])
        for worker in later:
            await store.workers.resume(worker)
        tasks = [await ended(store, task_id, 60) for task_id in made]

    assert len(shares(tasks)) == 3
    assert max(shares(tasks)) <= 6, "one of its own and a third of 11, and one more for a busy machine"
    assert max(given_back(tasks)) <= 1


# --- giving back, with workers in the process of the test ---------------------------------------------------------

LONG = {"tile_s": 2.0}


async def holding_two(store: Store) -> tuple[str, str]:
    """Submit two tasks to the only worker: the one that it has begun, and the one that waits there."""
    first, second = [await submit_image(store, MODEL, LONG) for _ in range(2)]
    await reached(store, second, "infer")
    return first, second


def outcomes(task: Task) -> list[tuple[str, str]]:
    return [(attempt.worker, attempt.outcome) for attempt in task.attempts]


async def test_a_task_that_waits_for_a_device_goes_to_a_worker_that_has_become_idle(
    store: Store, storage: Storage
) -> None:
    async with host(store, storage, MODEL):
        first, second = await holding_two(store)
        async with host(store, storage, MODEL, worker_id="w2"):
            tasks = [await ended(store, task_id) for task_id in (first, second)]

    assert [outcomes(task) for task in tasks] == [[("w1", "complete")], [("w1", "release"), ("w2", "complete")]]
    assert (tasks[1].failures, tasks[1].crashes) == (0, 0)


async def test_a_worker_that_stops_finishes_what_its_device_has_begun_and_gives_the_rest_back_at_once(
    store: Store, storage: Storage
) -> None:
    async with host(store, storage, MODEL, drain_s=60) as worker:
        first, second = await holding_two(store)
        worker.drain()
        async with asyncio.timeout(60):
            while (waiting := await store.tasks.get(second, "default")).state is not State.PENDING:
                await asyncio.sleep(0.01)
        running = await store.tasks.get(first, "default")
        done = await ended(store, first)
    async with host(store, storage, MODEL, worker_id="w2"):
        later = await ended(store, second)

    assert running.state is State.RUNNING, "the other one has not waited for its end"
    assert (outcomes(waiting), waiting.failures, waiting.crashes) == ([("w1", "release")], 0, 0)
    assert (done.state, outcomes(done)) == (State.SUCCESS, [("w1", "complete")])
    assert (later.state, outcomes(later)) == (State.SUCCESS, [("w1", "release"), ("w2", "complete")])


async def test_a_task_that_is_given_back_to_a_worker_which_has_died_runs_where_it_was(
    store: Store, storage: Storage
) -> None:
    async with host(store, storage, MODEL):
        first, second = await holding_two(store)
        await store.workers.ask_for_task("dead", [MODEL])
        tasks = [await ended(store, task_id) for task_id in (first, second)]

    assert [outcomes(task) for task in tasks] == [[("w1", "complete")], [("w1", "release"), ("w1", "complete")]]


async def test_only_one_worker_gives_a_task_to_one_that_asks(store: Store, storage: Storage) -> None:
    async with host(store, storage, MODEL), host(store, storage, MODEL, worker_id="w2"):
        made = [await submit_image(store, MODEL, LONG) for _ in range(4)]
        for task_id in made:
            await reached(store, task_id, "infer")
        await store.workers.ask_for_task("dead", [MODEL])
        tasks = [await ended(store, task_id) for task_id in made]

    attempts = [attempt for task in tasks for attempt in task.attempts]
    first_end = min(attempt.ended for attempt in attempts if attempt.outcome == "complete")
    before = [attempt for attempt in attempts if attempt.outcome == "release" and attempt.ended < first_end]
    assert len(before) == 1, "later a worker may be idle, and ask for itself"


async def test_a_worker_without_the_model_is_given_nothing(store: Store, storage: Storage) -> None:
    async with host(store, storage, MODEL):
        first, second = await holding_two(store)
        await store.workers.ask_for_task("other", ["another-model"])
        tasks = [await ended(store, task_id) for task_id in (first, second)]

    assert sum(given_back(tasks)) == 0


async def test_no_task_is_lost_or_run_twice_when_redis_stops_while_an_idle_worker_asks(
    own_redis: RedisProcess, storage: Storage
) -> None:
    async with open_store(own_redis.url) as store:
        async with host(store, storage, MODEL), host(store, storage, MODEL, worker_id="w2"):
            made = [await submit_image(store, MODEL, {"tile_s": 0.5}) for _ in range(6)]
            await ended(store, made[0])
            for _ in range(3):
                own_redis.kill()
                await asyncio.sleep(0.1)
                own_redis.start()
                await asyncio.sleep(0.4)
            tasks = [await ended(store, task_id) for task_id in made]

    assert {task.state for task in tasks} == {State.SUCCESS}
    assert {outcome for task in tasks for _, outcome in outcomes(task)} <= {"complete", "release"}
    assert [task.attempts[-1].outcome for task in tasks] == ["complete"] * 6


async def test_many_idle_workers_ask_for_little(settings: Settings, store: Store, storage: Storage) -> None:
    """They hear one another, and ask less and less while nobody has anything to give."""
    asks = 0

    async def count_asks() -> None:
        nonlocal asks
        async for kind, _ in store.workers.signals():
            asks += kind == "idle"

    counting = asyncio.create_task(count_asks())
    async with AsyncExitStack() as stack:
        for n in range(5):
            await stack.enter_async_context(host(store, storage, MODEL, worker_id=f"w{n}"))
        await asyncio.sleep(4)
    counting.cancel()

    assert 1 <= asks <= 5 * 5, "at the start, and after 0.5, 1 and 2 s more"
