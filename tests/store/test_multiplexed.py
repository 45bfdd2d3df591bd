"""The one connection that everybody asks over: to each his own answer, whatever the others do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import ConnectionError, ResponseError  # noqa: A004  the vendor's name

from penstock.settings import RedisSettings
from penstock.store.connection import Redis, ask, connect, listen
from penstock.store.multiplexed import Multiplexer
from tests.support.redis_server import RedisProcess
from tests.support.tls_front import tls_front

OTHER_CLIENT = "looker-on"


@pytest.fixture
async def shared(own_redis: RedisProcess) -> AsyncIterator[Multiplexer]:
    options: Any = parse_url(own_redis.url)
    opened = Multiplexer(lambda: Connection(**options), timeout_s=5)
    yield opened
    await opened.aclose()


@pytest.fixture
async def other(own_redis: RedisProcess) -> AsyncIterator["redis.asyncio.Redis[bytes]"]:
    async with redis.asyncio.Redis.from_url(own_redis.url, client_name=OTHER_CLIENT) as client:
        yield client


async def until_one_is_left(other: "redis.asyncio.Redis[bytes]") -> int:
    """The id of the connection that is left, beside the other client's."""
    async with asyncio.timeout(60):
        while True:
            ids = [int(row["id"]) for row in await other.client_list() if row["name"] != OTHER_CLIENT]
            if len(ids) == 1:
                return ids[0]
            await asyncio.sleep(0.01)


async def until_unanswered(shared: Multiplexer, *waiting: "asyncio.Task[Any]") -> None:
    """They have asked, and go on waiting: Redis holds back the answers to writes."""
    await asyncio.wait(waiting, timeout=0.1)
    assert not any(task.done() for task in waiting)


async def test_everyone_gets_his_own_answer_over_the_same_connection(shared: Multiplexer) -> None:
    texts = [f"text {n} " * n for n in range(200)]

    assert await asyncio.gather(*(shared.ask("ECHO", text) for text in texts)) == [text.encode() for text in texts]
    assert len(set(await asyncio.gather(*(shared.ask("CLIENT", "ID") for _ in range(20))))) == 1


async def test_answers_come_through_tls_too(own_redis: RedisProcess, tmp_path: Path) -> None:
    with tls_front(tmp_path) as front:
        front.behind = own_redis.url
        url = front.url.replace("https", "rediss")
        async with connect(RedisSettings(url=f"{url}?ssl_ca_certs={front.authority}")) as client:
            texts = [b"text" * n for n in range(1, 40_000, 8_000)]
            echo = str(await client.script_load("return ARGV[1]"))
            echoed = await asyncio.gather(*(client.evalsha(echo, 0, text) for text in texts))

    assert echoed == texts


async def test_a_refusal_reaches_only_him_who_asked_for_it(shared: Multiplexer) -> None:
    answers = await asyncio.gather(
        shared.ask("SET", "name", "text"), shared.ask("INCR", "name"), shared.ask("GET", "name"), return_exceptions=True
    )

    assert (answers[0], answers[2]) == (b"OK", b"text")
    assert isinstance(answers[1], ResponseError)


async def test_who_gives_up_disturbs_nobody(shared: Multiplexer, other: "redis.asyncio.Redis[bytes]") -> None:
    before = await shared.ask("CLIENT", "ID")
    await other.client_pause(60_000, all=False)
    gives_up, waits = (asyncio.create_task(shared.ask("INCRBY", "count", n)) for n in (1, 10))
    await until_unanswered(shared, gives_up, waits)

    gives_up.cancel()
    later = asyncio.create_task(shared.ask("INCRBY", "count", 100))
    await until_unanswered(shared, waits, later)
    await other.client_unpause()

    assert await waits == 11, "both had been sent"
    assert await later == 111
    assert await shared.ask("CLIENT", "ID") != before, "nothing more is asked where somebody waited in vain"
    assert await until_one_is_left(other) != before


async def test_what_is_given_up_before_it_was_sent_is_not_sent(shared: Multiplexer) -> None:
    given_up, wanted = (asyncio.create_task(shared.ask("INCRBY", "count", n)) for n in (1, 10))
    await asyncio.sleep(0)

    given_up.cancel()

    assert await wanted == 10


async def test_nothing_is_left_of_a_connection_on_which_all_gave_up(
    shared: Multiplexer, other: "redis.asyncio.Redis[bytes]"
) -> None:
    await other.client_pause(60_000, all=False)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await shared.ask("INCR", "count")
    await other.client_unpause()

    answer = await shared.ask("CLIENT", "ID")

    assert await until_one_is_left(other) == answer


async def test_an_answer_comes_though_the_loop_was_held_up_for_longer_than_the_time_that_it_may_take(
    shared: Multiplexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    await shared.ask("PING")
    asked = asyncio.create_task(shared.ask("ECHO", "text", within_s=60))
    await asyncio.sleep(0)

    held_up_until = loop.time() + 90
    monkeypatch.setattr(loop, "time", lambda: held_up_until)  # as if a callback had computed all that time

    assert await asked == b"text"


async def test_all_who_wait_are_told_when_the_connection_breaks(
    shared: Multiplexer, own_redis: RedisProcess, other: "redis.asyncio.Redis[bytes]"
) -> None:
    await other.client_pause(60_000, all=False)
    waiting = [asyncio.create_task(shared.ask("INCR", "count")) for _ in range(3)]
    await until_unanswered(shared, *waiting)

    own_redis.kill()

    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError] * 3


async def test_a_restart_between_two_questions_is_not_noticed(shared: Multiplexer, own_redis: RedisProcess) -> None:
    await shared.ask("SET", "name", "text")

    own_redis.kill()
    await asyncio.to_thread(own_redis.start)

    assert await shared.ask("GET", "name") == b"text"


async def test_a_server_that_is_not_there_is_said_at_once_and_found_when_it_is_there(
    shared: Multiplexer, own_redis: RedisProcess
) -> None:
    own_redis.kill()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await shared.ask("PING")

    await asyncio.to_thread(own_redis.start)

    assert await shared.ask("PING") == b"PONG"


async def test_a_connection_that_is_left_still_answers_those_who_wait(
    shared: Multiplexer, other: "redis.asyncio.Redis[bytes]"
) -> None:
    before = await shared.ask("CLIENT", "ID")
    await other.client_pause(60_000, all=False)
    waits = asyncio.create_task(shared.ask("INCRBY", "count", 1))
    await until_unanswered(shared, waits)

    shared.leave()
    now = await shared.ask("CLIENT", "ID")
    await other.client_unpause()

    assert (await waits, now != before) == (1, True)
    assert await until_one_is_left(other) == now


async def test_closing_tells_those_who_wait(shared: Multiplexer, other: "redis.asyncio.Redis[bytes]") -> None:
    await other.client_pause(60_000, all=False)
    waiting = asyncio.create_task(shared.ask("INCR", "count"))
    await until_unanswered(shared, waiting)

    await shared.aclose()

    with pytest.raises(ConnectionError):
        await waiting


async def first_message(client: Redis) -> None:
    """Waits for ever: nobody says anything."""
    async for message in listen(client, "a channel"):
        assert not message


@pytest.mark.parametrize("work", [lambda client: ask(client.ping, patience_s=5), first_message], ids=["ask", "listen"])
async def test_a_call_ends_when_it_is_canceled_in_whatever_turn_of_the_loop_that_is(
    own_redis: RedisProcess, work: Callable[[Redis], Coroutine[Any, Any, Any]]
) -> None:
    """With a new connection each time, since redis-py writes most while it makes one."""
    for turns in range(80):
        async with connect(RedisSettings(url=own_redis.url)) as client:
            call = asyncio.create_task(work(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            is_in_time = call.cancel()
            await asyncio.wait([call], timeout=5)

            assert call.done(), f"it goes on after a cancel in turn {turns}"
            assert call.cancelled() or not is_in_time
