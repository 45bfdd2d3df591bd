"""Two tenants whose keys have the same names share nothing, and what goes over all tasks goes over those of both."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.core.batch import BatchPlan, new_batch_id
from penstock.core.task import State, new_task_id
from penstock.core.upload import new_upload_id
from penstock.errors import (
    ConfigurationError,
    RateLimited,
    ResultExpired,
    TaskNotFound,
    TooManyBatches,
    UploadNotFound,
)
from penstock.settings import RedisSettings
from penstock.store import Store, connect
from penstock.store.inspection import check_server
from tests.support.stores import lease_of, open_store, submission

NAMES = ("default", "north", "south")


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with open_store(redis_url) as opened:
        yield opened


async def submit(store: Store, tenant: str, *, rate_limit: int = 0, **options: Any) -> str:
    made = replace(submission(**options), tenant=tenant)
    return (await store.tasks.submit(made, rate_limit=rate_limit)).id


async def open_batch(store: Store, tenant: str, *, most: int) -> str:
    batch_id = new_batch_id()
    await store.batches.open(batch_id, tenant, "alice", rate_limit=0, most=most, client_request_id="day")
    plan = BatchPlan(defaults={}, starts=(0,), base_url="", traceparent="", client_request_id="day")
    started = await store.batches.start(batch_id, tenant, "alice", plan, total=3, ttl_s=60, fingerprint="f")
    return started.id


async def test_the_rates_of_two_tenants_are_counted_apart(store: Store) -> None:
    await submit(store, "north", rate_limit=1)

    await submit(store, "south", rate_limit=1)
    with pytest.raises(RateLimited):
        await submit(store, "north", rate_limit=1)


async def test_the_unfinished_batches_of_two_tenants_are_counted_apart(store: Store) -> None:
    first = await open_batch(store, "north", most=1)

    assert await open_batch(store, "south", most=1) != first
    with pytest.raises(TooManyBatches):
        await store.batches.open(new_batch_id(), "north", "alice", rate_limit=0, most=1, client_request_id=None)


async def test_one_request_id_means_another_task_in_each_tenant(store: Store) -> None:
    first = await submit(store, "north", client_request_id="order-1")

    assert await submit(store, "south", client_request_id="order-1") != first
    assert await submit(store, "north", client_request_id="order-1") == first


async def test_uploads_of_two_tenants_are_counted_and_owned_apart(store: Store) -> None:
    async def open_upload(tenant: str) -> str:
        upload_id = new_upload_id()
        await store.uploads.open(
            upload_id, tenant=tenant, caller="alice", size=1, content_type="image/png", sha256=None, token=None,
            url_ttl_s=60, late_s=0, unused_ttl_s=60, rate_limit=1,
        )  # fmt: skip
        return upload_id

    theirs = await open_upload("north")
    await open_upload("south")

    with pytest.raises(UploadNotFound):
        await store.uploads.owned(theirs, tenant="south", caller="alice")


async def test_a_deleted_task_is_gone_for_its_tenant_and_unknown_to_others(store: Store) -> None:
    task_id = await submit(store, "north")
    await store.tasks.cancel(task_id, "north")
    await store.tasks.delete(task_id, "north")

    with pytest.raises(ResultExpired):
        await store.tasks.get(task_id, "north")
    with pytest.raises(TaskNotFound):
        await store.tasks.get(task_id, "south")


async def test_tasks_of_all_tenants_are_counted(store: Store) -> None:
    for tenant in NAMES:
        await submit(store, tenant)

    assert (await store.tenants.count_tasks())[State.PENDING] == len(NAMES)
    assert (await store.listing.count("north"))[State.PENDING] == 1


async def test_a_tenant_is_known_as_long_as_it_has_a_task_or_a_batch(store: Store) -> None:
    task_id = await submit(store, "north")
    await open_batch(store, "south", most=1)

    assert await store.tenants.tidy() == 0
    await store.tasks.cancel(task_id, "north")
    await store.tasks.delete(task_id, "north")
    assert await store.tenants.tidy() == 1
    assert await store.tenants.known() == ["default", "south"]


@pytest.mark.parametrize("field", ["created", "tenant"])
async def test_a_damaged_record_of_any_tenant_fails_where_its_tenant_finds_it(store: Store, field: str) -> None:
    for tenant in NAMES:
        await submit(store, tenant)
    task_id = await submit(store, "south")
    await store.engine.pipelined([("HSET", store.engine.keys.task(task_id), field, "\x00")])

    found = await store.listing.page("south")

    assert {task.id: task.state for task in found.tasks}[task_id] is State.FAILED
    assert (await store.tasks.get(task_id, "south")).tenant == "south"
    assert (await store.listing.count("south")) == dict.fromkeys(State, 0) | {State.PENDING: 1, State.FAILED: 1}


async def test_a_lost_record_of_any_tenant_fails_where_its_tenant_finds_it(store: Store) -> None:
    await submit(store, "north")
    task_id = await submit(store, "south")
    await store.engine.pipelined([("DEL", store.engine.keys.task(task_id))])

    assert await store.engine.salvage.examine([task_id]) == [task_id]

    assert (await store.tasks.get(task_id, "south")).state is State.FAILED


async def test_a_damaged_batch_of_any_tenant_leaves_its_lists(store: Store) -> None:
    batch_id = await open_batch(store, "south", most=1)
    await store.engine.pipelined([("HSET", store.engine.keys.batch(batch_id), "total", "many")])

    assert await store.engine.salvage.examine([batch_id]) == [batch_id]

    assert (await store.batches.batches("south", before=None, limit=10)).batches == ()
    await store.batches.open(new_batch_id(), "south", "alice", rate_limit=0, most=1, client_request_id=None)


async def test_a_start_finds_records_of_another_version_in_any_tenant(store: Store, redis_url: str) -> None:
    task_id = await submit(store, "south")
    older = "3"
    await store.engine.pipelined([("HSET", store.engine.keys.task(task_id), "version", older)])

    async with connect(RedisSettings(url=redis_url)) as client:
        with pytest.raises(ConfigurationError, match=f"version {older}"):
            await check_server(client, store.namespace)


async def test_tenants_get_equal_shares_however_many_keys_each_has(store: Store) -> None:
    for caller in ("ann", "bea", "cleo", "dora"):
        for _ in range(4):
            await submit(store, "north", caller=caller)
    for _ in range(4):
        await submit(store, "south", caller="ann")

    first = [(await lease_of(store)).tenant for _ in range(8)]

    assert first.count("south") == 4


async def test_an_id_that_nobody_has_is_unknown_to_every_tenant(store: Store) -> None:
    for tenant in NAMES:
        with pytest.raises(TaskNotFound):
            await store.tasks.get(new_task_id(), tenant)
