"""Redis was cut off with its last second: what it had answered in that is not there any more."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from penstock.core.access import TENANT
from penstock.core.lease import Lease
from penstock.core.task import Artifact, ErrorRecord, Outcome, Progress, Result, State
from penstock.settings import RedisSettings
from penstock.store import Redis, Store, connect
from tests.support.stores import lease_of, open_store, submit, worker_info

BROKEN = ErrorRecord(code="image_decode_failed", message="the image is damaged", retryable=False)


@asynccontextmanager
async def lost(client: Redis, namespace: str) -> AsyncIterator[None]:
    """Whatever is written meanwhile."""
    root = f"{{{namespace}}}:*"
    before = {key: await client.dump(key) async for key in client.scan_iter(match=root)}
    yield
    await client.delete(*[key async for key in client.scan_iter(match=root)])
    for key, content in before.items():
        await client.restore(key, 0, content)


@asynccontextmanager
async def claimed_twice(redis_url: str) -> AsyncIterator[tuple[Store, Lease, Lease]]:
    """Two leases of one task under the same number: the first was forgotten with the last second."""
    async with open_store(redis_url) as store, connect(RedisSettings(url=redis_url)) as client:
        await submit(store)
        async with lost(client, store.namespace):
            first = await lease_of(store, "w1")
        yield store, first, await lease_of(store, "w2")


def result_of(lease: Lease) -> Outcome:
    """A file where the worker puts it."""
    key = f"results/{lease.tenant}/{lease.id}/{lease.token}.png"
    return Outcome(
        result=Result(
            artifacts=(Artifact(name="result.png", s3_key=key, size=1, sha256=lease.fence, content_type="image/png"),)
        )
    )


async def test_two_claims_of_the_same_number_are_told_apart(redis_url: str) -> None:
    async with claimed_twice(redis_url) as (store, first, second):
        assert (first.id, first.epoch) == (second.id, second.epoch)
        assert result_of(first).result != result_of(second).result, "they write different files"
        assert await store.leases.renew(worker_info("w1"), [first]) == {first.key}
        assert await store.leases.renew(worker_info("w2"), [second]) == set()
        assert not await store.leases.progress(first, "infer", Progress(done=1, total=2))
        assert await store.leases.progress(second, "infer", Progress(done=1, total=2))


ENDINGS: dict[str, Callable[[Store, Lease], Awaitable[int]]] = {
    "complete": lambda store, lease: store.leases.complete(lease, result_of(lease)),
    "fail": lambda store, lease: store.leases.fail(lease, Outcome(error=BROKEN)),
    "retry": lambda store, lease: store.leases.retry(lease, BROKEN, delay_ms=60_000),
    "release": lambda store, lease: store.leases.release(lease),
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("is_second_first", [False, True])
async def test_of_two_claims_of_the_same_number_one_is_settled(
    redis_url: str, name: str, is_second_first: bool
) -> None:
    end = ENDINGS[name]
    async with claimed_twice(redis_url) as (store, first, second):
        order = (second, first) if is_second_first else (first, second)

        accepted = {lease.fence: bool(await end(store, lease)) for lease in order}
        again = {lease.fence: bool(await end(store, lease)) for lease in order}

        assert accepted == again == {first.fence: False, second.fence: True}
        task = await store.tasks.get(first.id, TENANT)
        assert [(attempt.number, attempt.fence, attempt.worker) for attempt in task.attempts] == [
            (1, second.fence, "w2"),
        ]


async def test_a_result_of_a_claim_that_was_forgotten_is_deleted_with_its_task(redis_url: str) -> None:
    async with claimed_twice(redis_url) as (store, first, second):
        await store.leases.complete(second, result_of(second))
        assert (await store.tasks.get(first.id, TENANT)).state is State.SUCCESS

        (prefix,) = await store.tasks.delete(first.id, TENANT) or []

        assert all(
            f"results/{lease.tenant}/{lease.id}/{lease.token}.png".startswith(prefix) for lease in (first, second)
        )
