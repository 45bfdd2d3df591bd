"""A tenant never runs more tasks than its cap, whoever claims; what waits at the cap delays nobody and is not lost."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from penstock.core.lease import Lease
from penstock.core.task import PRIORITIES, ErrorRecord, Outcome, Priority, Result, State
from penstock.store import Store
from penstock.store.caps import EVERYBODY
from tests.support.queue_snapshot import check_flows, take_snapshot
from tests.support.stores import MODEL, open_store, submission

TENANTS = ("north", "south", "west", "east")
MODELS = ("upscale", "score", "caption")
PROBLEM = ErrorRecord(code="internal", message="a problem", retryable=True)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with open_store(redis_url, lease_s=30) as opened:
        yield opened


async def submit(store: Store, tenant: str, *, model: str = MODEL, priority: Priority = Priority.NORMAL) -> str:
    made = replace(submission(model=model, priority=priority), tenant=tenant)
    return (await store.tasks.submit(made, rate_limit=0)).id


async def claim(store: Store, *models: str, worker: str = "w1") -> Lease | None:
    return (await store.leases.claim(worker=worker, device="cpu", models=models or [MODEL])).lease


async def complete(store: Store, lease: Lease | None) -> None:
    assert lease
    await store.leases.complete(lease, Outcome(result=Result(data={}), execution={"device_ms": 10.0}))


async def running(store: Store, tenant: str) -> int:
    return (await store.listing.count(tenant))[State.RUNNING]


async def test_i8_workers_that_claim_at_once_never_run_more_than_the_cap(redis_url: str, namespace: str) -> None:
    async with AsyncExitStack() as opened:
        workers = [await opened.enter_async_context(open_store(redis_url, namespace=namespace)) for _ in range(6)]
        await workers[0].caps.set({"north": 3, "south": 0})
        for tenant in ("north", "south"):
            for _ in range(30):
                await submit(workers[0], tenant)
        ran, most = Counter[str](), Counter[str]()

        async def work(store: Store, name: str) -> None:
            while ran.total() < 60:
                leases = [await claim(store, worker=name) for _ in range(2)]
                for tenant in ("north", "south"):
                    most[tenant] = max(most[tenant], await running(store, tenant))
                for lease in filter(None, leases):
                    await complete(store, lease)
                    ran[lease.tenant] += 1

        await asyncio.gather(*(work(store, f"w{n}") for n, store in enumerate(workers)))

    assert ran == {"north": 30, "south": 30}
    assert most["north"] <= 3 < most["south"]


async def test_what_waits_at_a_cap_is_passed_by_the_tasks_of_others(store: Store) -> None:
    await store.caps.set({EVERYBODY: 1})
    await submit(store, "north", priority=Priority.HIGH)
    await submit(store, "north", priority=Priority.HIGH)
    other = await submit(store, "south", priority=Priority.LOW)

    assert await claim(store)
    second = await claim(store)
    assert second
    assert second.id == other
    assert await claim(store) is None


async def retry(store: Store, lease: Lease) -> object:
    return await store.leases.retry(lease, PROBLEM, delay_ms=3_600_000)


async def fail(store: Store, lease: Lease) -> object:
    return await store.leases.fail(lease, Outcome(error=PROBLEM))


async def cancel(store: Store, lease: Lease) -> object:
    return await store.tasks.cancel(lease.id, lease.tenant)


async def lose_worker(store: Store, lease: Lease) -> object:
    await store.overdue.reclaim("w1")
    return await store.tasks.cancel(lease.id, lease.tenant)  # it would be claimed first


async def lose_answer(store: Store, lease: Lease) -> object:
    await store.leases.release_unknown("w1", [], before=0)
    return await store.tasks.cancel(lease.id, lease.tenant)


@pytest.mark.parametrize("end", [complete, retry, fail, cancel, lose_worker, lose_answer])
async def test_each_way_out_of_running_lets_the_next_task_run(
    store: Store, end: Callable[[Store, Lease], Awaitable[object]]
) -> None:
    await store.caps.set({"north": 1})
    await submit(store, "north")
    second = await submit(store, "north", model="another")
    first = await claim(store)
    assert first
    assert await claim(store, "another", worker="w2") is None

    signals = store.workers.signals()
    assert await anext(signals) == ("look", "")
    await end(store, first)
    async with asyncio.timeout(60):
        while await anext(signals) != ("queued", "another"):
            pass

    lease = await claim(store, "another", worker="w2")
    assert lease
    assert lease.id == second


@pytest.mark.parametrize("caps", [{"north": 2}, {"north": 0, EVERYBODY: 1}, {}])
async def test_a_raised_or_removed_cap_lets_a_waiting_tenant_go_on(store: Store, caps: dict[str, int]) -> None:
    await store.caps.set({"north": 1})
    await submit(store, "north")
    await submit(store, "north")
    assert await claim(store)
    assert await claim(store) is None

    assert await store.caps.review() == 0
    await store.caps.set(caps)
    assert await store.caps.review() == 1
    assert await claim(store)


async def test_a_cap_counts_the_tasks_that_ran_before_it_was_set(store: Store) -> None:
    for _ in range(3):
        await submit(store, "north")
    before = [await claim(store), await claim(store)]
    await store.caps.set({"north": 1})

    for lease in before:
        assert await claim(store) is None
        await complete(store, lease)
    await store.caps.review()
    assert await claim(store)


async def test_a_tenant_that_waited_at_its_cap_is_owed_no_device_time(store: Store) -> None:
    await submit(store, "west")
    await complete(store, await claim(store))  # from now on it is known how long a task takes
    await store.caps.set({"north": 1})
    for _ in range(12):
        await submit(store, "north")
        await submit(store, "south")
    held = await claim(store)
    assert held
    assert held.tenant == "north"
    for _ in range(6):
        lease = await claim(store)
        assert lease
        assert lease.tenant == "south"
        await complete(store, lease)

    await store.caps.set({})
    await complete(store, held)
    after = [lease.tenant for _ in range(6) if (lease := await claim(store))]

    assert Counter(after)["north"] in (3, 4)


async def test_setting_the_same_caps_again_changes_nothing(store: Store) -> None:
    assert await store.caps.set({"north": 1, EVERYBODY: 2})
    assert not await store.caps.set({EVERYBODY: 2, "north": 1})
    assert await store.caps.set({EVERYBODY: 2})
    assert await store.caps.set({EVERYBODY: 0})
    assert not await store.caps.set({})


class Histories:
    """Random calls of callers, workers and operators, beside the caps that hold."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.chance = store, random.Random(seed)
        self.caps: dict[str, int] = {}
        self.leases: list[Lease] = []
        self.paused: set[str] = set()
        self.acts = {
            self.submit: 8, self.claim: 9, self.end: 6, self.cancel: 1, self.set_caps: 1, self.pause: 0.5,
            self.resume: 1, self.lose_worker: 0.3,
        }  # fmt: skip

    async def act(self) -> None:
        (act,) = self.chance.choices(list(self.acts), list(self.acts.values()))
        await act()

    async def submit(self) -> None:
        tenant, model = self.chance.choice(TENANTS), self.chance.choice(MODELS)
        await submit(self.store, tenant, model=model, priority=self.chance.choice(PRIORITIES))

    async def claim(self, *, served: tuple[str, ...] = ()) -> bool:
        served = served or tuple(self.chance.sample(MODELS, self.chance.randint(1, 3)))
        before = {tenant: await running(self.store, tenant) for tenant in TENANTS}
        answer = await self.store.leases.claim(worker="w1", device="cpu", models=served)
        if answer.lease:
            cap = self.cap_of(answer.lease.tenant)
            assert not cap or before[answer.lease.tenant] < cap
            self.leases.append(answer.lease)
        elif answer.next_due_s is None:
            waiting = await self.waiting(served)
            assert all(0 < self.cap_of(tenant) <= before[tenant] for tenant in waiting), "none that may run waits"
        return answer.lease is not None

    async def waiting(self, served: tuple[str, ...]) -> set[str]:
        """Returns the tenants with tasks in queues of these models that are not paused."""
        snapshot = await take_snapshot(self.store.engine.client, self.store.namespace)
        check_flows(snapshot)
        queues = snapshot.under("queue:").items()
        members = [m for queue, found in queues if queue.split(":")[0] in set(served) - self.paused for m in found]
        return {member.partition("/")[0] for member in members}

    async def end(self) -> None:
        if self.leases:
            lease = self.leases.pop(self.chance.randrange(len(self.leases)))
            if self.chance.random() < 0.2:
                await self.store.leases.release(lease)
            else:
                await complete(self.store, lease)

    async def cancel(self) -> None:
        if self.leases:
            lease = self.chance.choice(self.leases)
            if (await self.store.tasks.get(lease.id, lease.tenant)).state is State.RUNNING:
                await self.store.tasks.cancel(lease.id, lease.tenant)

    async def set_caps(self) -> None:
        some = self.chance.sample((*TENANTS, EVERYBODY), self.chance.randint(0, 4))
        self.caps = {tenant: self.chance.randint(0, 3) for tenant in some}
        await self.store.caps.set(self.caps)
        await self.store.caps.review()

    async def pause(self) -> None:
        model = self.chance.choice(MODELS)
        self.paused.add(model)
        await self.store.queues.pause(model, PRIORITIES, by="somebody")

    async def resume(self) -> None:
        for model in sorted(self.paused):
            await self.store.queues.resume(model, PRIORITIES)
        self.paused.clear()

    async def lose_worker(self) -> None:
        await self.store.overdue.reclaim("w1")
        self.leases.clear()

    def cap_of(self, tenant: str) -> int:
        return self.caps.get(tenant, self.caps.get(EVERYBODY, 0))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_a_claim_gives_what_may_run_and_nothing_else(store: Store, seed: int) -> None:
    histories = Histories(store, seed)

    for _ in range(400):
        await histories.act()
        await store.caps.review()
    await histories.resume()
    while histories.leases or await histories.claim(served=MODELS):
        await histories.end()

    assert await histories.waiting(MODELS) == set()
