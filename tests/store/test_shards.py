"""Tenants in several shards, on the nodes of a real cluster."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from redis.crc import key_slot

from penstock.cli.doctor.redis import check_redis
from penstock.core.task import State
from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.settings import QueueSettings, RedisSettings, Settings
from penstock.store import Shards, Store, check_server, connect_each, settle_count
from penstock.store.keys import shard_of
from penstock.store.shards import tags_of
from tests.support.redis_fleets import ClusterFleet
from tests.support.redis_server import RedisProcess
from tests.support.stores import MODEL, claim, submit

NAMESPACE, COUNT = "spread", 4
TAGS = tags_of(NAMESPACE, COUNT)
PATIENCE_S = 30.0
TENANTS = {shard_of(name, COUNT): name for name in map("tenant-{}".format, range(40))}
"""One of each shard."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFleet]:
    directory = tmp_path_factory.mktemp("cluster")
    with ClusterFleet(directory, masters=COUNT, replicas=False, tag=NAMESPACE, is_all_or_nothing=False) as fleet:
        yield fleet


def settings_for(url: str, **more: object) -> RedisSettings:
    given = {"url": url, "namespace": NAMESPACE, "shards": COUNT, "timeout_s": PATIENCE_S}
    return RedisSettings(**given | more)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Shards]:
    async with connect_each(settings_for(url)) as clients:
        yield Shards.over(clients, QueueSettings(), patience_s=PATIENCE_S)


def node_of(cluster: ClusterFleet, shard: int) -> RedisProcess:
    return cluster.owner(key_slot(TAGS[shard].encode()))


def scripts_run(cluster: ClusterFleet, node: RedisProcess) -> int:
    """How many scripts a node has run so far."""
    rows = cluster.ask(node, "INFO", "commandstats").decode().splitlines()
    return sum(int(row.partition("calls=")[2].partition(",")[0]) for row in rows if row.startswith("cmdstat_evalsha"))


async def test_a_tenant_is_served_by_the_node_of_its_shard_alone(cluster: ClusterFleet) -> None:
    nodes = [node_of(cluster, shard) for shard in range(COUNT)]
    assert len({node.port for node in nodes}) == COUNT, "masters with equal ranges have a tag each"
    async with opened(cluster.url) as shards:
        for store in shards:
            await store.ping()
        for shard, tenant in TENANTS.items():
            before = [scripts_run(cluster, node) for node in nodes]
            store = shards.of(tenant)
            task_id = await submit(store, tenant=tenant)
            lease = (await claim(store)).lease
            assert lease is not None
            assert (lease.id, lease.tenant) == (task_id, tenant)
            assert await store.leases.release(lease)
            assert await store.tasks.cancel(task_id, tenant)
            assert (await store.tasks.get(task_id, tenant)).state is State.CANCELED
            after = [scripts_run(cluster, node) for node in nodes]
            assert [one for one in range(COUNT) if after[one] > before[one]] == [shard]


async def test_sums_and_lists_are_of_all_shards(cluster: ClusterFleet) -> None:
    async with opened(cluster.url) as shards:
        ids = {tenant: await submit(shards.of(tenant), tenant=tenant) for tenant in TENANTS.values()}
        leases = [(await claim(store)).lease for store in shards]
        waiting = await submit(shards.of(TENANTS[0]), tenant=TENANTS[0])

        totals = shards.totals
        assert (await totals.count_tasks())[State.RUNNING] == COUNT
        assert (await totals.count_tasks())[State.PENDING] == 1
        assert sum(queue.depth for queue in await totals.depths([MODEL])) == 1
        assert {one.task_id for one in await totals.running()} == set(ids.values())
        assert set(TENANTS.values()) <= set(await totals.known_tenants())
        assert await totals.tenant_of(waiting) == TENANTS[0]
        names = [TENANTS[3], TENANTS[0], TENANTS[2]]
        loads = await shards.of_tenants(names, lambda store, some: store.tenants.loads(some))
        assert loads == [(0, 1), (1, 1), (0, 1)]

        for store, lease in zip(shards, leases, strict=True):
            assert lease is not None
            await store.leases.release(lease)
            await store.tasks.cancel(lease.id, lease.tenant)
        await shards.of(TENANTS[0]).tasks.cancel(waiting, TENANTS[0])


async def test_what_is_published_in_a_shard_is_heard_after_its_slot_has_moved(cluster: ClusterFleet) -> None:
    """It stays on one node: the others have nothing of it to pass on. Nothing that was acknowledged is lost."""
    slot, tenant = key_slot(TAGS[1].encode()), TENANTS[1]
    source, target = node_of(cluster, 1), node_of(cluster, 2)
    async with opened(cluster.url) as shards:
        store, other = shards.of(tenant), shards.of(TENANTS[3])
        ends = store.tasks.ends()
        assert await anext(ends) == ""
        accepted, stop = list[str](), asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                with suppress(StoreUnavailable):
                    accepted.append(await submit(store, tenant=tenant))
                await asyncio.sleep(0.01)

        loading = asyncio.create_task(load())
        await until_longer(accepted)
        assert await asyncio.to_thread(cluster.move_slot, target, slot) > 0
        before = scripts_run(cluster, target)
        await until_longer(accepted)
        stop.set()
        await loading
        assert scripts_run(cluster, target) > before, "the other node serves it now"
        await submit(other, tenant=TENANTS[3])

        assert await asyncio.wait_for(anext(ends), 60) == "", "those that listen are told to look"
        for task_id in accepted:
            await store.tasks.cancel(task_id, tenant)
            assert (await store.tasks.get(task_id, tenant)).state is State.CANCELED
        async with asyncio.timeout(60):
            while await anext(ends) != accepted[-1]:
                pass
        await ends.aclose()
        await asyncio.to_thread(cluster.move_slot, source, slot)


async def until_longer(accepted: list[str]) -> None:
    count = len(accepted)
    async with asyncio.timeout(60):
        while len(accepted) < count + 3:
            await asyncio.sleep(0.01)


async def test_a_lost_node_stops_its_tenants_and_no_other(cluster: ClusterFleet) -> None:
    async with opened(cluster.url) as shards:
        ids = {tenant: await submit(shards.of(tenant), tenant=tenant) for tenant in TENANTS.values()}
        lost = node_of(cluster, 1)
        cluster.freeze(lost)
        try:
            unanswered = asyncio.create_task(shards.of(TENANTS[1]).ping())
            for shard in (0, 2, 3):
                store, tenant = shards.of(TENANTS[shard]), TENANTS[shard]
                assert (await store.tasks.get(ids[tenant], tenant)).id == ids[tenant]
                assert await submit(store, tenant=tenant)
            assert not unanswered.done()
            unanswered.cancel()
            async with connect_each(settings_for(cluster.url, timeout_s=0.2)) as clients:
                hasty = Shards.over(clients, QueueSettings(), patience_s=0.2)
                with pytest.raises(StoreUnavailable, match="shard 1: "):
                    await hasty.ping()
                with pytest.raises(StoreUnavailable, match="shard 1: "):
                    await hasty.totals.count_tasks()
        finally:
            cluster.thaw(lost)


@pytest.mark.parametrize(("first", "others"), [(3, (1, 2)), (1, (2, 4))])
async def test_the_number_of_shards_is_settled_with_the_first_start(
    redis_url: str, namespace: str, first: int, others: Sequence[int]
) -> None:
    def given(count: int) -> RedisSettings:
        return RedisSettings(url=redis_url, namespace=namespace, shards=count)

    async def start(count: int) -> None:
        async with connect_each(given(count)) as clients:
            await settle_count(clients)

    await start(first)
    await start(first)
    for other in others:
        with pytest.raises(ConfigurationError, match=f"redis.shards is {other}, and this .* was made with {first}"):
            await start(other)


async def test_tenants_of_one_shard_are_not_looked_for_in_others(store: Store, redis_url: str) -> None:
    settings = RedisSettings(url=redis_url, namespace=store.namespace, shards=COUNT)
    for tenant in TENANTS.values():
        await submit(store, tenant=tenant)
    async with connect_each(settings) as clients:
        with pytest.raises(ConfigurationError, match="was made with 1"):
            await settle_count(clients)


async def test_a_cluster_that_would_stop_as_a_whole_is_warned_of(cluster: ClusterFleet) -> None:
    async with connect_each(settings_for(cluster.url)) as clients:
        (tag, client), *_ = clients.items()
        assert not [warning for warning in await check_server(client, tag) if "coverage" in warning]
        cluster.ask(node_of(cluster, 0), "CONFIG", "SET", "cluster-require-full-coverage", "yes")
        try:
            assert [warning for warning in await check_server(client, tag) if "coverage yes" in warning]
        finally:
            cluster.ask(node_of(cluster, 0), "CONFIG", "SET", "cluster-require-full-coverage", "no")


async def test_doctor_tells_of_each_shard_and_of_another_number_of_them(cluster: ClusterFleet) -> None:
    async def told(count: int) -> list[tuple[str, str]]:
        given = Settings(redis=settings_for(cluster.url, shards=count, timeout_s=0.5))
        return [(one.state, one.found) async for one in check_redis(given) if one.check == "redis"]

    async with connect_each(settings_for(cluster.url)) as clients:
        await settle_count(clients)
    assert [state == "fail" for state, _ in await told(COUNT)] == [False] * COUNT
    (state, found), *others = await told(COUNT - 1)
    assert state == "fail"
    assert "was made with 4" in found
    assert len(others) == COUNT - 2

    lost = node_of(cluster, 1)
    cluster.freeze(lost)
    try:
        states = {found.partition(", shard ")[2][0]: state for state, found in await told(COUNT)}
    finally:
        cluster.thaw(lost)
    assert [shard for shard, state in sorted(states.items()) if state == "fail"] == ["1"]
    assert len(states) == COUNT
