"""What is done again and again, against a real store."""

import asyncio
from typing import Any

import msgspec
import pytest

from penstock.core.access import TENANT
from penstock.core.model import Residence
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.submission import Submission
from penstock.core.task import Priority, Reclaimed, State, new_task_id
from penstock.errors import ResultExpired
from penstock.intake.residence import differing
from penstock.settings import QueueSettings, RedisSettings, Settings
from penstock.storage import LocalStorage, Storage
from penstock.store import Engine, Shards, Store, UploadStore, connect
from penstock.store.overdue import Overdue
from penstock.telemetry import exposition
from penstock.upkeep.gauges import measure
from penstock.upkeep.retention import prune
from penstock.upkeep.rounds import run_maintenance, run_upkeep
from penstock.upkeep.sweep import sweep
from tests.support.drive import MODEL, WORKER, claim, complete, stored_objects
from tests.support.redis_server import RedisProcess
from tests.support.stores import open_upload


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Leases that end soon."""
    return msgspec.structs.replace(settings, queue=QueueSettings(lease_s=0.2))


async def submit(store: Store, **changes: Any) -> str:
    """A task with its input in the storage."""
    task_id = new_task_id()
    request = Request(
        model=MODEL, inputs={"image": Source(key=f"inputs/default/{task_id}")}, params={}, output=OutputOptions()
    )
    usual: dict[str, Any] = {"max_retries": 0, "timeout_s": 10.0, "start_within_s": None}
    usual |= {"finish_within_s": None, "result_ttl_s": 60}
    submission = Submission(
        id=task_id,
        tenant="default",
        caller="tester",
        priority=Priority.NORMAL,
        cost=1,
        request=request,
        fingerprint="",
        **usual | changes,
    )
    await store.tasks.await_inputs([f"inputs/default/{task_id}"])
    await store.tasks.submit(submission, rate_limit=0)
    return task_id


class Counting(Overdue):
    """Counts the looks for tasks to take back, and for those to delete."""

    taken_back = 0
    deleted = 0

    async def reclaim(self, dead_worker: str = "") -> list[Reclaimed]:
        Counting.taken_back += 1
        return await super().reclaim(dead_worker)

    async def prune(self) -> int:
        Counting.deleted += 1
        return await super().prune()


async def test_workers_that_start_together_take_back_at_once_and_delete_one_after_the_other(
    settings: Settings, storage: Storage
) -> None:
    async with connect(settings.redis) as client:
        store = Store(Engine(client, settings.redis.namespace, settings.queue))
        store.overdue = Counting(store.engine)
        workers = [asyncio.create_task(run_upkeep(store, storage)) for _ in range(20)]
        while Counting.taken_back < 20:
            await asyncio.sleep(0.01)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    assert Counting.deleted < 5


async def state_of(store: Store, task_id: str) -> State:
    return (await store.tasks.get(task_id, "default")).state


async def test_a_task_of_a_dead_worker_is_taken_back(store: Store) -> None:
    task_id = await submit(store)
    await claim(store)

    while await state_of(store, task_id) is State.RUNNING:
        await sweep(store)
        await asyncio.sleep(0.02)

    assert await state_of(store, task_id) is State.PENDING


async def test_a_task_that_nobody_starts_in_time_ends(store: Store) -> None:
    task_id = await submit(store, start_within_s=0.05)

    while await state_of(store, task_id) is State.PENDING:
        await sweep(store)
        await asyncio.sleep(0.02)

    assert await state_of(store, task_id) is State.EXPIRED


async def test_what_is_past_its_retention_is_deleted_with_its_objects(
    settings: Settings, store: Store, storage: Storage
) -> None:
    task_id = await submit(store, result_ttl_s=0)
    await storage.put(f"inputs/default/{task_id}", b"input", "image/png")
    await complete(store, storage, b"result")
    kept = await submit(store)

    assert len(stored_objects(settings)) == 2
    assert await prune(store, storage) == 1
    assert await prune(store, storage) == 0
    assert stored_objects(settings) == []
    assert [task.id for task in (await store.listing.page("default")).tasks] == [kept]


async def test_many_who_prune_at_once_delete_what_nobody_shows_and_nothing_else(
    settings: Settings, store: Store, storage: Storage
) -> None:
    kept = []
    for n in range(60):
        await submit(store, result_ttl_s=0, reuse_digest=f"digest-{n}")
        kept.append(await submit(store, result_ttl_s=60, reuse_digest=f"digest-{n}"))
        await complete(store, storage, f"result {n}".encode())
    goes = await submit(store, result_ttl_s=0)
    file = await complete(store, storage, b"result of one alone")

    counts = await asyncio.gather(*(prune(store, storage) for _ in range(6)))

    assert sum(counts) == 61
    shown = [(await store.tasks.get(task_id, "default")).outcome.result for task_id in kept]
    assert {result.first.s3_key for result in shown if result and result.first} <= set(stored_objects(settings))
    assert file.s3_key not in stored_objects(settings)
    with pytest.raises(ResultExpired):
        await store.tasks.get(goes, "default")


async def test_the_gauges_show_queues_records_uploads_and_workers(store: Store, uploads: UploadStore) -> None:
    deleted = await submit(store)
    await store.tasks.cancel(deleted, "default")
    await store.tasks.delete(deleted, "default")
    await submit(store)
    await open_upload(uploads)
    await store.leases.renew(WORKER, [])

    await measure(Shards([store]), [MODEL])

    shown = exposition.scrape().decode()
    assert f'penstock_queue_depth{{model="{MODEL}",priority="normal"}} 1.0' in shown
    assert 'penstock_tasks_stored{status="PENDING"} 1.0' in shown
    assert "penstock_uploads_unused 1.0" in shown
    assert "penstock_storage_condemned 3.0" in shown
    assert 'penstock_workers{state="READY"} 1.0' in shown
    assert "penstock_models_differing 0.0" in shown


async def test_workers_with_different_files_of_one_model_are_counted(store: Store) -> None:
    for worker, digest in (("w1", "old"), ("w2", "new"), ("w3", "new")):
        residence = {MODEL: Residence(state="ready", digest=digest), "other": Residence(state="cold", digest="same")}
        await store.leases.renew(msgspec.structs.replace(WORKER, id=worker, residence=residence), [])

    await measure(Shards([store]), [MODEL, "other"])

    assert "penstock_models_differing 1.0" in exposition.scrape().decode()
    found = differing(MODEL, await store.workers.listed())
    assert found == {"old": ("w1",), "new": ("w2", "w3")}


async def test_a_sweep_lets_a_tenant_go_on_whose_cap_was_raised(store: Store) -> None:
    await store.caps.set({TENANT: 1})
    for _ in range(2):
        await submit(store)
    await claim(store)
    with pytest.raises(AssertionError):
        await claim(store)
    await store.caps.set({TENANT: 2})

    await sweep(store)

    await claim(store)


async def test_maintenance_goes_on_after_redis_was_away(
    own_redis: RedisProcess, settings: Settings, storage: LocalStorage
) -> None:
    async with connect(RedisSettings(url=own_redis.url, timeout_s=0.2)) as client:
        store = Store(Engine(client, "test", settings.queue))
        task_id = await submit(store, start_within_s=0.1)
        own_redis.kill()
        shards = Shards([store])
        work = run_maintenance(shards, storage, lambda: [MODEL], dict, patient=shards, delete_orphans=False)
        loops = asyncio.create_task(work)
        await asyncio.sleep(0.5)

        own_redis.start()
        while await state_of(store, task_id) is State.PENDING:
            assert not loops.done()
            await asyncio.sleep(0.05)
        loops.cancel()
        await asyncio.gather(loops, return_exceptions=True)
