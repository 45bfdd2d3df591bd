"""A channel is heard over a connection of its own, in order, and its death is noticed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import ConnectionError  # noqa: A004  the vendor's name

from penstock.settings import RedisSettings
from penstock.store import subscription
from penstock.store.connection import connect, listen
from penstock.store.subscription import HELD, Subscription
from tests.support.redis_server import RedisProcess

CHANNEL = "a channel"


@pytest.fixture
async def heard(own_redis: RedisProcess) -> AsyncIterator[Subscription]:
    options: Any = parse_url(own_redis.url)
    opened = Subscription(Connection(**options), CHANNEL, timeout_s=60)
    await opened.open()
    yield opened
    await opened.aclose()


@pytest.fixture
async def other(own_redis: RedisProcess) -> AsyncIterator["redis.asyncio.Redis[bytes]"]:
    async with redis.asyncio.Redis.from_url(own_redis.url) as client:
        yield client


async def test_a_slow_listener_misses_nothing_and_holds_little(
    heard: Subscription, other: "redis.asyncio.Redis[bytes]"
) -> None:
    sent = [f"{number} {'x' * 1000}" for number in range(20 * HELD)]
    for at in range(0, len(sent), HELD):
        async with other.pipeline(transaction=False) as pipe:
            for message in sent[at : at + HELD]:
                pipe.publish(CHANNEL, message)
            await pipe.execute()

    assert len(heard._came) < 3 * HELD
    assert [await heard.next() for _ in sent] == sent


async def test_a_server_that_falls_silent_is_noticed(
    own_redis: RedisProcess, heard: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "PING_EVERY_S", 0.05)
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        heard._ping()
        with pytest.raises(ConnectionError, match="ping"):
            await asyncio.wait_for(heard.next(), 60)
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)


async def test_listeners_move_to_the_new_server_with_the_shared_connection(
    own_redis: RedisProcess, other: "redis.asyncio.Redis[bytes]"
) -> None:
    """After a failover the address leads there, and the old one may go on answering for ever."""
    async with connect(RedisSettings(url=own_redis.url)) as client:
        messages = listen(client, CHANNEL)
        assert await anext(messages) == ""
        await client.run("ping", "{test}:", patience_s=60)
        client._multiplexer.leave()
        await client.run("ping", "{test}:", patience_s=60)

        assert await asyncio.wait_for(anext(messages), 60) == ""
        await other.publish(CHANNEL, "after it")
        assert await anext(messages) == "after it"
        await messages.aclose()
