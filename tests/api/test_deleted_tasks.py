"""What is deleted is gone for everybody at once, is remembered as gone, and leaves no object behind."""

import asyncio
import secrets
import signal

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.access import TENANT
from penstock.core.submission import EnqueuePermit, Submission
from penstock.core.task import PRIORITIES, ErrorRecord, Outcome, State, new_task_id
from penstock.errors import ResultExpired, StorageUnavailable, StoreUnavailable, TaskNotFinal, TaskNotFound
from penstock.settings import Settings
from penstock.storage import LocalStorage, Storage
from penstock.store import BatchStore, Condemned, Store, connect
from penstock.store.keys import Keys
from penstock.upkeep.retention import delete_condemned, prune, remove
from tests.support.api_server import ServerProcess
from tests.support.drive import body, data_uri, large_photo, stored_objects
from tests.support.stores import claim, lease_of, open_batch, own_input, submission, submit

BROKEN = ErrorRecord(code="image_decode_failed", message="the image is damaged", retryable=False)
DELETED = 5_000


async def failed(store: Store) -> str:
    task_id = await submit(store)
    await store.leases.fail(await lease_of(store), Outcome(error=BROKEN))
    return task_id


# --- races ------------------------------------------------------------------------------------------------------


async def test_acts_by_filter_pass_over_what_is_deleted_meanwhile(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    for _ in range(4):
        ids = [await submit(store) for _ in range(20)]
        for task_id in ids:
            await store.tasks.cancel(task_id, TENANT)

        retried, *deleted = await asyncio.gather(
            client.post("/v1/tasks/retry?status=CANCELED&all=true"),
            *(client.delete(f"/v1/tasks/{task_id}") for task_id in ids),
        )
        canceled, *_ = await asyncio.gather(
            client.post("/v1/tasks/cancel?status=PENDING&all=true"), *(client.delete(f"/v1/tasks/{t}") for t in ids)
        )

        assert (retried.status_code, canceled.status_code) == (200, 200)
        assert {answer.status_code for answer in deleted} <= {204, 409}


async def test_a_retry_of_a_deleted_task_is_refused_as_gone(store: Store) -> None:
    task_id = await failed(store)
    await store.tasks.delete(task_id, TENANT)

    for verb in (store.tasks.resubmit, store.tasks.cancel, store.tasks.get):
        with pytest.raises(ResultExpired):
            await verb(task_id, TENANT)
    assert await store.tasks.delete(task_id, TENANT) is None
    assert (await claim(store)).lease is None


async def test_of_a_retry_and_a_delete_at_once_one_is_refused(store: Store, condemned: Condemned) -> None:
    ids = [await failed(store) for _ in range(50)]

    outcomes = await asyncio.gather(
        *(
            asyncio.gather(
                store.tasks.resubmit(task_id, TENANT), store.tasks.delete(task_id, TENANT), return_exceptions=True
            )
            if number % 2
            else asyncio.gather(
                store.tasks.delete(task_id, TENANT), store.tasks.resubmit(task_id, TENANT), return_exceptions=True
            )
            for number, task_id in enumerate(ids)
        )
    )

    for answers in outcomes:
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] in (
            [ResultExpired],
            [TaskNotFinal],
        )
    waiting = {task.id for task in (await store.listing.page(TENANT, states=[State.PENDING], limit=100)).tasks}
    doomed = {entry.split("/")[2] for entry in await condemned.take()}
    assert waiting | doomed == set(ids)
    assert not waiting & doomed


async def test_a_line_that_is_run_again_does_not_bring_its_deleted_batch_back(
    store: Store, batches: BatchStore, condemned: Condemned
) -> None:
    batch_id = await open_batch(batches, lines=1)
    (lease,), _ = await batches.lease(lease_s=60, most=1)
    permit = EnqueuePermit(batch=batch_id, epoch=lease.epoch, place=0, window=1, lease_ms=60_000)
    line = await store.tasks.submit(replace(submission(), permit=permit), rate_limit=0)
    await store.leases.fail(await lease_of(store), Outcome(error=BROKEN))
    assert await batches.delete(batch_id, TENANT) == f"batches/default/{batch_id}/"

    assert await store.tasks.resubmit(line.id, TENANT)
    await store.leases.complete(await lease_of(store), Outcome())

    assert (await store.tasks.get(line.id, TENANT)).state is State.SUCCESS
    with pytest.raises(ResultExpired):
        await batches.batch(batch_id, TENANT)
    assert (await batches.batches(TENANT)).batches == ()
    assert await batches.waiting_lines() == (0, {})


# --- tombstones -------------------------------------------------------------------------------------------------


async def test_a_deleted_task_is_remembered_in_sixteen_bytes_and_no_other_is_taken_for_it(
    redis_url: str, settings: Settings, store: Store
) -> None:
    ids = [new_task_id() for _ in range(DELETED)]
    for start in range(0, DELETED, 50):
        some = [replace(submission(model="free"), id=task_id) for task_id in ids[start : start + 50]]
        await asyncio.gather(*(store.tasks.submit(one, rate_limit=0) for one in some))
    await store.queues.purge(TENANT, "free", PRIORITIES, limit=DELETED)

    assert (await store.tasks.delete_each(ids, TENANT))[0] == DELETED

    async with connect(settings.redis) as client:
        root = Keys(settings.redis.namespace).root
        keys = [key async for key in client.scan_iter(match=f"{root}gone:*")]
        size = sum([await client.memory_usage(key) for key in keys])
        lives_ms = [await client.pttl(key) for key in keys]
    assert size <= 16 * DELETED
    assert all(6 * 86_400_000 < ms <= 7 * 86_400_000 for ms in lives_ms)
    refused = [type(await refusal(store, task_id)) for task_id in ids[::10]]
    assert set(refused) == {ResultExpired}
    assert {type(await refusal(store, task_id, "another")) for task_id in ids[::100]} == {TaskNotFound}
    others = [one[:16] + secrets.token_hex(10) for one in ids[::10]]
    between = [
        one[:16] + one[22:28] + other[16:22] + one[28:] for one, other in zip(ids[::10], ids[1::10], strict=True)
    ]
    assert {type(await refusal(store, task_id)) for task_id in others + between} == {TaskNotFound}


async def refusal(store: Store, task_id: str, tenant: str = TENANT) -> Exception | None:
    """How it is refused to read a task."""
    try:
        await store.tasks.get(task_id, tenant)
    except (ResultExpired, TaskNotFound) as error:
        return error
    return None


async def put_inputs(storage: Storage, made: Submission) -> None:
    """Stores what comes with a submission."""
    for source in made.request.inputs.values():
        await storage.put(str(source.key), b"input", "image/png")


# --- inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2])
async def test_an_input_of_which_no_task_comes_is_deleted_by_itself(
    settings: Settings, store: Store, batches: BatchStore, condemned: Condemned, storage: Storage, members: int
) -> None:
    made = own_input(submission(), members=members)
    assert await store.tasks.submit_unstored(made, rate_limit=0) is None
    await put_inputs(storage, made)

    await prune(store, storage)
    kept = stored_objects(settings)
    await give_up_waiting(settings)
    await delete_condemned(condemned, storage)

    assert kept == [source.key for source in made.request.inputs.values()]
    assert stored_objects(settings) == []


@pytest.mark.parametrize("members", [1, 2])
async def test_several_inputs_are_deleted_with_their_task(
    settings: Settings, store: Store, storage: Storage, members: int
) -> None:
    made, other = (own_input(submission(result_ttl_s=ttl_s), members=members) for ttl_s in (0, 3600))
    for one in (made, other):
        await store.tasks.submit_unstored(one, rate_limit=0)
        await put_inputs(storage, one)
        await store.tasks.submit(one, rate_limit=0)
    await store.tasks.cancel(made.id, TENANT)

    await prune(store, storage)

    assert stored_objects(settings) == [source.key for source in other.request.inputs.values()]


@pytest.mark.parametrize("members", [1, 2])
async def test_a_task_whose_input_was_given_up_is_refused_and_leaves_nothing(
    settings: Settings, store: Store, condemned: Condemned, storage: Storage, members: int
) -> None:
    made = own_input(submission(), members=members)
    await store.tasks.submit_unstored(made, rate_limit=0)
    await put_inputs(storage, made)
    await give_up_waiting(settings)
    await delete_condemned(condemned, storage)

    with pytest.raises(StoreUnavailable):
        await store.tasks.submit(made, rate_limit=0)

    assert stored_objects(settings) == []
    assert (await store.listing.page("default")).tasks == ()


@pytest.mark.parametrize("members", [1, 2])
async def test_an_input_that_came_too_late_is_deleted_although_who_deleted_it_before_says_so_only_then(
    settings: Settings, store: Store, condemned: Condemned, storage: Storage, members: int
) -> None:
    made = own_input(submission(), members=members)
    await store.tasks.submit_unstored(made, rate_limit=0)
    await give_up_waiting(settings)
    entries = await condemned.take()
    await put_inputs(storage, made)
    with pytest.raises(StoreUnavailable):
        await store.tasks.submit(made, rate_limit=0)

    await condemned.bury(entries)

    async with connect(settings.redis) as client:
        key = Keys(settings.redis.namespace).condemned
        for entry in await client.zrange(key, 0, -1):
            await client.zadd(key, {entry: 1})  # as if its time had come
    await delete_condemned(condemned, storage)
    assert stored_objects(settings) == []


async def test_an_input_that_is_to_be_deleted_is_no_input_of_a_call_that_comes_a_second_time(store: Store) -> None:
    made = own_input(submission())
    await store.tasks.submit_unstored(made, rate_limit=0)
    await store.tasks.submit(made, rate_limit=0)
    await store.tasks.cancel(made.id, made.tenant)
    await store.tasks.delete(made.id, made.tenant)

    with pytest.raises(StoreUnavailable):
        await store.tasks.submit_unstored(made, rate_limit=0)

    await store.tasks.await_inputs([str(made.own_input)])
    with pytest.raises(StoreUnavailable):
        await store.tasks.submit(made, rate_limit=0)


@pytest.mark.parametrize("members", [1, 2])
async def test_an_input_that_is_awaited_anew_behind_its_task_is_not_given_up(
    settings: Settings, store: Store, condemned: Condemned, members: int
) -> None:
    """By a call that the network has held back."""
    made = own_input(submission(), members=members)
    await store.tasks.await_inputs([str(made.own_input)])
    await store.tasks.submit(made, rate_limit=0)
    await store.tasks.await_inputs([str(made.own_input)])

    await give_up_waiting(settings)

    assert await condemned.take() == []


async def test_an_input_is_stored_for_one_task_only_when_it_was_said_before(store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        await store.tasks.submit(own_input(submission()), rate_limit=0)

    made = own_input(submission())
    await store.tasks.await_inputs([str(made.own_input)])
    assert (await store.tasks.submit(made, rate_limit=0)).id == made.id


@pytest.mark.parametrize("after_s", [0, 0.005, 0.02])
async def test_an_api_that_dies_while_it_stores_an_input_leaves_none_behind(
    settings: Settings, api_key: str, store: Store, condemned: Condemned, storage: Storage, after_s: float
) -> None:
    """Whatever it had come to: what it was about to store is known before. Tried again when it died too late."""
    sent = 0
    for _ in range(10):
        await send_and_kill(settings, api_key, [data_uri(large_photo()) for _ in range(20)], after_s)
        sent += 20
        await give_up_waiting(settings)
        await delete_condemned(condemned, storage)

        tasks = {f"inputs/default/{task.id}" for task in (await store.listing.page(TENANT, limit=500)).tasks}
        assert set(stored_objects(settings)) == tasks
        if len(tasks) < sent:
            return
    raise AssertionError("it never died while it stored inputs")


async def send_and_kill(settings: Settings, api_key: str, photos: list[str], after_s: float) -> None:
    """Sends the photos to an API all at once, and kills it so long after it has begun to store one."""
    with ServerProcess(settings) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": api_key}, timeout=30) as client:
            submits = [client.post("/v1/tasks", json=body(image_url=one)) for one in photos]
            sending = asyncio.gather(*submits, return_exceptions=True)
            async with asyncio.timeout(60), connect(settings.redis) as redis:
                while not await redis.zcard(Keys(settings.redis.namespace).awaited):
                    await asyncio.sleep(0.001)
            await asyncio.sleep(after_s)
            server.process.send_signal(signal.SIGKILL)
            await sending


async def give_up_waiting(settings: Settings) -> None:
    """As if hours had passed for the inputs that are awaited."""
    async with connect(settings.redis) as client:
        awaited = Keys(settings.redis.namespace).awaited
        for key in await client.zrange(awaited, 0, -1):
            await client.zadd(awaited, {key: 1})


class Locked(LocalStorage):
    """As a bucket with a legal hold: some objects cannot be deleted."""

    held = ""

    async def delete(self, *keys: str) -> None:
        if self.held in keys:
            raise StorageUnavailable("the storage answered 403 AccessDenied")
        await super().delete(*keys)


async def test_an_object_that_cannot_be_deleted_keeps_no_other(
    settings: Settings, store: Store, condemned: Condemned
) -> None:
    storage = Locked(settings.storage.directory)
    made = [own_input(submission()) for _ in range(12)]
    keys = [str(one.own_input) for one in made]
    await store.tasks.await_inputs(keys)
    for one, key in zip(made, keys, strict=True):
        await storage.put(key, b"input", "image/png")
        await store.tasks.submit(one, rate_limit=0)
        await store.tasks.cancel(one.id, TENANT)
    storage.held = keys[5]
    deleted, entries = await store.tasks.delete_each([one.id for one in made], TENANT)

    with pytest.raises(StorageUnavailable):
        await remove(condemned, storage, entries)

    left = [stored.key async for stored in storage.list("inputs/")]
    assert (deleted, left) == (12, [keys[5]])
    assert await condemned.waiting() == 1 + len(made), "it is tried again, and results are looked for once more"
