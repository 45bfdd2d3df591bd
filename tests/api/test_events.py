"""Watching a task: server-sent events."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import redis.asyncio

from penstock.api.routes import events
from penstock.core.task import Progress
from penstock.settings import RedisSettings, Settings
from penstock.storage import Storage
from penstock.store import Engine, Store, connect
from penstock.store.connection import POOL_SIZE
from tests.support import api_server
from tests.support.drive import body, claim, complete, fail
from tests.support.redis_server import RedisProcess

pytestmark = pytest.mark.shared_server

Event = dict[str, Any]
"""`id`, `event` and `data`, decoded; a comment is {"comment": text}."""


async def submitted(client: httpx.AsyncClient) -> str:
    """Path of a new task."""
    return str((await client.post("/v1/tasks", json=body())).headers["Location"])


@asynccontextmanager
async def watching(client: httpx.AsyncClient, path: str, last: str | None = None) -> AsyncIterator["Stream"]:
    """The events of a task."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", f"{path}/events", headers=headers) as answer:
        yield Stream(answer)


class Stream:
    """Events as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._blocks = self._read()

    async def next(self) -> Event:
        """The next one; it comes soon, or the test fails."""
        async with asyncio.timeout(60):
            return await anext(self._blocks)

    async def rest(self) -> list[Event]:
        """All that come until the server ends the stream, which is soon."""
        async with asyncio.timeout(60):
            return [event async for event in self._blocks]

    async def _read(self) -> AsyncIterator[Event]:
        block: dict[str, str] = {}
        async for line in self.answer.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                block[name or "comment"] = value
            elif block != {"retry": "2000"}:
                yield block | ({"data": json.loads(block["data"])} if "data" in block else {})
            if not line:
                block = {}


async def test_the_life_of_a_task_is_told_from_its_state_to_its_end(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    path = await submitted(client)
    waiting = (await client.get(path)).json()

    async with watching(client, path) as stream:
        first = await stream.next()
        lease = await claim(store)
        claimed = await stream.next()
        await store.leases.progress(lease, "infer", Progress(done=20, total=50))
        inferring = await stream.next()
        await store.leases.progress(lease, "infer", Progress(done=21, total=50))
        progress = await stream.next()
        await store.leases.release(lease)
        released = await stream.next()
        file = await complete(store, storage, b"bytes of a result")
        *_, completed = await stream.rest()

    headers = stream.answer.headers
    assert headers["Content-Type"].startswith("text/event-stream")
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
    assert (first["event"], first["data"]) == ("status", waiting)
    assert (claimed["event"], claimed["data"]["status"], claimed["data"]["stage"]) == ("status", "RUNNING", "fetch")
    assert (inferring["event"], inferring["data"]["stage"]) == ("status", "infer")
    assert progress["event"] == "progress"
    assert progress["data"] == {"ratio": 0.42, "unit": "tiles", "done": 21, "total": 50}
    assert (released["event"], released["data"]["status"]) == ("status", "PENDING")
    assert (completed["event"], completed["data"]) == ("completed", (await client.get(path)).json())
    assert completed["data"]["result"]["sha256"] == file.sha256
    assert completed["id"] == (await client.get(path)).headers["ETag"].strip('"')


async def test_a_stream_begins_by_saying_when_to_come_back(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await fail(store)

    answer = await client.get(f"{path}/events")

    retry, completed, end = answer.text.split("\n\n")
    assert retry == "retry: 2000"
    assert completed.split("\n")[1] == "event: completed"
    assert end == ""


async def test_who_comes_back_gets_what_was_missed_and_no_more(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    lease = await claim(store)
    await store.leases.progress(lease, "infer", Progress(done=20, total=50))
    async with watching(client, path) as stream:
        last = (await stream.next())["id"]

    async with watching(client, path, last) as unchanged:
        await store.leases.progress(lease, "infer", Progress(done=21, total=50))
        first_news = await unchanged.next()
    async with watching(client, path, last) as moved_on:
        progress = await moved_on.next()
    await store.leases.release(lease)
    async with watching(client, path, last) as released:
        status = await released.next()

    assert first_news == progress
    assert (progress["event"], progress["data"]["done"]) == ("progress", 21)
    assert (status["event"], status["data"]["status"]) == ("status", "PENDING")


async def test_who_knows_the_end_is_told_not_to_come_back(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)
    await fail(store)
    async with watching(client, path) as stream:
        (completed,) = await stream.rest()

    again = await client.get(f"{path}/events", headers={"Last-Event-ID": completed["id"]})

    assert (again.status_code, again.content) == (204, b"")


@pytest.mark.parametrize("last", ["", "SUCCESS.1.done.0", "1731000000123-0", "." * 1000])
async def test_an_event_of_another_time_makes_a_whole_stream(client: httpx.AsyncClient, last: str) -> None:
    path = await submitted(client)

    async with watching(client, path, last) as stream:
        first = await stream.next()

    assert (first["event"], first["data"]["status"]) == ("status", "PENDING")


async def test_there_is_no_stream_of_a_task_that_is_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/tasks/tsk_0/events")

    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")


async def test_a_quiet_stream_is_kept_alive_and_brings_the_position_up_to_date(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, path = await submitted(client), await submitted(client)
    monkeypatch.setattr(events, "LOOK_EVERY_S", 0.2)

    async with watching(client, path) as stream:
        first = await stream.next()
        comment = await stream.next()
        await client.post(f"{ahead}/cancel")
        while "data" not in (moved := await stream.next()):
            pass

    assert first["data"]["queue_position"] == 1
    assert comment == {"comment": "keep-alive"}
    assert (moved["event"], moved["data"]["queue_position"]) == ("status", 0)


async def test_many_watch_and_hold_no_connections(client: httpx.AsyncClient, store: Store) -> None:
    path = await submitted(client)

    async def watch() -> list[str]:
        async with watching(client, path) as stream:
            await stream.next()
            started.release()
            return [event["event"] for event in await stream.rest()]

    started = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(watch()) for _ in range(POOL_SIZE + 8)]
        for _ in watchers:
            await started.acquire()
        await client.post(f"{path}/cancel")

    assert {tuple(watcher.result()) for watcher in watchers} == {("completed",)}


async def test_a_watcher_who_leaves_is_forgotten(client: httpx.AsyncClient, settings: Settings, redis_url: str) -> None:
    path = await submitted(client)
    channel = f"{{{settings.redis.namespace}}}:changed:{path.rpartition('/')[2]}"

    async with redis.asyncio.Redis.from_url(redis_url) as admin:

        async def until_heard_by(count: int) -> None:
            async with asyncio.timeout(60):
                while (await admin.pubsub_numsub(channel))[0][1] != count:
                    await asyncio.sleep(0.01)

        async with watching(client, path) as one, watching(client, path) as other:
            await one.next()
            await other.next()
            await until_heard_by(1)
        await until_heard_by(0)


async def test_a_task_of_one_server_is_watched_at_another(settings: Settings, store: Store, api_key: str) -> None:
    headers = {"X-API-Key": api_key}
    with api_server.in_thread(settings) as here, api_server.in_thread(settings) as there:
        async with (
            httpx.AsyncClient(base_url=here, headers=headers, timeout=30) as one,
            httpx.AsyncClient(base_url=there, headers=headers, timeout=30) as other,
        ):
            path = await submitted(one)
            async with watching(other, path) as stream:
                await stream.next()
                await one.post(f"{path}/cancel")
                (completed,) = await stream.rest()

    assert (completed["event"], completed["data"]["status"]) == ("completed", "CANCELED")


async def test_a_server_that_stops_ends_its_streams(settings: Settings, api_key: str) -> None:
    with api_server.ServerProcess(settings) as server:
        headers = {"X-API-Key": api_key}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
            path = await submitted(client)
            async with watching(client, path) as stream:
                await stream.next()
                server.process.send_signal(signal.SIGTERM)
                rest = await stream.rest()
        code = await asyncio.to_thread(server.process.wait, 10)

    assert (rest, code) == ([], 0)


async def test_a_stream_outlives_a_restart_of_redis(settings: Settings, own_redis: RedisProcess, api_key: str) -> None:
    on_own = RedisSettings(url=own_redis.url, namespace="test")
    with api_server.in_thread(msgspec.structs.replace(settings, redis=on_own)) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            path = await submitted(client)
            async with watching(client, path) as stream:
                await stream.next()
                own_redis.kill()
                own_redis.start()
                async with connect(on_own) as opened:
                    await Store(Engine(opened, "test", settings.queue)).tasks.cancel(path.rpartition("/")[2], "default")
                *_, completed = await stream.rest()

    assert (completed["event"], completed["data"]["status"]) == ("completed", "CANCELED")
