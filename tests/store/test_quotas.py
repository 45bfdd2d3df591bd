"""A tenant never goes beyond its quotas, however many submit for it at once; what it may not have is never stored."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.core.batch import BatchPlan, Started, new_batch_id
from penstock.core.lease import Lease
from penstock.core.quotas import Quotas
from penstock.core.submission import Forecast, Submission
from penstock.core.task import ErrorRecord, Outcome, Result, State
from penstock.core.upload import new_upload_id
from penstock.errors import QuotaExceeded
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Store, Submitted, connect
from penstock.store.accounts import EPOCH, Holdings
from tests.support.moved_clock import KEY, STILL, ByStillClock, moved_clock
from tests.support.stores import MODEL, lease_of, open_store, own_input, submission

TENANT = "north"
KIB = 1024


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with open_store(redis_url) as opened:
        yield opened


@pytest.fixture
async def stores(redis_url: str, namespace: str) -> AsyncIterator[list[Store]]:
    """Several processes of the API, which wait for as long as a busy machine needs."""
    at = RedisSettings(url=redis_url, namespace=namespace)
    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(connect(at)) for _ in range(4)]
        yield [Store(Engine(client, namespace, QueueSettings(), patience_s=60.0)) for client in clients]


def made(quotas: Quotas, *, device_ms: float | None = None, **options: Any) -> Submission:
    forecast = None if device_ms is None else Forecast(ahead_ms=device_ms, own_ms=device_ms)
    return replace(submission(**options), tenant=TENANT, quotas=quotas, forecast=forecast)


async def submit(store: Store, quotas: Quotas, **options: Any) -> Submitted:
    return await store.tasks.submit(made(quotas, **options), rate_limit=0)


async def held(store: Store) -> Holdings:
    (found,) = await store.accounts.held([TENANT])
    return found


async def refusal_of(call: Awaitable[object]) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as refused:
        await call
    return refused.value


async def complete(store: Store, lease: Lease, device_ms: float) -> None:
    await store.leases.complete(lease, Outcome(result=Result(data={}), execution={"device_ms": device_ms}))


async def accepted_of_many(stores: list[Store], each: int, quotas: Quotas, **options: Any) -> Counter[str]:
    """How many of these submits, all at once, were accepted, and how many were refused by which quota."""

    async def one(store: Store) -> str:
        try:
            await submit(store, quotas, **options)
        except QuotaExceeded as refused:
            return refused.quota
        return "accepted"

    return Counter(await asyncio.gather(*(one(store) for store in stores for _ in range(each))))


@pytest.mark.parametrize(
    ("quotas", "options"),
    [
        (Quotas(tasks_waiting=7), {}),
        (Quotas(submits_per_minute=7), {}),
        (Quotas(device_seconds_per_day=7), {"device_ms": 1000.0}),
        (Quotas(redis_bytes=7 * 2000), {}),
    ],
)
async def test_i8_processes_that_submit_at_once_never_take_a_tenant_beyond_a_quota(
    stores: list[Store], quotas: Quotas, options: dict[str, Any]
) -> None:
    answers = await accepted_of_many(stores, 10, quotas, **options)

    (name,) = answers.keys() - {"accepted"}
    assert answers["accepted"] >= 7
    assert answers.total() == 40
    now = await held(stores[0])
    assert now.tasks_waiting == answers["accepted"]
    if name == "redis_bytes":
        one = now.redis_bytes / now.tasks_waiting
        assert now.redis_bytes <= quotas.redis_bytes < now.redis_bytes + one
    else:
        assert now.tasks_waiting == 7


async def test_i8_inputs_stored_by_several_processes_never_exceed_the_quota_of_storage(stores: list[Store]) -> None:
    quotas = Quotas(storage_bytes=10 * KIB)

    async def one(store: Store) -> str:
        task = replace(own_input(made(quotas)), input_bytes=3 * KIB)
        try:
            if await store.tasks.submit_unstored(task, rate_limit=0) is None:
                await store.tasks.submit(task, rate_limit=0)
        except QuotaExceeded as refused:
            return refused.quota
        return "accepted"

    answers = await asyncio.gather(*(one(store) for store in stores for _ in range(4)))

    assert Counter(answers) == {"accepted": 3, "storage_bytes": 13}
    assert (await held(stores[0])).storage_bytes == 9 * KIB


async def test_a_refused_submit_leaves_nothing_behind(store: Store) -> None:
    quotas = Quotas(tasks_waiting=1)
    await submit(store, quotas)
    before = await held(store)

    refused = await refusal_of(store.tasks.submit_unstored(own_input(made(quotas)), rate_limit=0))

    assert (refused.quota, refused.limit, refused.retry_after_s) == ("tasks_waiting", 1, 5)
    assert await held(store) == before
    assert await store.engine.pipelined([("ZCARD", store.engine.keys.awaited)]) == [0]


async def test_a_quota_is_of_one_tenant_and_of_all_its_callers(store: Store) -> None:
    quotas = Quotas(tasks_waiting=1, submits_per_minute=9)
    await submit(store, quotas, caller="alice")

    await refusal_of(submit(store, quotas, caller="bob"))
    await store.tasks.submit(replace(made(quotas), tenant="south"), rate_limit=0)


async def test_a_repeated_submit_is_answered_whatever_the_quotas(store: Store) -> None:
    quotas = Quotas(tasks_waiting=1, submits_per_minute=1)
    first = await submit(store, quotas, client_request_id="order-1")

    again = await submit(store, quotas, client_request_id="order-1")

    assert (again.id, again.replayed) == (first.id, True)


async def test_a_result_that_is_there_is_given_to_a_tenant_that_may_have_no_task_waiting(store: Store) -> None:
    await submit(store, Quotas(), reuse_digest="same")
    await complete(store, await lease_of(store), 1.0)
    await submit(store, Quotas())

    hit = await submit(store, Quotas(tasks_waiting=1, device_seconds_per_day=1), reuse_digest="same")

    assert hit.is_hit


async def test_submits_of_a_minute_are_counted_and_what_is_left_is_told(store: Store) -> None:
    quotas = Quotas(submits_per_minute=2)
    left = [(await submit(store, quotas)).quota_left for _ in range(2)]

    refused = await refusal_of(submit(store, quotas))

    assert left == [1, 0]
    assert refused.quota == "submits_per_minute"
    assert refused.retry_after_s in (59, 60)
    for member in await store.engine.client.zrange(key := store.engine.keys.of_root(f"submits:{TENANT}"), 0, -1):
        await store.engine.client.zincrby(key, -61_000_000, member)
    assert (await submit(store, quotas)).quota_left == 1
    assert (await submit(store, Quotas())).quota_left == -1


async def test_rl3_many_large_tasks_take_no_more_of_a_device_than_the_quota(store: Store) -> None:
    """The largest image at the highest priority costs what it takes, however few requests that are."""
    await submit(store, Quotas(), cost=1000)
    await complete(store, await lease_of(store), 400.0)
    quotas = Quotas(device_seconds_per_day=60)
    accepted = 0

    async def flood() -> None:
        nonlocal accepted
        while True:
            await submit(store, quotas, cost=25_000)  # 10 s each, by what the first has taken
            accepted += 1

    refused = await refusal_of(flood())

    assert accepted == 5
    assert refused.quota == "device_seconds_per_day"
    assert (await held(store)).reserved_ms == 50_000
    await refusal_of(submit(store, quotas, cost=25_000))
    assert (await submit(store, quotas, cost=1000)).position == 5


async def test_what_a_task_was_expected_to_take_is_replaced_by_what_it_took(store: Store) -> None:
    quotas = Quotas(device_seconds_per_day=10)
    await submit(store, quotas, device_ms=9_000.0)
    full = await refusal_of(submit(store, quotas, device_ms=2_000.0))

    await complete(store, await lease_of(store), 1_000.0)

    assert full.retry_after_s == 5
    await submit(store, quotas, device_ms=9_000.0)
    await complete(store, await lease_of(store), 9_500.0)
    used_up = await refusal_of(submit(store, quotas, device_ms=1.0))
    seconds, _ = await store.engine.client.time()
    assert used_up.retry_after_s == pytest.approx(86_400 - seconds % 86_400, abs=5)


async def test_the_device_time_of_a_day_begins_anew_at_midnight_and_what_runs_then_counts_for_the_new_day(
    redis_url: str, namespace: str
) -> None:
    quotas, midnight_us = Quotas(device_seconds_per_day=10), 20_000 * 86_400_000_000
    with moved_clock(STILL):
        async with connect(RedisSettings(url=redis_url, namespace=namespace)) as client:
            store = Store(ByStillClock(client, namespace, QueueSettings()))
            try:
                await client.set(KEY, midnight_us - 1_000_000)
                for device_ms in (6_000.0, 4_000.0):
                    await submit(store, quotas, device_ms=device_ms)
                lease = await lease_of(store)
                await client.set(KEY, midnight_us + 1_000_000)
                reserved = await refusal_of(submit(store, quotas, device_ms=1_000.0))
                await complete(store, lease, 7_000.0)
                used = await refusal_of(submit(store, quotas, device_ms=4_000.0))
                used_up = await refusal_of(submit(store, quotas, device_ms=3_001.0))
                today = EPOCH + timedelta(days=20_000)
                days = await store.accounts.usage_of(TENANT, today - timedelta(days=1), today)
                await client.set(KEY, midnight_us + 86_400_000_000)
                await submit(store, quotas, device_ms=6_000.0)
            finally:
                await client.delete(KEY)

    assert (reserved.retry_after_s, used.retry_after_s, used_up.retry_after_s) == (5, 86_399, 86_399)
    assert [(one.usage.submitted, one.usage.device_ms) for one in days] == [(2, 0), (0, 7_000)]


async def test_a_task_is_not_run_again_beyond_a_quota(store: Store) -> None:
    quotas = Quotas(tasks_waiting=1)
    first = await submit(store, quotas)
    await store.tasks.cancel(first.id, TENANT)
    await submit(store, quotas)

    refused = await refusal_of(store.tasks.resubmit(first.id, TENANT, quotas=quotas))

    assert refused.quota == "tasks_waiting"
    await lease_of(store)
    assert await store.tasks.resubmit(first.id, TENANT, quotas=quotas)


@pytest.mark.parametrize("quotas", [Quotas(redis_bytes=8 * KIB), Quotas(storage_bytes=KIB)])
async def test_a_tenant_that_holds_more_than_it_may_runs_no_task_again(store: Store, quotas: Quotas) -> None:
    task_id = (await submit(store, quotas)).id
    lease, problem = await lease_of(store), ErrorRecord(code="internal", message="x" * 8 * KIB, retryable=False)
    await store.leases.fail(lease, Outcome(error=problem))
    await open_upload(store, Quotas(), 2 * KIB)

    refused = await refusal_of(store.tasks.resubmit(task_id, TENANT, quotas=quotas))

    assert getattr(quotas, refused.quota) > 0
    assert (await store.tasks.get(task_id, TENANT)).state is State.FAILED
    assert await store.tasks.resubmit(task_id, TENANT, quotas=Quotas())


async def open_upload(store: Store, quotas: Quotas, size: int) -> str:
    upload_id = new_upload_id()
    await store.uploads.open(
        upload_id, tenant=TENANT, caller="alice", size=size, content_type="image/png", sha256=None, token=None,
        url_ttl_s=60, late_s=0, unused_ttl_s=60, rate_limit=0, quotas=quotas,
    )  # fmt: skip
    return upload_id


async def test_i8_uploads_opened_by_several_processes_never_exceed_the_quota_of_storage(stores: list[Store]) -> None:
    quotas = Quotas(storage_bytes=10 * KIB)

    answers = await asyncio.gather(
        *(open_upload(store, quotas, 4 * KIB) for store in stores for _ in range(3)), return_exceptions=True
    )

    assert sum(isinstance(answer, str) for answer in answers) == 2
    assert {answer.quota for answer in answers if isinstance(answer, QuotaExceeded)} == {"storage_bytes"}
    await open_upload(stores[0], quotas, 2 * KIB)
    await refusal_of(submit(stores[0], quotas))


async def start_batch(store: Store, quotas: Quotas, lines: int) -> str:
    batch_id = new_batch_id()
    await store.batches.open(batch_id, TENANT, "alice", rate_limit=0, most=10**6, client_request_id=None, quotas=quotas)
    plan = BatchPlan(defaults={}, starts=(0,), base_url="", traceparent="")
    started = await store.batches.start(
        batch_id, TENANT, "alice", plan, total=lines, ttl_s=60, fingerprint="f", quotas=quotas
    )
    assert isinstance(started, Started)
    return batch_id


async def test_i8_batches_started_by_several_processes_never_have_more_lines_than_the_quota(
    stores: list[Store],
) -> None:
    quotas = Quotas(batch_lines=100)

    answers = await asyncio.gather(
        *(start_batch(store, quotas, 30) for store in stores for _ in range(3)), return_exceptions=True
    )

    assert sum(isinstance(answer, str) for answer in answers) == 3
    assert {answer.quota for answer in answers if isinstance(answer, QuotaExceeded)} == {"batch_lines"}
    assert (await held(stores[0])).batch_lines == 90


async def test_lines_that_have_ended_make_room_for_those_of_another_batch(store: Store) -> None:
    quotas = Quotas(batch_lines=10)
    await start_batch(store, quotas, 10)
    assert (await refusal_of(start_batch(store, quotas, 1))).quota == "batch_lines"

    leases, _ = await store.batches.lease(lease_s=60, most=1)
    await store.batches.skip(leases[0], 0, 4, State.FAILED, "internal")

    await start_batch(store, quotas, 4)


async def test_a_batch_counts_as_one_submit_and_its_parts_as_bytes(store: Store) -> None:
    quotas = Quotas(submits_per_minute=1, storage_bytes=10 * KIB)
    batch_id = await start_batch(store, quotas, 5)

    refused = await refusal_of(store.batches.grow(batch_id, 1, 11 * KIB, quotas=quotas))
    await store.batches.grow(batch_id, 1, 10 * KIB, quotas=quotas)

    assert refused.quota == "storage_bytes"
    assert (await refusal_of(start_batch(store, quotas, 5))).quota == "submits_per_minute"


async def test_a_task_whose_time_nobody_knows_counts_with_a_guess(store: Store) -> None:
    quotas = Quotas(device_seconds_per_day=3)

    answers = await accepted_of_many([store], 5, quotas, cost=0, model=MODEL)

    assert answers == {"accepted": 3, "device_seconds_per_day": 2}


async def test_rl3_a_task_that_has_to_run_after_all_counts_with_its_time(store: Store) -> None:
    """Or tasks that wait for the result of an equal one, which is canceled then, would cost nothing."""
    quotas = Quotas(device_seconds_per_day=10)
    for digest in ("one", "two"):
        first, _ = [await submit(store, quotas, device_ms=4_000.0, reuse_digest=digest, cost=4_000) for _ in range(2)]
        await store.tasks.cancel(first.id, TENANT)

    assert (await held(store)).reserved_ms == 8_000
    assert (await refusal_of(submit(store, quotas, device_ms=4_000.0))).quota == "device_seconds_per_day"
