"""Records of uploads on a real Redis: who may use one, how long it is kept, and that its object is never forgotten."""

import asyncio

import msgspec
import pytest

from penstock.core.task import ErrorRecord, Outcome
from penstock.core.upload import UploadState, upload_key
from penstock.errors import RateLimited, UploadInUse, UploadMismatch, UploadNotFound
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store, UploadGone, UploadStore
from penstock.upkeep.sweep import sweep_uploads
from tests.support.drive import stored_objects
from tests.support.stores import lease_of, open_upload, submission, submit

ALICE = {"tenant": "default", "caller": "alice"}
PROBLEM = ErrorRecord(code="image_decode_failed", message="damaged", retryable=False)


async def arrived(uploads: UploadStore, storage: Storage, **options: object) -> str:
    """An upload whose bytes are there."""
    upload_id = await open_upload(uploads, **options)
    await storage.put(upload_key("default", upload_id), b"bytes", "image/png")
    assert await uploads.arrive(upload_id)
    return upload_id


async def end(store: Store) -> None:
    """The next task fails for good."""
    assert await store.leases.fail(await lease_of(store), Outcome(error=PROBLEM))


async def test_an_upload_is_its_owners_alone(uploads: UploadStore) -> None:
    upload_id = await open_upload(uploads)

    assert (await uploads.owned(upload_id, **ALICE)).state is UploadState.PENDING
    for stranger in ({"tenant": "default", "caller": "bob"}, {"tenant": "other", "caller": "alice"}):
        with pytest.raises(UploadNotFound):
            await uploads.owned(upload_id, **stranger)
        with pytest.raises(UploadNotFound):
            await uploads.retire(upload_id, **stranger)


async def test_uploads_are_limited_by_rate(uploads: UploadStore) -> None:
    await open_upload(uploads, rate_limit=2)
    await open_upload(uploads, rate_limit=2)

    with pytest.raises(RateLimited):
        await open_upload(uploads, rate_limit=2)
    await open_upload(uploads, rate_limit=2, caller="bob")


async def test_the_first_bytes_decide_what_an_upload_is(uploads: UploadStore) -> None:
    upload_id = await open_upload(uploads)

    await uploads.hold(upload_id, 1, sha256="a" * 64)
    await uploads.hold(upload_id, 1, sha256="a" * 64)
    with pytest.raises(UploadMismatch):
        await uploads.hold(upload_id, 1, sha256="b" * 64)

    assert (await uploads.owned(upload_id, **ALICE)).sha256 == "a" * 64


async def test_bytes_arrive_once(uploads: UploadStore) -> None:
    upload_id = await open_upload(uploads)

    assert [await uploads.arrive(upload_id), await uploads.arrive(upload_id)] == [True, False]
    with pytest.raises(UploadNotFound):
        await uploads.arrive("upl_none")


async def test_an_upload_that_no_task_uses_is_swept_with_its_bytes(
    settings: Settings, uploads: UploadStore, storage: Storage
) -> None:
    swept = await arrived(uploads, storage, unused_ttl_s=0.05, url_ttl_s=0.05)
    never_sent = await open_upload(uploads, unused_ttl_s=0.05, url_ttl_s=0.05)
    kept = await arrived(uploads, storage)
    await asyncio.sleep(0.1)

    await sweep_uploads(uploads, storage)

    assert stored_objects(settings) == [upload_key("default", kept)]
    assert [await uploads.find(upload_id) for upload_id in (swept, never_sent)] == [None, None]
    assert await uploads.unused() == 1


async def test_an_upload_lives_as_long_as_the_last_of_its_tasks(
    settings: Settings, store: Store, uploads: UploadStore, storage: Storage
) -> None:
    upload_id = await arrived(uploads, storage, unused_ttl_s=0.01, url_ttl_s=0.01)
    first = await submit(store, uploads=[upload_id], result_ttl_s=0)
    last = await submit(store, uploads=[upload_id], result_ttl_s=0)
    await asyncio.sleep(0.05)
    for task_id in (first, last):
        await end(store)
        await sweep_uploads(uploads, storage)
        assert stored_objects(settings) == [upload_key("default", upload_id)]
        if task_id == first:
            assert await store.overdue.prune() == 1
            await sweep_uploads(uploads, storage)
            assert (await uploads.owned(upload_id, **ALICE)).tasks == 1

    assert await store.tasks.resubmit(last, "default"), "a task that failed can be run again: its input is there"
    await end(store)
    assert await store.overdue.prune() == 1
    await sweep_uploads(uploads, storage)
    assert stored_objects(settings) == []
    assert await uploads.unused() == 0


async def test_an_upload_whose_task_is_deleted_early_can_be_used_for_the_rest_of_its_time(
    settings: Settings, store: Store, uploads: UploadStore, storage: Storage
) -> None:
    upload_id = await arrived(uploads, storage)
    before = (await uploads.owned(upload_id, **ALICE)).due
    await submit(store, uploads=[upload_id], result_ttl_s=0)
    assert (await uploads.owned(upload_id, **ALICE)).due is None
    await end(store)
    assert await store.overdue.prune() == 1

    await sweep_uploads(uploads, storage)

    assert (await uploads.owned(upload_id, **ALICE)).due == before
    assert await submit(store, uploads=[upload_id])


async def test_an_upload_in_use_is_not_deleted(store: Store, uploads: UploadStore, storage: Storage) -> None:
    upload_id = await arrived(uploads, storage)
    await submit(store, uploads=[upload_id])

    with pytest.raises(UploadInUse):
        await uploads.retire(upload_id, **ALICE)

    assert await uploads.due() == {}


async def test_a_task_cannot_name_an_upload_that_is_given_up_or_not_complete(
    store: Store, uploads: UploadStore, storage: Storage
) -> None:
    deleted, empty = await arrived(uploads, storage), await open_upload(uploads)
    await uploads.retire(deleted, **ALICE)

    for upload_id in (deleted, empty, "upl_none"):
        with pytest.raises(UploadNotFound):
            await submit(store, uploads=[upload_id])
    assert (await store.listing.page("default")).tasks == ()


async def test_a_task_uses_each_of_its_uploads_once_and_gives_them_all_back(
    store: Store, uploads: UploadStore, storage: Storage
) -> None:
    first, second = await arrived(uploads, storage), await arrived(uploads, storage)
    await submit(store, uploads=[first, second, first], result_ttl_s=0)
    assert [(await uploads.owned(one, **ALICE)).tasks for one in (first, second)] == [1, 1]
    with pytest.raises(UploadInUse):
        await uploads.retire(second, **ALICE)
    await end(store)

    assert await store.overdue.prune() == 1

    assert [(await uploads.owned(one, **ALICE)).tasks for one in (first, second)] == [0, 0]


async def test_a_submit_says_which_of_its_uploads_is_gone_and_uses_none(
    store: Store, uploads: UploadStore, storage: Storage
) -> None:
    kept, deleted = await arrived(uploads, storage), await arrived(uploads, storage)
    await uploads.retire(deleted, **ALICE)

    with pytest.raises(UploadGone) as gone:
        await submit(store, uploads=[kept, deleted])

    assert gone.value.upload == deleted
    assert (await uploads.owned(kept, **ALICE)).tasks == 0


async def test_a_repeated_submit_uses_its_upload_once(store: Store, uploads: UploadStore, storage: Storage) -> None:
    upload_id = await arrived(uploads, storage)
    asked = submission(uploads=[upload_id], client_request_id="order-1")
    again = msgspec.structs.replace(asked, id="tsk_again")

    await store.tasks.submit(asked, rate_limit=0)
    await store.tasks.submit(asked, rate_limit=0)
    assert (await store.tasks.submit(again, rate_limit=0)).replayed

    assert (await uploads.owned(upload_id, **ALICE)).tasks == 1


async def test_what_may_still_arrive_for_a_deleted_upload_is_deleted_too(
    settings: Settings, uploads: UploadStore, storage: Storage
) -> None:
    upload_id = await arrived(uploads, storage, url_ttl_s=0.2, late_s=0.2)
    await uploads.retire(upload_id, **ALICE)
    await sweep_uploads(uploads, storage)
    assert stored_objects(settings) == []
    assert await uploads.find(upload_id) is None

    await storage.put(upload_key("default", upload_id), b"bytes", "image/png")  # by a link that had been given out
    await asyncio.sleep(0.45)
    await sweep_uploads(uploads, storage)

    assert stored_objects(settings) == []
    assert await uploads.unused() == 0


async def test_an_upload_that_is_held_outlives_its_time(uploads: UploadStore, storage: Storage) -> None:
    upload_id = await arrived(uploads, storage, unused_ttl_s=0.05, url_ttl_s=0.05)
    await uploads.hold(upload_id, 60)
    await asyncio.sleep(0.1)

    assert await uploads.due() == {}
    assert await uploads.find(upload_id)
