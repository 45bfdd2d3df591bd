"""Leases: renewed in one call, lost when they should be, and never taken from a live worker because Redis slept."""

import asyncio

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core.task import Artifact, Outcome, Reclaimed, Result, State
from penstock.errors import ResultExpired, TaskNotFound
from penstock.settings import RedisSettings
from penstock.store import connect
from tests.support.stores import MODEL, claim, lease_of, open_store, submit, worker_info


async def test_a_lease_that_nobody_renews_is_taken_back(redis_url: str) -> None:
    async with open_store(redis_url, lease_s=0.1) as store:
        task_id = await submit(store)
        await lease_of(store)
        await store.overdue.reclaim()
        await asyncio.sleep(0.12)

        assert await store.overdue.reclaim() == [Reclaimed(task_id, State.PENDING, MODEL)]

        task = await store.tasks.get(task_id, "default")
        assert (task.crashes, task.failures) == (1, 0)
        assert [a.outcome for a in task.attempts] == ["lost"]
        assert task.attempts[0].error is not None
        assert task.attempts[0].error.code == "worker_lost"


async def test_a_renewed_lease_is_not(redis_url: str) -> None:
    async with open_store(redis_url, lease_s=0.15) as store:
        await submit(store)
        lease = await lease_of(store)
        for _ in range(4):
            await asyncio.sleep(0.06)
            assert await store.leases.renew(worker_info(), [lease]) == set()
            assert await store.overdue.reclaim() == []

        assert await store.leases.complete(lease, Outcome())


async def test_renewing_says_which_leases_are_lost(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for _ in range(3):
            await submit(store)
        kept, canceled, lost = [await lease_of(store, w) for w in ("w1", "w1", "w2")]
        await store.tasks.cancel(canceled.id, "default")
        await store.overdue.reclaim("w2")

        assert await store.leases.renew(worker_info(), [kept, canceled, lost]) == {canceled.key, lost.key}


async def test_the_tasks_of_a_worker_known_to_be_dead_are_free_at_once(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = [await submit(store) for _ in range(3)]
        for worker in ("dead", "alive", "dead"):
            await lease_of(store, worker)
        await store.leases.renew(worker_info("dead"), [])

        expected = [Reclaimed(ids[n], State.PENDING, MODEL) for n in (0, 2)]
        assert sorted(await store.overdue.reclaim("dead")) == sorted(expected)

        assert [w.id for w in await store.workers.listed()] == []
        assert {(await lease_of(store)).id, (await lease_of(store)).id} == {ids[0], ids[2]}


async def test_a_task_that_kills_its_workers_ends_as_poison(redis_url: str) -> None:
    async with open_store(redis_url, max_crashes=3) as store:
        task_id = await submit(store)
        for n in range(3):
            await lease_of(store, f"w{n}")
            states = await store.overdue.reclaim(f"w{n}")

        assert states == [Reclaimed(task_id, State.FAILED, MODEL)]
        task = await store.tasks.get(task_id, "default")
        assert task.outcome.error is not None
        assert (task.outcome.error.code, task.outcome.error.retryable) == ("poison_input", False)
        assert len(task.attempts) == 3
        assert (await claim(store)).lease is None


async def test_a_task_says_why_its_worker_was_killed(redis_url: str) -> None:
    async with open_store(redis_url, max_crashes=1) as store:
        task_id = await submit(store)
        await lease_of(store)
        await store.overdue.reclaim("w1", "memory ran out")

        task = await store.tasks.get(task_id, "default")
        assert task.attempts[0].error is not None
        assert task.outcome.error is not None
        assert task.attempts[0].error.message.endswith("died or went silent: memory ran out")
        assert task.outcome.error.message.endswith("not tried again: memory ran out")


@pytest.mark.parametrize(("state", "crashes"), [("READY", 3), ("DRAINING", 0)])
async def test_the_death_of_a_worker_that_was_stopping_is_no_crash_of_its_tasks(
    redis_url: str, state: str, crashes: int
) -> None:
    """So that machines which start anew make no poison of a task that takes long."""
    async with open_store(redis_url, max_crashes=4) as store:
        task_id = await submit(store)
        for n in range(3):
            lease = await lease_of(store, f"w{n}")
            await store.leases.renew(replace(worker_info(f"w{n}"), state=state), [lease])
            assert await store.overdue.reclaim(f"w{n}") == [Reclaimed(task_id, State.PENDING, MODEL)]

        task = await store.tasks.get(task_id, "default")
        assert (task.crashes, [attempt.outcome for attempt in task.attempts]) == (crashes, ["lost"] * 3)


async def test_a_worker_that_was_stopping_is_known_as_such_when_redis_comes_back_after_a_while(redis_url: str) -> None:
    async with open_store(redis_url, namespace="gone", lease_s=0.2) as store:
        async with connect(RedisSettings(url=redis_url)) as client:
            task_id = await submit(store)
            lease = await lease_of(store)
            await store.leases.renew(replace(worker_info(), state="DRAINING"), [lease])
            for key in ("running", "workers:seen"):  # both have been over for long
                await client.zadd(f"{{gone}}:{key}", {lease.id if key == "running" else "w1": 1}, xx=True)
            await client.set("{gone}:reaper", 1)

            assert await store.overdue.reclaim() == []
            await asyncio.sleep(0.25)
            assert await store.overdue.reclaim() == [Reclaimed(task_id, State.PENDING, MODEL)]

            assert (await store.tasks.get(task_id, "default")).crashes == 0
            await client.delete(*[k async for k in client.scan_iter(match="{gone}:*")])


async def test_after_a_pause_of_the_reaper_every_lease_first_gets_a_full_period(redis_url: str) -> None:
    async with open_store(redis_url, namespace="pause", lease_s=0.2) as store:
        async with connect(RedisSettings(url=redis_url)) as client:
            await submit(store)
            lease = await lease_of(store)
            await asyncio.sleep(0.25)
            seconds, _ = await client.time()
            # The reaper last ran ten seconds ago, or in the future: Redis slept, or its clock jumped.
            for last_ms in ((seconds - 10) * 1000, (seconds + 3600) * 1000):
                await client.zadd("{pause}:running", {lease.id: 1}, xx=True)  # long over
                await client.set("{pause}:reaper", last_ms)
                assert await store.overdue.reclaim() == []

            assert await store.overdue.reclaim() == []
            assert await store.leases.renew(worker_info(), [lease]) == set(), "the worker has come back in time"

            await asyncio.sleep(0.25)
            assert [taken.state for taken in await store.overdue.reclaim()] == [State.PENDING], "a dead one does not"
            await client.delete(*[k async for k in client.scan_iter(match="{pause}:*")])


async def test_a_worker_that_is_silent_leaves_the_list(redis_url: str) -> None:
    async with open_store(redis_url, lease_s=0.1) as store:
        await store.overdue.reclaim()
        await store.leases.renew(worker_info(), [])
        assert [w.id for w in await store.workers.listed()] == ["w1"]
        await asyncio.sleep(0.12)
        await store.overdue.reclaim()

        assert await store.workers.listed() == []


async def test_a_worker_that_is_down_is_listed_for_a_while_and_serves_nothing(redis_url: str) -> None:
    async with open_store(redis_url, namespace="down", lease_s=60) as store:
        await store.overdue.reclaim()
        await store.workers.list_down(msgspec.structs.replace(worker_info(), state="DOWN", reason="it is lost"), 0.1)
        (listed,) = await store.workers.listed()
        async with connect(RedisSettings(url=redis_url)) as client:
            pools = await client.hgetall("{down}:pools")
        await asyncio.sleep(0.12)
        await store.overdue.reclaim()

        assert (listed.state, listed.reason) == ("DOWN", "it is lost")
        assert pools == {}, "a worker without models is nobody to share tasks with"
        assert await store.workers.listed() == []


async def test_a_worker_that_is_down_is_so_also_when_it_is_drained(redis_url: str) -> None:
    async with open_store(redis_url, namespace="down-drained") as store:
        await store.workers.list_down(msgspec.structs.replace(worker_info(), state="DOWN", reason="it is lost"), 60)
        await store.workers.drain("w1")

        assert [(w.state, w.reason) for w in await store.workers.listed()] == [("DOWN", "it is lost")]


async def test_a_worker_signs_off(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await store.leases.renew(worker_info(), [])
        await store.workers.sign_off("w1")

        assert await store.workers.listed() == []


async def test_a_task_past_its_retention_goes_with_everything_it_had(redis_url: str) -> None:
    async with open_store(redis_url, namespace="retention") as store:
        task_id = await submit(store, result_ttl_s=1, client_request_id="once")
        artifact = Artifact(
            name="result.png", s3_key="results/default/x/1.png", size=1, sha256="0", content_type="image/png"
        )
        await store.leases.complete(await lease_of(store), Outcome(result=Result(artifacts=(artifact,))))
        assert await store.overdue.prune() == 0
        await asyncio.sleep(1.05)

        assert await store.overdue.prune() == 1

        async with connect(RedisSettings(url=redis_url)) as client:
            left = {k.decode() async for k in client.scan_iter(match="{retention}:*")}
            assert {key for key in left if task_id in key or "idem" in key} == set()
            prefix = f"results/default/{task_id}/"
            condemned = await client.zrange("{retention}:condemned", 0, -1)
            assert condemned == [prefix.encode(), f"again {prefix}".encode()], "now, and when nothing can come any more"
            await client.delete(*left)


async def test_a_pruned_task_is_known_to_have_existed(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        task_id = await submit(store, result_ttl_s=1)
        await store.tasks.cancel(task_id, "default")
        await asyncio.sleep(1.05)
        assert await store.overdue.prune() == 1

        with pytest.raises(ResultExpired):
            await store.tasks.get(task_id, "default")
        with pytest.raises(TaskNotFound):
            await store.tasks.get(task_id, "other")
