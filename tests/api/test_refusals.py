"""Redis that says no, or is no longer the server that it was: what clients hear, and who finds the new one."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis.asyncio
from msgspec.structs import replace
from redis._parsers.base import BaseParser

from penstock.errors import ConfigurationError, StoreUnavailable
from penstock.settings import QueueSettings, RedisSettings, Settings
from penstock.store import Engine, Store, connect
from penstock.store.connection import Pool
from penstock.store.failures import REFUSALS, refusal_of
from tests.chaos.proxy import Proxy
from tests.support import api_server
from tests.support.drive import body
from tests.support.redis_server import RedisProcess, caught_up
from tests.support.stores import MODEL, submission

Client = redis.asyncio.Redis

NOBODY_THERE = ("127.0.0.1", "1")
SETTINGS = {
    "READONLY": [("REPLICAOF", *NOBODY_THERE)],
    "MASTERDOWN": [
        ("CONFIG", "SET", "replica-serve-stale-data", "no"),
        ("CONFIG", "SET", "replica-read-only", "no"),
        ("REPLICAOF", *NOBODY_THERE),
    ],
    "NOREPLICAS": [("CONFIG", "SET", "min-replicas-to-write", "1")],
    "OOM": [("CONFIG", "SET", "maxmemory", "1")],
    "NOPERM": [("ACL", "SETUSER", "default", "-evalsha")],
}
"""What makes a server say each of these."""
FOREIGN_SCRIPT = "while true do end"


@pytest.fixture
def second(tmp_path: Path) -> Iterator[RedisProcess]:
    directory = tmp_path / "second"
    directory.mkdir()
    with RedisProcess(directory) as server:
        yield server


def address(server: RedisProcess) -> str:
    return urlsplit(server.url).netloc


@pytest.fixture
async def name(own_redis: RedisProcess) -> AsyncIterator[Proxy]:
    """Leads to whatever is the master."""
    proxy = Proxy(address(own_redis), random.Random(1))
    await proxy.start()
    yield proxy
    await proxy.close()


async def submitted_in_time(store: Store) -> str:
    """The id of a task that was taken at last."""
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailable):
                return (await store.tasks.submit(submission(), rate_limit=0)).id
            await asyncio.sleep(0.05)


async def test_a_process_finds_the_new_master_behind_the_same_address(
    own_redis: RedisProcess, second: RedisProcess, name: Proxy
) -> None:
    """The old one stays, as a replica, with every connection that it has."""
    settings = RedisSettings(url=name.url(own_redis.url), namespace="failover")
    async with Client.from_url(own_redis.url) as old, Client.from_url(second.url) as new:
        await new.execute_command("REPLICAOF", *address(own_redis).split(":"))
        async with asyncio.timeout(60):
            while (await new.info("replication"))["master_link_status"] != "up":
                await asyncio.sleep(0.05)
        async with connect(settings) as client:
            store = Store(Engine(client, settings.namespace, QueueSettings()))
            signals = store.workers.signals()
            assert await anext(signals) == ("look", "")
            await store.tasks.submit(submission(), rate_limit=0)
            assert await anext(signals) == ("queued", MODEL)
            assert sum(queue.depth for queue in await store.queues.depths([MODEL])) == 1
            await caught_up(old, new)

            await new.execute_command("REPLICAOF", "NO", "ONE")
            name.lead_to(address(second))
            await old.execute_command("REPLICAOF", *NOBODY_THERE)
            await submitted_in_time(store)

            assert sum(queue.depth for queue in await store.queues.depths([MODEL])) == 2, "also what is only read"
            assert await anext(signals) == ("look", ""), "a listener is led there too, and told to look"


async def test_who_only_listens_is_led_to_the_new_master_when_others_have_found_it(
    own_redis: RedisProcess, second: RedisProcess, name: Proxy
) -> None:
    settings = RedisSettings(url=name.url(own_redis.url), namespace="failover")
    told: asyncio.Queue[str] = asyncio.Queue()
    async with Client.from_url(own_redis.url) as old, connect(settings) as client:
        store = Store(Engine(client, settings.namespace, QueueSettings()))
        changes = store.tasks.changes()
        changes.follow(["tsk_1"])
        await store.tasks.submit(submission(), rate_limit=0)
        watching = asyncio.create_task(changes.run(told.put_nowait))
        assert await told.get() == "tsk_1", "the channel is open"

        name.lead_to(address(second))
        await old.execute_command("REPLICAOF", *NOBODY_THERE)
        await submitted_in_time(store)

        async with asyncio.timeout(60):
            assert await told.get() == "tsk_1", "and open again"
        watching.cancel()


async def test_who_gives_up_on_a_server_asks_nothing_over_connections_to_it(
    own_redis: RedisProcess, second: RedisProcess, name: Proxy
) -> None:
    """It need not have said no: the calls in which it would have may have taken too long."""
    settings = RedisSettings(url=name.url(own_redis.url), namespace="failover")
    async with connect(settings) as client:
        store = Store(Engine(client, settings.namespace, QueueSettings(), patience_s=0.2))
        await store.tasks.submit(submission(), rate_limit=0)
        assert sum(queue.depth for queue in await store.queues.depths([MODEL])) == 1
        async with Client.from_url(own_redis.url) as old:
            await old.client_pause(60_000, all=False)
            with pytest.raises(StoreUnavailable):
                await store.tasks.submit(submission(), rate_limit=0)
            name.lead_to(address(second))
            await submitted_in_time(store)

            assert sum(queue.depth for queue in await store.queues.depths([MODEL])) == 1, "of the second"
            assert (await client.info("server"))["tcp_port"] == urlsplit(second.url).port
            await old.client_unpause()


async def test_a_connection_is_left_when_nobody_uses_it_any_more(own_redis: RedisProcess) -> None:
    """Who has sent a question over it gets his answer."""
    async with connect(RedisSettings(url=own_redis.url)) as client:
        pool = client.connection_pool
        assert isinstance(pool, Pool)
        idle, used = [await pool.get_connection() for _ in range(2)]
        await pool.release(idle)
        before = [await number(connection) for connection in (idle, used)]
        await used.send_command("CLIENT", "ID")

        pool.leave()

        assert await used.read_response() == before[1]
        await pool.release(used)
        again = [await pool.get_connection() for _ in range(2)]
        assert {*again} == {idle, used}
        assert not {await number(connection) for connection in again} & {*before}
        for connection in again:
            await pool.release(connection)


async def number(connection: Any) -> int:
    """By which the server knows it."""
    await connection.send_command("CLIENT", "ID")
    return int(await connection.read_response())


async def test_a_server_that_is_away_for_good_does_not_make_every_call_open_connections(
    own_redis: RedisProcess,
) -> None:
    settings = RedisSettings(url=own_redis.url, namespace="replica")
    async with Client.from_url(own_redis.url) as other, connect(settings) as client:
        store = Store(Engine(client, settings.namespace, QueueSettings()))
        await other.execute_command("REPLICAOF", *NOBODY_THERE)
        before = int((await other.info("stats"))["total_connections_received"])
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                await store.tasks.submit(submission(), rate_limit=0)
        after = int((await other.info("stats"))["total_connections_received"])

    assert after - before < 10


@pytest.mark.parametrize("code", SETTINGS)
async def test_a_refusal_is_said_in_its_own_words(own_redis: RedisProcess, code: str) -> None:
    settings = RedisSettings(url=own_redis.url, namespace="refusing")
    async with Client.from_url(own_redis.url) as other, connect(settings) as client:
        store = Store(Engine(client, settings.namespace, QueueSettings()))
        await store.tasks.submit(submission(), rate_limit=0)
        for command in SETTINGS[code]:
            await other.execute_command(*command)

        with pytest.raises(StoreUnavailable) as caught:
            await store.tasks.submit(submission(), rate_limit=0)

    assert (caught.value.detail, caught.value.retry_after_s) == REFUSALS[code][:2]


async def test_clients_are_told_to_come_back_while_a_foreign_script_holds_the_server(
    settings: Settings, own_redis: RedisProcess, api_key: str
) -> None:
    settings = replace(settings, redis=RedisSettings(url=own_redis.url, namespace="busy"))
    headers = {"X-API-Key": api_key}
    with api_server.in_thread(settings) as url:
        async with (
            Client.from_url(own_redis.url, socket_timeout=30) as other,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client,
        ):
            await other.config_set("lua-time-limit", 1)
            assert (await client.post("/v1/tasks", json=body())).status_code == 202
            holding = asyncio.create_task(other.eval(FOREIGN_SCRIPT, 0))
            async with asyncio.timeout(60):
                while not await is_busy(own_redis):
                    await asyncio.sleep(0.01)
            asked = [
                client.post("/v1/tasks", json=body()),
                client.get("/v1/tasks"),
                client.get("/v1/queues"),
                client.post("/v1/tasks/tsk_0/cancel"),
            ]
            answers = await asyncio.gather(*asked)
            async with Client.from_url(own_redis.url) as killer:
                await killer.script_kill()
            with pytest.raises(redis.exceptions.ResponseError):
                await holding
            again = await client.post("/v1/tasks", json=body())

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"store_unavailable"}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert REFUSALS["BUSY"].detail in {answer.json()["detail"] for answer in answers}
    assert again.status_code == 202


async def is_busy(server: RedisProcess) -> bool:
    async with Client.from_url(server.url) as client:
        try:
            await client.ping()
        except redis.exceptions.ResponseError as error:
            return str(error).startswith("BUSY")
        return False


OF_PASSWORDS = {
    "NOAUTH": "NOAUTH Authentication required.",
    "WRONGPASS": "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPASS": "ERR AUTH <password> called without any password configured for the default user. Are you sure your "
    "configuration is correct?",
}
"""For these the vendor has one class, and leaves the word out."""


@pytest.mark.parametrize("code", sorted(REFUSALS.keys() - OF_PASSWORDS.keys()))
@pytest.mark.parametrize("sentence", ["{} and why", "ERR Error running script (f_0): @user_script:1: -{} and why"])
def test_every_refusal_is_known_by_its_word(code: str, sentence: str) -> None:
    """As the vendor gives it, who knows some of the words; and as older servers say it."""
    assert refusal_of(BaseParser.parse_error(sentence.format(code))) is REFUSALS[code]


@pytest.mark.parametrize(("code", "sentence"), OF_PASSWORDS.items())
def test_what_is_wrong_with_a_password_is_known_by_the_sentence(code: str, sentence: str) -> None:
    assert refusal_of(BaseParser.parse_error(sentence)) is REFUSALS[code]


@pytest.mark.parametrize("text", ["ERR unknown command", "BUSYGROUP the group exists", "WRONGTYPE of value"])
def test_what_is_a_fault_of_ours_stays_loud(text: str) -> None:
    assert refusal_of(BaseParser.parse_error(text)) is None


@pytest.mark.parametrize("option", ["protocol=3", "decode_responses=true", "no_such_option=1", "db=two"])
async def test_a_url_with_an_option_that_changes_the_answers_is_refused(redis_url: str, option: str) -> None:
    url = f"{redis_url.removesuffix('/0')}?{option}"

    with pytest.raises(ConfigurationError, match=r"^redis\.url: [^\n]+$"):
        async with connect(RedisSettings(url=url)):
            pass


async def test_the_protocol_that_is_spoken_may_be_said(redis_url: str, namespace: str) -> None:
    settings = RedisSettings(url=f"{redis_url.removesuffix('/0')}?protocol=2&db=0", namespace=namespace)

    async with connect(settings) as client:
        await Store(Engine(client, namespace, QueueSettings())).ping()
