"""Who is served next: priorities, the guard against starvation, fair shares, and what a claim never does."""

import asyncio
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from penstock.core.task import ErrorRecord, Priority, State
from penstock.errors import StoreUnavailable
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Claim, Engine, Redis, Store, connect
from tests.support.stores import MODEL, claim, lease_of, open_store, submit, worker_info

TRANSIENT = ErrorRecord(code="input_download_failed", message="timed out", retryable=True)


async def claimed_ids(store: Store, count: int) -> list[str]:
    return [(await lease_of(store)).id for _ in range(count)]


async def test_one_callers_tasks_are_first_in_first_out(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = [await submit(store, cost=cost) for cost in (5000, 1, 90, 1, 1, 2000)]

        assert await claimed_ids(store, 6) == ids


async def test_higher_priorities_go_first(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        low, normal, high = [await submit(store, priority=p) for p in (Priority.LOW, Priority.NORMAL, Priority.HIGH)]

        assert await claimed_ids(store, 3) == [high, normal, low]


async def test_a_low_task_is_served_after_being_passed_over_often_enough(redis_url: str) -> None:
    async with open_store(redis_url, starvation_guard=5) as store:
        low = await submit(store, priority=Priority.LOW)
        for _ in range(20):
            await submit(store, priority=Priority.HIGH)

        order = await claimed_ids(store, 21)

        assert order.index(low) == 5


async def test_priorities_are_strict_when_the_guard_is_off(redis_url: str) -> None:
    async with open_store(redis_url, starvation_guard=0) as store:
        low = await submit(store, priority=Priority.LOW)
        for _ in range(60):
            await submit(store, priority=Priority.HIGH)

        assert (await claimed_ids(store, 61))[-1] == low


async def test_a_flood_of_one_caller_does_not_delay_another(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for _ in range(200):
            await submit(store, caller="flood")
        await claimed_ids(store, 10)

        single = await submit(store, caller="single")

        assert single in await claimed_ids(store, 3)


async def test_shares_are_equal_in_megapixels_not_in_tasks(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for _ in range(40):
            await submit(store, caller="large", cost=4000)
        for _ in range(160):
            await submit(store, caller="small", cost=1000)

        served = [(await lease_of(store)).caller for _ in range(100)]

        assert served.count("small") == pytest.approx(80, abs=2)


async def test_a_caller_who_was_idle_has_no_claim_on_the_past(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for _ in range(100):
            await submit(store, caller="busy")
        await claimed_ids(store, 50)
        for _ in range(50):
            await submit(store, caller="fresh")

        served = [(await lease_of(store)).caller for _ in range(40)]

        assert served.count("fresh") == pytest.approx(20, abs=2)


async def test_models_of_one_worker_share_one_order(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = [await submit(store, model=("a", "b")[i % 2]) for i in range(10)]

        order = [(await lease_of(store, models=["a", "b"])).id for _ in range(10)]

        assert order == ids


async def test_a_worker_is_not_given_what_it_does_not_serve(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await submit(store, model="a")

        assert (await claim(store, models=["b"])).lease is None
        assert (await claim(store, models=["a"], priorities=[Priority.HIGH])).lease is None
        assert (await claim(store, models=["a"])).lease is not None


async def test_a_hundred_claims_at_once_give_a_hundred_tasks(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = {await submit(store) for _ in range(100)}

        leases = await asyncio.gather(*(lease_of(store, f"w{i}") for i in range(100)))

        assert {lease.id for lease in leases} == ids
        assert (await claim(store)).lease is None


async def test_a_retry_waits_its_time_and_then_goes_first(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first = await submit(store)
        lease = await lease_of(store)
        others = [await submit(store) for _ in range(3)]
        await store.leases.retry(lease, TRANSIENT, delay_ms=80)

        assert (await lease_of(store)).id == others[0]
        empty = await claim(store, models=["none"])
        assert empty.next_due_s is not None
        assert 0 < empty.next_due_s <= 0.08
        await asyncio.sleep(0.1)
        again = await lease_of(store)
        assert (again.id, again.epoch, again.failures) == (first, 2, 1)


async def test_a_task_handed_back_is_next_and_has_lost_no_retry(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first, *_ = [await submit(store) for _ in range(3)]
        await store.leases.release(await lease_of(store))

        again = await lease_of(store)

        assert (again.id, again.failures) == (first, 0)


async def test_a_task_past_its_start_limit_is_expired_and_not_run(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        late, fine = await submit(store, start_within_s=0.02), await submit(store, start_within_s=30)
        await asyncio.sleep(0.04)

        assert (await lease_of(store)).id == fine

        task = await store.tasks.get(late, "default")
        assert task.state is State.EXPIRED
        assert task.outcome.error is not None
        assert task.outcome.error.code == "start_deadline_exceeded"
        assert task.attempts == ()


async def test_a_retry_is_not_expired_by_the_start_limit(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        task_id = await submit(store, start_within_s=0.05)
        await store.leases.retry(await lease_of(store), TRANSIENT, delay_ms=1)
        await asyncio.sleep(0.08)
        await store.overdue.expire()

        assert (await lease_of(store)).id == task_id


async def test_an_idle_worker_hears_of_a_submit_at_once(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        signals = store.workers.signals()
        await anext(signals)

        await submit(store)

        async with asyncio.timeout(1):
            assert await anext(signals) == ("queued", "superres-x4")
        await signals.aclose()


async def test_positions_count_what_is_ahead_in_higher_classes_too(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await submit(store, priority=Priority.HIGH)
        await submit(store)
        mine = await submit(store)

        assert (await store.tasks.get(mine, "default")).position == 2
        await lease_of(store)
        assert (await store.tasks.get(mine, "default")).position == 1


async def test_every_key_is_under_the_one_hash_tag(redis_url: str) -> None:
    async with open_store(redis_url, namespace="tagged") as store, connect(RedisSettings(url=redis_url)) as client:
        before = await all_keys(client)
        await submit(store, client_request_id="r", start_within_s=100)
        await store.leases.retry(await lease_of(store), TRANSIENT, delay_ms=10_000)
        await store.tasks.cancel(await submit(store), "default")
        await store.overdue.reclaim()

        new = await all_keys(client) - before
        assert new
        assert all(key.startswith("{tagged}:") for key in new)
        await client.delete(*new)


async def all_keys(client: Redis) -> set[str]:
    return {key.decode() async for key in client.scan_iter(count=1000)}


async def test_a_record_is_kept_in_the_compact_encoding(redis_url: str) -> None:
    async with open_store(redis_url, namespace="compact") as store, connect(RedisSettings(url=redis_url)) as client:
        task_id = await submit(store, client_request_id="r" * 128, start_within_s=100)
        await store.leases.retry(await lease_of(store, "w" * 40), TRANSIENT, delay_ms=1)

        encoding = await client.object("ENCODING", f"{{compact}}:task:{task_id}")

        assert encoding in (b"listpack", b"ziplist")
        await client.delete(*[k async for k in client.scan_iter(match="{compact}:*")])


async def test_a_claim_whose_answer_was_lost_is_handed_back_uncounted(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        _, unknown, other = [await submit(store) for _ in range(3)]
        known, _, _ = [await lease_of(store, worker) for worker in ("w1", "w1", "w2")]

        assert await store.leases.release_unknown("w1", [known], before=1) == [unknown]

        again = await lease_of(store, "w3")
        assert (again.id, again.failures) == (unknown, 0)
        assert (await store.tasks.get(unknown, "default")).crashes == 0
        assert (await store.tasks.get(other, "default")).worker == "w2"


async def test_a_task_that_is_given_again_unheard_is_handed_back_though_its_old_lease_is_known(redis_url: str) -> None:
    """The worker still runs the attempt before."""
    async with open_store(redis_url) as store:
        task_id = await submit(store)
        old = await lease_of(store)
        await store.overdue.reclaim("w1")
        await lease_of(store)

        assert await store.leases.release_unknown("w1", [old], before=1) == [task_id]
        assert await store.leases.release_unknown("w1", [await lease_of(store, round=1)], before=2) == []


class Delays:
    """A way to Redis that can hold up what is said on the connections of before. It arrives when it is let go, whatever
    became of its sender meanwhile, as packets do that had to be sent again."""

    def __init__(self, redis_url: str) -> None:
        parts = urlsplit(redis_url)
        self._redis = (parts.hostname, parts.port)
        self._connections: list[tuple[asyncio.Event, asyncio.Task[None]]] = []
        self._answered = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for _passing, serving in self._connections:
            serving.cancel()
        await asyncio.gather(*(serving for _, serving in self._connections), return_exceptions=True)

    def hold(self) -> None:
        """Hold up what comes on the connections that are open now."""
        for passing, _ in self._connections:
            passing.clear()

    async def let_go(self) -> None:
        """Returns when it was answered."""
        self._answered.clear()
        for passing, _ in self._connections:
            passing.set()
        async with asyncio.timeout(60):
            await self._answered.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = asyncio.Event()
        passing.set()
        self._connections.append((passing, asyncio.create_task(self._serve(reader, writer, passing))))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
        answers, questions = await asyncio.open_connection(*self._redis)

        async def answer() -> None:
            while data := await answers.read(1 << 16):
                writer.write(data)
                self._answered.set()

        answering = asyncio.create_task(answer())
        try:
            while data := await reader.read(1 << 16):
                await passing.wait()
                questions.write(data)
            await answering
        finally:
            answering.cancel()
            questions.close()
            writer.close()
            await asyncio.gather(answering, questions.wait_closed(), return_exceptions=True)


async def test_a_claim_that_arrives_after_its_worker_has_given_it_up_gets_nothing(redis_url: str) -> None:
    async with open_store(redis_url) as store, Delays(redis_url) as way:
        async with connect(RedisSettings(url=way.url)) as client:
            worker = Store(Engine(client, store.namespace, QueueSettings(), patience_s=1.0))
            (
                await claim(worker),
                await worker.leases.release_unknown("w1", [], before=0),
            )  # Redis knows the scripts from here on
            task_id = await submit(store)
            way.hold()
            with pytest.raises(StoreUnavailable):
                await claim(worker)

            assert await worker.leases.release_unknown("w1", [], before=1) == [], "it has not arrived yet"
            await way.let_go()

            assert (await store.tasks.get(task_id, "default")).state is State.PENDING
            assert (await lease_of(worker, round=1)).id == task_id


async def several(store: Store, most: int, **options: Any) -> list[Claim]:
    return await store.leases.claim_several(most, **{"worker": "w1", "device": "cpu", "models": [MODEL]} | options)


async def test_several_tasks_are_claimed_in_one_round_trip_in_the_order_of_single_claims(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        low, normal, high = [await submit(store, priority=p) for p in (Priority.LOW, Priority.NORMAL, Priority.HIGH)]
        others = [await submit(store, caller=caller) for caller in ("alice", "bob", "alice")]

        claims = await several(store, 9)

        leases = [claim.lease for claim in claims if claim.lease]
        assert [lease.id for lease in leases] == [high, normal, others[1], others[0], others[2], low]
        assert claims[-1].lease is None
        assert len(claims) == 7
        assert not await store.leases.renew(worker_info(), leases)


async def test_no_more_tasks_are_claimed_than_were_asked_for(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = [await submit(store) for _ in range(3)]

        claims = await several(store, 2)

        assert [claim.lease.id for claim in claims if claim.lease] == ids[:2]
        assert len(claims) == 2
        assert await claimed_ids(store, 1) == ids[2:]


async def test_a_low_task_is_served_in_time_when_several_are_claimed_at_once(redis_url: str) -> None:
    async with open_store(redis_url, starvation_guard=3) as store:
        low = await submit(store, priority=Priority.LOW)
        for _ in range(6):
            await submit(store, priority=Priority.HIGH)

        claims = await several(store, 7)

        assert [claim.lease.id for claim in claims if claim.lease].index(low) == 3


async def test_a_late_task_behind_others_ends_with_the_next_claim(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first, late = await submit(store), await submit(store, start_within_s=0.02)
        last = await submit(store)
        await asyncio.sleep(0.03)

        before, after = await several(store, 3), await several(store, 3)

        assert [claim.lease and claim.lease.id for claim in before] == [first, None]
        assert before[-1] == Claim(None, 0.0)
        assert [claim.lease and claim.lease.id for claim in after] == [last]
        assert (await store.tasks.get(late, "default")).state is State.EXPIRED


@pytest.mark.parametrize("field", ["cost", "created"])
async def test_a_damaged_task_behind_others_takes_none_of_them_with_it(redis_url: str, field: str) -> None:
    async with open_store(redis_url) as store:
        first, damaged, last = [await submit(store) for _ in range(3)]
        await store.engine.pipelined([("HSET", store.engine.keys.task(damaged), field, "many")])

        before = await several(store, 3)
        set_aside = [one.id for one in await store.unreadable()]
        after = await several(store, 3)

        assert [claim.lease and claim.lease.id for claim in before] == [first, None]
        assert set_aside == [damaged]
        assert [claim.lease and claim.lease.id for claim in after] == [last, None]
