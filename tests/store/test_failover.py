"""Redis that fails over to another server, which sentinels or nodes of a cluster name. Under load: `tests/chaos`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from penstock.cli.doctor.redis import check_redis
from penstock.errors import StoreUnavailable
from penstock.settings import QueueSettings, RedisSettings, Settings
from penstock.store import Engine, Redis, Store, connect, topology_of
from penstock.store.failures import WrongServer
from tests.support.redis_fleets import ClusterFleet, SentinelFleet, client_of
from tests.support.redis_server import RedisProcess
from tests.support.stores import submission, submit

NAMESPACE = "failover"
PATIENCE_S = 30.0
"""A busy machine may take seconds for what is there at once; where something must be missed, there is less patience."""
SENTINEL_PASSWORD = "of-the-sentinels"


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelFleet]:
    """One sentinel, which need not wait for others."""
    directory = tmp_path_factory.mktemp("sentinel")
    with SentinelFleet(directory, replicas=1, sentinels=1, password=SENTINEL_PASSWORD) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFleet]:
    with ClusterFleet(tmp_path_factory.mktemp("cluster"), replicas=False, tag=NAMESPACE) as fleet:
        yield fleet


def settings_for(url: str, **more: object) -> RedisSettings:
    given = {"url": url, "namespace": NAMESPACE, "sentinel_password": SENTINEL_PASSWORD, "timeout_s": PATIENCE_S}
    return RedisSettings(**given | more)  # type: ignore[arg-type]


def store_of(client: Redis) -> Store:
    return Store(Engine(client, NAMESPACE, QueueSettings(), patience_s=PATIENCE_S))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Redis, Store]]:
    async with connect(settings_for(url)) as client:
        yield client, store_of(client)


async def submitted_at_last(store: Store) -> str:
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailable):
                return await submit(store)
            await asyncio.sleep(0.02)


async def port_of(client: Redis) -> int:
    return int((await client.info("server"))["tcp_port"])


async def test_everything_goes_to_the_master_that_the_sentinels_name(sentinel: SentinelFleet) -> None:
    async with opened(sentinel.url) as (client, store):
        await submit(store)
        old, ends = sentinel.master(), store.tasks.ends()
        assert await anext(ends) == ""
        assert await port_of(client) == old.port

        await asyncio.to_thread(sentinel.fail_over)
        while await asyncio.to_thread(sentinel.master) is old:
            await asyncio.sleep(0.02)
        async with asyncio.timeout(60):  # the old one is a master still, and says so
            while await port_of(client) == old.port:
                await submitted_at_last(store)
        task_id = await submitted_at_last(store)

        assert await asyncio.wait_for(anext(ends), 60) == "", "and those that listen"
        await store.tasks.cancel(task_id, "default")
        async with asyncio.timeout(60):
            while await anext(ends) != task_id:
                pass
        await ends.aclose()


async def test_a_server_that_is_no_master_is_left_whatever_a_sentinel_says(sentinel: SentinelFleet) -> None:
    with client_of(sentinel.master()) as master:
        async with opened(sentinel.url) as (client, store):
            master.replicaof("127.0.0.1", "1")
            try:
                with pytest.raises(WrongServer):
                    await client.ping()  # a replica would answer, and let in who listens
                with pytest.raises(StoreUnavailable, match="fails over to another server"):
                    await submit(store)
            finally:
                master.replicaof("NO", "ONE")
            assert await submitted_at_last(store)


async def test_doctor_says_who_would_take_over(sentinel: SentinelFleet, cluster: ClusterFleet) -> None:
    for fleet, said in (
        (sentinel, "is the master for 1 of 1 sentinels, of which 1 must find it down"),
        (cluster, f"has slot {cluster.slot} of the cluster, that of our keys"),
    ):
        found = [one async for one in check_redis(Settings(redis=settings_for(fleet.url)))]
        (failover,) = [one for one in found if one.check == "failover"]
        assert f"127.0.0.1:{fleet.master().port} {said}; replicas: " in failover.found


async def test_sentinels_that_do_not_know_the_master_are_told_from_those_that_do(sentinel: SentinelFleet) -> None:
    async with opened(sentinel.url) as (client, _):
        topology = await topology_of(client)
    assert topology is not None
    assert (topology.sentinels, topology.agree, topology.quorum) == (1, 1, 1)

    async with opened(sentinel.url.replace("/the-master", "/another")) as (client, store):
        with pytest.raises(StoreUnavailable, match="correct the name of the master"):
            await submit(store)

    wrong = RedisSettings(url=sentinel.url, sentinel_password="wrong")
    async with connect(wrong) as client:
        with pytest.raises(StoreUnavailable, match=r"correct redis\.sentinel_password"):
            await topology_of(client)


async def test_the_node_that_has_our_keys_is_found_when_they_have_moved(cluster: ClusterFleet) -> None:
    async with opened(cluster.url) as (client, store):
        first = await submit(store)
        assert await port_of(client) == cluster.master().port
        ends = store.tasks.ends()
        assert await anext(ends) == ""

        assert await asyncio.to_thread(lambda: cluster.move_slot(cluster.another())) > 0

        second = await submitted_at_last(store)
        assert await port_of(client) == cluster.master().port
        assert {(await store.tasks.get(one, "default")).id for one in (first, second)} == {first, second}
        assert await asyncio.wait_for(anext(ends), 60) == "", "those that listen are told to look"
        await ends.aclose()


async def test_while_keys_move_one_by_one_nothing_is_written_to_either_node(cluster: ClusterFleet) -> None:
    """A script at the new node would take what has not come yet for absent."""
    source, target = cluster.master(), cluster.another()
    async with opened(cluster.url) as (_, store):
        task_id = await submit(store)
        keys = cluster.ask(source, "DBSIZE")
        cluster.ask(target, "CLUSTER", "SETSLOT", cluster.slot, "IMPORTING", cluster.id_of(source))
        cluster.ask(source, "CLUSTER", "SETSLOT", cluster.slot, "MIGRATING", cluster.id_of(target))
        try:
            with pytest.raises(StoreUnavailable, match="moving its keys"):
                await submit(store)
            assert (cluster.ask(source, "DBSIZE"), cluster.ask(target, "DBSIZE")) == (keys, 0)
        finally:
            for node in (source, target):
                cluster.ask(node, "CLUSTER", "SETSLOT", cluster.slot, "STABLE")
        assert (await store.tasks.get(task_id, "default")).id == task_id


# --- redis.wait_replicas ----------------------------------------------------------------------------------------------


@pytest.fixture
def replica(own_redis: RedisProcess, tmp_path: Path) -> Iterator[RedisProcess]:
    directory = tmp_path / "replica"
    directory.mkdir()
    with RedisProcess(directory) as server, client_of(own_redis) as master:
        master.config_set("repl-diskless-sync-delay", 0)
        with client_of(server) as client:
            client.replicaof("127.0.0.1", str(own_redis.port))
            while client.info("replication")["master_link_status"] != "up":
                pass
        yield server


async def test_a_submit_is_acknowledged_when_a_replica_has_it_and_not_before(
    own_redis: RedisProcess, replica: RedisProcess
) -> None:
    async with connect(settings_for(own_redis.url, wait_replicas=1)) as client:
        store = store_of(client)
        task_id = await submitted_at_last(store)
        with client_of(replica) as copy:
            assert copy.exists(store.tasks._keys.task(task_id))

        replica.kill()
        with pytest.raises(StoreUnavailable, match=r"has not been copied to 1 replicas .* client_request_id"):
            await submit(store, client_request_id="again")
        await asyncio.to_thread(replica.start)
        with client_of(replica) as copy:
            copy.replicaof("127.0.0.1", str(own_redis.port))

        made = submission(client_request_id="again")
        async with asyncio.timeout(60):
            while True:
                with suppress(StoreUnavailable):
                    assert (await store.tasks.submit(made, rate_limit=0)).replayed
                    return


async def test_who_submits_at_once_waits_together(own_redis: RedisProcess, replica: RedisProcess) -> None:
    async with connect(settings_for(own_redis.url, wait_replicas=1)) as client:
        store = store_of(client)
        await submitted_at_last(store)
        await asyncio.gather(*(submit(store) for _ in range(200)))
        waits = (await client.info("commandstats"))["cmdstat_wait"]["calls"]

    assert waits < 50


async def test_what_the_next_master_does_not_have_is_not_acknowledged(
    own_redis: RedisProcess, replica: RedisProcess
) -> None:
    """The failover came between the submit and the wait: the replicas of the next master have all that it has."""
    async with connect(settings_for(own_redis.url, wait_replicas=1)) as client:
        engine = Engine(client, NAMESPACE, QueueSettings(), patience_s=PATIENCE_S)
        await submitted_at_last(Store(engine))

        with pytest.raises(StoreUnavailable, match="has not been copied"):
            await engine.copied(engine.keys.task("tsk_of-the-master-before"))
