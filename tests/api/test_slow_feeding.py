"""Batches on a storage that is slower than the lease of who feeds them: they are fed, and nothing is left behind."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from penstock.api.services import Services, open_services
from penstock.core.access import Caller
from penstock.core.batch import Batch, BatchPlan, FeedLease, StoredLine, new_batch_id, part_key, task_id_of
from penstock.core.upload import upload_key
from penstock.intake.batch_enqueue import BatchEnqueuer
from penstock.intake.batch_feeder import Feeder
from penstock.intake.batch_lines import defaults_of, rows_of, sliced
from penstock.intake.batch_receive import Receiver
from penstock.settings import Settings
from penstock.storage import Item, LocalStorage
from penstock.store import NotItsTurn, Store
from penstock.store.connection import connect
from tests.support import api_server
from tests.support.drive import MODEL, data_uri, large_photo, nothing_is_stored, stored_objects
from tests.support.published import publish
from tests.support.stores import open_upload

LEASE_S = 1.0
CALLER = Caller("default", "default")
HERE = "http://here/"
PHOTO = large_photo()
INLINE = {"image_url": data_uri(PHOTO)}


class Held(LocalStorage):
    """Puts of inputs begin, and end when they are let go."""

    def __init__(self, directory: str, namespace: str) -> None:
        super().__init__(directory, namespace)
        self.begun, self.let_go, self.deleted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def put_all(self, items: Sequence[Item]) -> None:
        self.begun.set()
        await self.let_go.wait()
        await super().put_all(items)

    async def delete(self, *keys: str) -> None:
        await super().delete(*keys)
        self.deleted.set()


class InPairs(LocalStorage):
    """An object begins to be read when another is asked for too; but for the first one."""

    def __init__(self, directory: str, namespace: str, alone: str) -> None:
        super().__init__(directory, namespace)
        self._alone = alone
        self._both = asyncio.Barrier(2)

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        if key != self._alone:
            await self._both.wait()
        return await super().stream(key, start, stop)


@pytest.fixture
async def services(settings: Settings, store: Store) -> AsyncIterator[Services]:
    await publish(store)
    async with open_services(settings) as opened:
        yield opened


async def started(services: Services, *inputs: dict[str, str]) -> str:
    """A batch with a line for each input; its id."""
    batch_id = new_batch_id()
    lines = [
        msgspec.Raw(msgspec.json.encode({"custom_id": f"{n}", "model": MODEL, "input": one}))
        for n, one in enumerate(inputs)
    ]
    await services.store.batches.open(batch_id, CALLER.tenant, CALLER.id, rate_limit=0, most=9, client_request_id=None)
    received = await Receiver(batch_id, defaults_of({}), CALLER, HERE, services).receive(sliced(lines))
    plan = BatchPlan(defaults={}, starts=received.starts, base_url=HERE, traceparent="")
    await services.store.batches.start(
        batch_id, CALLER.tenant, CALLER.id, plan, total=received.total, ttl_s=60, fingerprint="f"
    )
    return batch_id


@asynccontextmanager
async def feeding(*feeders: Feeder) -> AsyncIterator[None]:
    running = [asyncio.create_task(feeder.run()) for feeder in feeders]
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def fed(services: Services, batch_id: str) -> Batch:
    """The batch when all its lines are."""
    while (batch := await services.store.batches.batch(batch_id, CALLER.tenant)).fed < batch.total:
        await asyncio.sleep(0.01)
    return batch


async def lease_ends(settings: Settings, batch_id: str) -> float:
    """The moment (s) by the clock of Redis."""
    async with connect(settings.redis) as client:
        score = await client.zscore(f"{{{settings.redis.namespace}}}:feeding", batch_id)
    return float(score or 0) / 1000


async def rows(services: Services, batch_id: str) -> list[StoredLine]:
    return rows_of(await services.storage.get(part_key(CALLER.tenant, batch_id, 0)))


async def enqueuer(services: Services, batch_id: str, lasts_s: float) -> tuple[BatchEnqueuer, FeedLease]:
    """Of who has leased the batch just now."""
    async with asyncio.timeout(60):
        while not (leases := (await services.store.batches.lease(lease_s=lasts_s, most=1))[0]):
            await asyncio.sleep(0.01)
    return BatchEnqueuer(await services.store.batches.batch(batch_id, CALLER.tenant), leases[0], services), leases[0]


async def test_a_batch_is_fed_by_one_feeder_however_long_a_put_takes(settings: Settings, services: Services) -> None:
    batch_id = await started(services, *[INLINE] * 6)
    held = Held(settings.storage.directory, settings.redis.namespace)
    slow = replace(services, storage=held)

    async with feeding(Feeder(slow, lease_s=LEASE_S), Feeder(slow, lease_s=LEASE_S)):
        await held.begun.wait()
        first_end = await lease_ends(settings, batch_id)
        while await lease_ends(settings, batch_id) < first_end + 2 * LEASE_S:
            await asyncio.sleep(0.05)
        held.let_go.set()
        batch = await fed(services, batch_id)

    assert (batch.fed, batch.epoch) == (6, 1)


async def test_a_process_never_leases_what_it_has_under_way(services: Services) -> None:
    first, second = [await started(services, INLINE) for _ in range(2)]
    await services.store.batches.lease(lease_s=0, most=2)

    others, _ = await services.store.batches.lease(lease_s=60, most=1, under_way=[first])
    none, due_s = await services.store.batches.lease(lease_s=60, most=1, under_way=[first])

    assert [lease.id for lease in others] == [second]
    assert none == []
    assert due_s is not None
    assert due_s > 10, "nor does it look again at once"


async def test_only_who_holds_a_lease_can_keep_it(services: Services) -> None:
    batch_id = await started(services, INLINE)
    (early,), _ = await services.store.batches.lease(lease_s=0, most=1)
    (late,), _ = await services.store.batches.lease(lease_s=0, most=1)

    assert await services.store.batches.keep(early, late) == {batch_id}
    assert await services.store.batches.keep(late) == set()
    await services.store.batches.rest(late, wait_s=None)
    assert await services.store.batches.keep(late) == {batch_id}, "there is nothing left to do"


async def test_who_was_overtaken_while_storing_takes_back_his_own_and_only_that(
    settings: Settings, services: Services
) -> None:
    batch_id = await started(services, INLINE, INLINE)
    lines = await rows(services, batch_id)
    held = Held(settings.storage.directory, settings.redis.namespace)
    overtaken, _ = await enqueuer(replace(services, storage=held), batch_id, 0.01)
    storing = asyncio.create_task(overtaken.enqueue(lines, 0))
    await held.begun.wait()

    other, _ = await enqueuer(services, batch_id, 60)
    await other.enqueue(lines, 0)
    held.let_go.set()
    with pytest.raises(NotItsTurn):
        await storing

    tasks = [await services.store.tasks.get(task_id_of(batch_id, place), CALLER.tenant) for place in range(2)]
    inputs = [key for key in stored_objects(settings) if key.startswith("inputs/")]
    assert inputs == sorted(str(task.request.inputs["image"].key) for task in tasks)


async def test_who_has_lost_his_lease_stores_nothing(settings: Settings, services: Services) -> None:
    batch_id = await started(services, INLINE)
    held = Held(settings.storage.directory, settings.redis.namespace)
    late, _ = await enqueuer(replace(services, storage=held), batch_id, 0.01)
    await enqueuer(services, batch_id, 60)

    with pytest.raises(NotItsTurn):
        await late.enqueue(await rows(services, batch_id), 0)

    assert not held.begun.is_set()


async def test_nothing_is_left_of_a_batch_that_was_canceled_and_deleted_while_its_inputs_were_stored(
    settings: Settings, services: Services, api_key: str
) -> None:
    batch_id = await started(services, *[INLINE] * 3)
    held = Held(settings.storage.directory, settings.redis.namespace)
    path = f"/v1/batches/{batch_id}"

    # A long lease: a server that starts on a busy machine must not take the batch over from this feeder.
    async with feeding(Feeder(replace(services, storage=held), lease_s=60)):
        await held.begun.wait()
        with api_server.in_thread(settings) as url:
            async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}) as client:
                assert (await client.post(f"{path}/cancel")).status_code == 200
                while (await client.get(path)).json()["status"] != "CANCELED":
                    await asyncio.sleep(0.01)
                assert (await client.delete(path)).status_code == 204
        held.let_go.set()
        await asyncio.wait_for(held.deleted.wait(), 30)
        await nothing_is_stored(settings)


async def test_the_uploads_of_lines_that_go_together_are_looked_at_together(
    settings: Settings, services: Services
) -> None:
    ids = [await open_upload(services.store.uploads, caller=CALLER.id, size=len(PHOTO)) for _ in range(3)]
    for upload_id in ids:
        await services.storage.put(upload_key(CALLER.tenant, upload_id), PHOTO, "image/png")
    batch_id = await started(services, *[{"upload_id": upload_id} for upload_id in ids])
    in_pairs = InPairs(settings.storage.directory, settings.redis.namespace, upload_key(CALLER.tenant, ids[0]))

    async with feeding(Feeder(replace(services, storage=in_pairs))):
        batch = await fed(services, batch_id)

    assert batch.unfinished == 3
