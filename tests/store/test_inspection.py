"""What is said at start of a server that may lose what it has acknowledged."""

import asyncio
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.settings import RedisSettings
from penstock.store import Redis, check_server, connect, exposure
from penstock.store.keys import Keys
from tests.support.redis_server import RedisProcess
from tests.support.stores import open_store, submit


async def warnings_at(url: str) -> list[str]:
    async with connect(RedisSettings(url=url)) as client:
        return await check_server(client, "test")


def elsewhere(server: RedisProcess) -> str:
    """The same server under an address that is not known to be this machine's."""
    return server.url.replace("127.0.0.1", "127.0.0.2")


async def listen_there(client: Redis, fsync: str) -> None:
    await client.config_set("bind", "127.0.0.1 127.0.0.2")
    await client.config_set("appendfsync", fsync)


async def test_a_server_elsewhere_that_does_not_sync_each_write_is_warned_of(own_redis: RedisProcess) -> None:
    async with connect(RedisSettings(url=own_redis.url)) as client:
        await listen_there(client, "everysec")

        assert any("appendfsync everysec" in warning for warning in await warnings_at(elsewhere(own_redis)))
        assert await warnings_at(own_redis.url) == [], "it goes down with all that could work on"
        await client.config_set("appendfsync", "always")
        assert not any("appendfsync" in warning for warning in await warnings_at(elsewhere(own_redis)))


async def test_re1_a_server_elsewhere_without_password_or_tls_is_warned_of(own_redis: RedisProcess) -> None:
    async with connect(RedisSettings(url=own_redis.url)) as client:
        await listen_there(client, "always")
        open_to_all = await warnings_at(elsewhere(own_redis))
        await client.config_set("requirepass", "a-password")
        with_password = await warnings_at(elsewhere(own_redis).replace("//", "//:a-password@"))

    assert any("requirepass" in warning for warning in open_to_all)
    assert any("rediss://" in warning for warning in open_to_all)
    assert not any("requirepass" in warning for warning in with_password)
    assert any("rediss://" in warning for warning in with_password)


async def test_a_password_with_any_characters_is_given_beside_the_url(own_redis: RedisProcess) -> None:
    async with connect(RedisSettings(url=own_redis.url)) as client:
        await client.config_set("requirepass", "a@b:c#d/e?%")

    async with connect(RedisSettings(url=own_redis.url, password="a@b:c#d/e?%")) as client:
        assert await client.ping()


@pytest.mark.parametrize(
    ("host", "is_encrypted", "is_warned"),
    [("redis.example.com", False, True), ("10.0.0.7", False, True), ("redis", False, False), ("10.0.0.7", True, False)],
)
def test_re1_tls_is_asked_for_where_the_network_may_be_a_strangers(
    host: str, is_encrypted: bool, is_warned: bool
) -> None:
    given = {"host": host, "password": "p"}

    found = exposure.warnings_of(given, is_encrypted=is_encrypted, product="redis", version="8.2.2")

    assert any("rediss://" in warning for warning in found) is is_warned


@pytest.mark.parametrize(
    ("product", "version", "is_mended"),
    [
        ("redis", "7.0.15", False),
        ("redis", "7.2.10", False),
        ("redis", "7.2.11", True),
        ("redis", "7.4.5", False),
        ("redis", "8.2.1", False),
        ("redis", "8.4.0", True),
        ("valkey", "8.0.5", False),
        ("valkey", "8.1.4", True),
        ("valkey", "9.1.2", True),
        ("another", "1.0.0", True),
        ("redis", "unstable", True),
    ],
)
def test_re2_releases_with_a_known_hole_in_lua_are_told_from_mended_ones(
    product: str, version: str, is_mended: bool
) -> None:
    assert exposure.is_mended(product, version) is is_mended


async def test_records_of_another_version_are_refused_with_what_to_do(redis_url: str) -> None:
    async with open_store(redis_url) as store, connect(RedisSettings(url=redis_url)) as client:
        task_id = await submit(store)
        assert await check_server(client, store.namespace) == []
        await client.hset(Keys(store.namespace).task(task_id), "version", "1")

        with pytest.raises(ConfigurationError, match=r"tasks of version 1, .* another redis.namespace"):
            await check_server(client, store.namespace)


async def test_a_server_without_an_append_only_file_is_warned_of(own_redis: RedisProcess) -> None:
    async with connect(RedisSettings(url=own_redis.url)) as client:
        await client.config_set("appendonly", "no")

        (warning,) = await warnings_at(own_redis.url)

    assert "appendonly yes" in warning


async def test_a_master_that_waits_for_no_replica_is_warned_of(own_redis: RedisProcess, tmp_path: Path) -> None:
    directory = tmp_path / "replica"
    directory.mkdir()
    with RedisProcess(directory) as replica:
        async with connect(RedisSettings(url=own_redis.url)) as master:
            async with connect(RedisSettings(url=replica.url)) as client:
                host, port = own_redis.url.removeprefix("redis://").partition("/")[0].split(":")
                await client.replicaof(host, port)
            while not (await master.info("replication"))["connected_slaves"]:
                await asyncio.sleep(0.02)

            (warning,) = await warnings_at(own_redis.url)
            assert "min-replicas-to-write 1" in warning
            (warning,) = await warnings_at(replica.url)
            assert "takes no writes" in warning
            await master.config_set("min-replicas-to-write", "1")
            async with asyncio.timeout(60):  # until the replica has said for the first time how far it is
                while await warnings_at(own_redis.url):
                    await asyncio.sleep(0.1)


async def test_replicas_that_submits_would_wait_for_in_vain_are_warned_of(own_redis: RedisProcess) -> None:
    async with connect(RedisSettings(url=own_redis.url, wait_replicas=1)) as client:
        (warning,) = await check_server(client, "test")

    assert warning.startswith("redis.wait_replicas is 1, and Redis has 0 replicas: submits are answered 503")
