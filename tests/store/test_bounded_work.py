"""No script holds Redis for long, however many tasks it meets; what it leaves is done by the next call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from penstock.core.access import TENANT
from penstock.core.batch import FeedLease, task_id_of
from penstock.core.submission import EnqueuePermit
from penstock.core.task import PRIORITIES, Artifact, ErrorRecord, Outcome, Priority, Result, State
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Redis, Store, connect
from penstock.store.submits import MAX_FOLLOWERS
from tests.support.redis_server import RedisProcess
from tests.support.stores import MODEL, claim, lease_of, open_batch, open_store, open_upload, submission, submit

MOST_COMMANDS = 2_000
GROUPS = 12
FEW = 2
PAST_S = 0.02
DONE = Outcome(
    result=Result(artifacts=(Artifact(name="a", s3_key="results/x", size=1, sha256="", content_type="image/png"),)),
)
BROKEN = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)


@asynccontextmanager
async def counted(client: Redis) -> AsyncIterator[list[int]]:
    """How many commands each script gives that runs meanwhile, in the order of the scripts."""
    counts: list[int] = []

    async def listen(monitor: Any) -> None:
        async for said in monitor.listen():
            if said["command"].startswith("EVALSHA"):
                counts.append(0)
            elif said["client_type"] == "lua":
                counts[-1] += 1
            elif "the end" in said["command"]:
                return

    async with client.monitor() as monitor:
        listening = asyncio.create_task(listen(monitor))
        yield counts
        await client.echo("the end")
        await listening


async def in_batch(store: Store, lease: FeedLease, **options: Any) -> list[str]:
    """The ids of a leader and as many followers as it may have: lines of a batch with an upload, all with webhooks."""
    ids = []
    for place in range(MAX_FOLLOWERS + 1):
        permit = EnqueuePermit(
            batch=lease.id, epoch=lease.epoch, place=place, window=MAX_FOLLOWERS + 1, lease_ms=60_000
        )
        line = submission(tell=("succeeded", "failed", "canceled", "expired"), **options)
        line = replace(line, id=task_id_of(lease.id, place), permit=permit)
        ids.append((await store.tasks.submit(line, rate_limit=0)).id)
    return ids


class Queue:
    """Everything that hangs on tasks, as often as it may."""

    def __init__(self, client: Redis, namespace: str = "bounded") -> None:
        of = (client, namespace, QueueSettings(max_depth=10**6))
        self.store = Store(Engine(*of))
        self.batches, self.uploads = self.store.batches, self.store.uploads

    async def fill(self, groups: int, **options: Any) -> list[str]:
        """The ids."""
        for _ in range(groups):
            await open_batch(self.batches, lines=MAX_FOLLOWERS + 1)
        leases, _ = await self.batches.lease(lease_s=60, most=groups)
        upload = await open_upload(self.uploads)
        await self.uploads.arrive(upload)
        found = await asyncio.gather(
            *(
                in_batch(self.store, lease, reuse_digest=f"digest-{n}", uploads=[upload], **options)
                for n, lease in enumerate(leases)
            )
        )
        return [task_id for ids in found for task_id in ids]


async def complete(queue: Queue) -> None:
    await queue.store.leases.complete(await lease_of(queue.store), DONE)
    await queue.store.overdue.answer_waiting()


async def cancel(queue: Queue) -> None:
    lease = await lease_of(queue.store)
    await queue.store.tasks.cancel(lease.id, TENANT)


async def fail(queue: Queue) -> None:
    await queue.store.leases.fail(await lease_of(queue.store), Outcome(error=BROKEN))


async def lose_workers(queue: Queue) -> None:
    for _ in range(GROUPS):
        await claim(queue.store)
    await queue.store.overdue.reclaim("w1")


async def release_unknown(queue: Queue) -> None:
    for _ in range(GROUPS):
        await claim(queue.store)
    await queue.store.leases.release_unknown("w1", [], before=1)


async def purge(queue: Queue) -> None:
    await queue.store.queues.purge(TENANT, MODEL, PRIORITIES, limit=10**6)


async def part(queue: Queue) -> None:
    """All followers of paused leaders."""
    for n in range(FEW):
        await submit(queue.store, reuse_digest=f"digest-{n}", priority=Priority.HIGH)
    await queue.store.queues.pause(MODEL, [Priority.HIGH], by="alice")


async def delete_all(queue: Queue) -> None:
    await cut_off_all(queue)
    page = await queue.store.listing.page(TENANT, states=[State.CANCELED], limit=1000)
    deleted, _ = await queue.store.tasks.delete_each([task.id for task in page.tasks], TENANT)
    assert deleted == len(page.tasks) > MAX_FOLLOWERS


async def cut_off_all(queue: Queue) -> None:
    """Cancel every task while it runs."""
    while lease := (await claim(queue.store)).lease:
        await queue.store.tasks.cancel(lease.id, TENANT)


@pytest.mark.parametrize("act", [complete, cancel, fail, lose_workers, release_unknown, purge, part, delete_all])
async def test_no_script_gives_more_than_two_thousand_commands(
    own_redis: RedisProcess, act: Callable[[Queue], Awaitable[None]]
) -> None:
    async with connect(RedisSettings(url=own_redis.url, timeout_s=10)) as client:
        queue = Queue(client)
        await queue.fill(GROUPS if act in (lose_workers, release_unknown) else FEW)

        async with counted(client) as counts:
            await act(queue)

    assert max(counts) <= MOST_COMMANDS, counts
    assert max(counts) > MAX_FOLLOWERS, "else there was nothing to bound"


@pytest.mark.parametrize("limit", ["start_within_s", "finish_within_s", "result_ttl_s"])
async def test_no_sweep_gives_more_than_two_thousand_commands_and_it_leaves_nothing(
    own_redis: RedisProcess, limit: str
) -> None:
    async with connect(RedisSettings(url=own_redis.url, timeout_s=10)) as client:
        queue = Queue(client)
        ids = await queue.fill(1, **{limit: PAST_S if limit != "result_ttl_s" else 0})
        if limit == "result_ttl_s":
            await cut_off_all(queue)
        await asyncio.sleep(PAST_S)

        async with counted(client) as counts:
            ended = [
                len(await queue.store.overdue.expire()),
                len(await queue.store.overdue.overrun()),
                await queue.store.overdue.prune(),
            ]

    assert sum(ended) == len(ids)
    assert max(counts) <= MOST_COMMANDS, counts


async def test_all_who_wait_for_a_result_are_answered_whatever_hangs_on_them(redis_url: str) -> None:
    async with open_store(redis_url) as store, connect(RedisSettings(url=redis_url)) as client:
        ids = await Queue(client, store.namespace).fill(groups=1)

        ended = await store.leases.complete(await lease_of(store), DONE)
        while count := await store.overdue.answer_waiting():
            ended += count

        assert ended == len(ids)
        tasks = [await store.tasks.get(task_id, TENANT) for task_id in ids]
        assert {task.state for task in tasks} == {State.SUCCESS}
        assert {tuple(event.type for event in task.events) for task in tasks} == {("succeeded",)}
        assert {task.outcome.result for task in tasks} == {DONE.result}


async def test_a_task_behind_many_late_ones_is_started_without_a_pause(redis_url: str) -> None:
    async with open_store(redis_url, max_depth=10_000) as store:
        late = [submission(start_within_s=PAST_S) for _ in range(1_000)]
        await all_of(store.tasks.submit(one, rate_limit=0) for one in late)
        waiting = await submit(store)
        await asyncio.sleep(PAST_S)

        answers = [await claim(store)]
        while answers[-1].lease is None:
            assert answers[-1].next_due_s == 0, "there is more to look at now"
            answers.append(await claim(store))

        assert answers[-1].lease.id == waiting
        assert len(answers) < 30
        assert (await store.listing.count(TENANT))[State.EXPIRED] == len(late)


async def test_nothing_past_its_deadline_is_handed_to_a_worker(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        late = [await submit(store, finish_within_s=PAST_S) for _ in range(150)]
        await asyncio.sleep(PAST_S)

        while (answer := await claim(store)).next_due_s == 0:
            pass

        assert answer.lease is None
        tasks = [await store.tasks.get(task_id, TENANT) for task_id in late]
        assert {(task.state, task.outcome.error.code) for task in tasks} == {(State.EXPIRED, "deadline_exceeded")}


async def all_of(calls: Any, *, together: int = 100) -> None:
    """Many calls, some of them at a time."""
    left: Sequence[Any] = list(calls)
    for start in range(0, len(left), together):
        await asyncio.gather(*left[start : start + together])


async def test_a_large_result_is_written_for_few_of_those_who_wait_at_a_time(own_redis: RedisProcess) -> None:
    async with open_store(own_redis.url) as store, connect(RedisSettings(url=own_redis.url)) as client:
        ids = [await submit(store, reuse_digest="same") for _ in range(61)]
        lease = await lease_of(store)
        await client.config_resetstat()

        ended = await store.leases.complete(lease, Outcome(result=Result(data={"text": "x" * 200_000})))

        scripts = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        assert (ended, await store.tasks.ended(ids)) == (61, ids)
        assert scripts >= 3, "20 copies of 200 kB each, or Redis is held for as long as they take"
