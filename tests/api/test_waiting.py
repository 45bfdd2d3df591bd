"""Waiting for the end of a task on the same connection: `Prefer: wait` on a submit, `?wait` on a read."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import redis.asyncio

from penstock.core.lease import Lease
from penstock.core.task import ErrorRecord, Outcome, Result
from penstock.errors import TaskNotFound
from penstock.settings import RedisSettings, Settings
from penstock.storage import Storage
from penstock.store import Engine, Redis, Store, connect
from penstock.store.connection import POOL_SIZE
from penstock.store.keys import Keys
from tests.support import api_server
from tests.support.drive import MODEL, WORKER, body, complete
from tests.support.redis_server import RedisProcess

LONG = "wait=100"
"""Much longer than any of these tests may take: what is answered was not answered by the end of the wait."""

DONE = Outcome(result=Result(data={"score": 1.0}))


async def post(client: httpx.AsyncClient, prefer: str | None = None, **changes: Any) -> httpx.Response:
    """Submit, with a preference."""
    return await client.post("/v1/tasks", json=body(**changes), headers={} if prefer is None else {"Prefer": prefer})


async def claimed(store: Store) -> Lease:
    """Of the next task, as soon as there is one."""
    while True:
        lease = (await store.leases.claim(worker=WORKER.id, device=WORKER.device, models=[MODEL])).lease
        if lease is not None:
            return lease
        await asyncio.sleep(0.01)


async def until_waiting(client: httpx.AsyncClient, count: int) -> None:
    """Until this many requests wait."""
    shown = None
    async with asyncio.timeout(60):
        while shown != count:
            await asyncio.sleep(0.02)
            found = re.search(r"^penstock_waits (\S+)", (await client.get("/metrics")).text, re.MULTILINE)
            shown = float(found[1]) if found else None


@asynccontextmanager
async def in_background(*asking: Awaitable[httpx.Response]) -> AsyncIterator[asyncio.Future[list[httpx.Response]]]:
    """Send these requests while something else is done; who has no answer by the end hangs up."""
    answers = asyncio.gather(*asking)
    try:
        yield answers
    finally:
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)


async def one(answers: asyncio.Future[list[httpx.Response]]) -> httpx.Response:
    """The only answer; far earlier than a long wait."""
    async with asyncio.timeout(60):
        return (await answers)[0]


# --- a submit -------------------------------------------------------------------------------------------------


async def test_a_task_that_ends_in_time_is_answered_whole(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    async with in_background(post(client, LONG)) as asked:
        await until_waiting(client, 1)
        await complete(store, storage, b"bytes of a result")
        answer = await one(asked)

    read = await client.get(answer.headers["Location"])
    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")
    assert answer.json() == read.json()
    assert answer.headers["ETag"] == read.headers["ETag"]
    assert answer.headers["Preference-Applied"] == LONG
    assert answer.headers["Vary"] == "Prefer"
    assert "RateLimit" in answer.headers
    assert "Retry-After" not in answer.headers
    assert "Idempotent-Replayed" not in answer.headers


async def fail(store: Store, task_id: str) -> None:
    problem = ErrorRecord(code="image_decode_failed", message="the image is damaged", retryable=False)
    await store.leases.fail(await claimed(store), Outcome(error=problem))


async def cancel(store: Store, task_id: str) -> None:
    await store.tasks.cancel(task_id, "default")


async def kill_workers(store: Store, task_id: str) -> None:
    for _ in range(3):
        await claimed(store)
        await store.overdue.reclaim(WORKER.id)


ENDS: dict[str, Callable[[Store, str], Awaitable[None]]] = {
    "FAILED": fail,
    "CANCELED": cancel,
    "FAILED as poison": kill_workers,
}


@pytest.mark.parametrize("end", ENDS)
async def test_every_end_is_an_end_of_the_wait(client: httpx.AsyncClient, store: Store, end: str) -> None:
    async with in_background(post(client, LONG)) as asked:
        await until_waiting(client, 1)
        (task,) = (await store.listing.page("default")).tasks
        await ENDS[end](store, task.id)
        answer = await one(asked)

    assert (answer.status_code, answer.json()["status"]) == (200, end.partition(" ")[0])


async def test_a_task_that_expires_ends_the_wait(client: httpx.AsyncClient) -> None:
    async with in_background(post(client, LONG, start_within_s=1)) as asked:
        answer = await one(asked)

    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "start_deadline_exceeded")


async def test_a_task_that_does_not_end_in_time_is_answered_as_usual(client: httpx.AsyncClient, store: Store) -> None:
    async with in_background(post(client, "wait=1")) as asked:
        lease = await claimed(store)
        answer = await one(asked)

    assert answer.status_code == 202
    assert answer.json() == {
        "task_id": lease.id,
        "status": "RUNNING",
        "queue_position": None,
        "eta_s": None,
        "links": {part: f"/v1/tasks/{lease.id}{end}" for part, end in LINKS.items()},
    }
    assert (answer.headers["Preference-Applied"], answer.headers["Retry-After"]) == ("wait=1", "1")


LINKS = {"self": "", "cancel": "/cancel", "events": "/events", "result": "/result"}


@pytest.mark.parametrize(
    ("prefer", "applied"), [(None, None), ("wait=0", "wait=0"), ("wait=soon", None), ("respond-async", None)]
)
async def test_a_submit_does_not_wait_for(client: httpx.AsyncClient, prefer: str | None, applied: str | None) -> None:
    async with in_background(post(client, prefer)) as asked:
        answer = await one(asked)

    assert (answer.status_code, answer.json()["status"], answer.json()["queue_position"]) == (202, "PENDING", 0)
    assert answer.headers.get("Preference-Applied") == applied
    assert answer.headers["Vary"] == "Prefer"


async def test_several_lines_of_the_header_are_one_list(client: httpx.AsyncClient) -> None:
    headers = [("Prefer", "respond-async"), ("Prefer", "wait=0")]

    answer = await client.post("/v1/tasks", json=body(), headers=headers)

    assert answer.headers["Preference-Applied"] == "wait=0"


async def test_a_refused_submit_does_not_wait(client: httpx.AsyncClient) -> None:
    async with in_background(post(client, LONG, model="nothing")) as asked:
        answer = await one(asked)

    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


# --- a repeated submit ----------------------------------------------------------------------------------------


async def test_a_repeated_submit_of_an_ended_task_is_answered_whole_at_once(
    client: httpx.AsyncClient, store: Store
) -> None:
    first = await post(client, client_request_id="order-1")
    await store.leases.complete(await claimed(store), DONE)

    async with in_background(post(client, LONG, client_request_id="order-1")) as asked:
        answer = await one(asked)

    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (200, "true")
    assert answer.json() == (await client.get(first.headers["Location"])).json()


async def test_a_repeated_submit_waits_for_the_first(client: httpx.AsyncClient, store: Store) -> None:
    first = await post(client, client_request_id="order-1")

    async with in_background(post(client, LONG, client_request_id="order-1")) as asked:
        await until_waiting(client, 1)
        await store.leases.complete(await claimed(store), DONE)
        answer = await one(asked)
    again = await post(client, client_request_id="order-1")

    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")
    assert answer.json()["task_id"] == first.json()["task_id"] == again.json()["task_id"]
    assert (again.status_code, again.json()) == (200, answer.json())


async def test_a_repeated_submit_of_a_task_that_goes_on_is_202_with_a_wait(client: httpx.AsyncClient) -> None:
    await post(client, client_request_id="order-1")

    answer = await post(client, "wait=0", client_request_id="order-1")

    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (202, "true")


# --- a read ---------------------------------------------------------------------------------------------------


async def test_a_read_answers_as_soon_as_the_task_has_ended(client: httpx.AsyncClient, store: Store) -> None:
    path = (await post(client)).headers["Location"]
    tag = (await client.get(path)).headers["ETag"]

    async with in_background(client.get(f"{path}?wait=100", headers={"If-None-Match": tag})) as asked:
        await until_waiting(client, 1)
        await store.leases.complete(await claimed(store), DONE)
        answer = await one(asked)

    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")
    assert "Retry-After" not in answer.headers


async def test_a_read_after_a_wait_in_vain_is_304_only_for_what_has_not_changed(
    client: httpx.AsyncClient, store: Store
) -> None:
    path = (await post(client)).headers["Location"]
    tag = (await client.get(path)).headers["ETag"]

    unchanged = await client.get(f"{path}?wait=1", headers={"If-None-Match": tag})
    await claimed(store)
    running = await client.get(f"{path}?wait=1", headers={"If-None-Match": tag})

    assert unchanged.status_code == 304
    assert (running.status_code, running.json()["status"]) == (200, "RUNNING")
    assert unchanged.headers["Retry-After"] == running.headers["Retry-After"] == "1"


async def test_a_read_of_an_ended_task_does_not_wait(client: httpx.AsyncClient, store: Store) -> None:
    path = (await post(client)).headers["Location"]
    await store.leases.complete(await claimed(store), DONE)

    async with in_background(client.get(f"{path}?wait=100")) as asked:
        answer = await one(asked)
    async with in_background(
        client.get(f"{path}?wait=100", headers={"If-None-Match": answer.headers["ETag"]})
    ) as asked:
        again = await one(asked)

    assert (answer.status_code, again.status_code) == (200, 304)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("wait=100", 404, "task_not_found"),
        ("wait=301", 422, "invalid_request"),
        ("wait=-1", 422, "invalid_request"),
        ("wait=soon", 422, "invalid_request"),
    ],
)
async def test_a_read_is_refused_at_once_with(client: httpx.AsyncClient, query: str, status: int, code: str) -> None:
    async with in_background(client.get(f"/v1/tasks/tsk_0?{query}")) as asked:
        answer = await one(asked)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


# --- many, and those that hang up -----------------------------------------------------------------------------


async def test_one_end_wakes_all_who_wait_and_nobody_holds_a_connection_meanwhile(
    client: httpx.AsyncClient, store: Store
) -> None:
    path = (await post(client)).headers["Location"]
    count = POOL_SIZE + 8

    async with in_background(*(client.get(f"{path}?wait=100") for _ in range(count))) as asked:
        await until_waiting(client, count)
        assert (await client.get(path)).json()["status"] == "PENDING", "the pool has connections left"
        await store.leases.complete(await claimed(store), DONE)
        async with asyncio.timeout(60):
            answers = await asked

    assert [answer.json()["status"] for answer in answers] == ["SUCCESS"] * count
    await until_waiting(client, 0)


async def test_ends_are_heard_of_only_while_somebody_waits(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    channel = Keys(settings.redis.namespace).ended

    async def listeners(redis: Redis) -> int:
        return int((await redis.pubsub_numsub(channel))[0][1])

    async with connect(settings.redis) as redis:
        before = await listeners(redis)
        for _ in range(2):  # again, after nobody has listened
            async with in_background(post(client, LONG, reuse=False)) as asked:
                await until_waiting(client, 1)
                assert await listeners(redis) == 1
                await store.leases.complete(await claimed(store), DONE)
                answer = await one(asked)
            assert answer.json()["status"] == "SUCCESS"
            async with asyncio.timeout(60):
                while await listeners(redis):
                    await post(client, reuse=False)
                    await store.leases.complete(await claimed(store), DONE)
                    await asyncio.sleep(0.1)

    assert before == 0


async def test_a_client_that_hangs_up_leaves_nothing_behind_and_its_task_runs(
    client: httpx.AsyncClient, store: Store
) -> None:
    path = (await post(client)).headers["Location"]

    async with in_background(post(client, LONG), client.get(f"{path}?wait=100")):
        await until_waiting(client, 2)
    await until_waiting(client, 0)

    for _ in range(2):
        await store.leases.complete(await claimed(store), DONE)
    assert (await client.get("/v1/stats")).json()["tasks"]["SUCCESS"] == 2


async def test_waits_are_not_counted_as_work(client: httpx.AsyncClient) -> None:
    path = (await post(client)).headers["Location"]
    sample = r'^penstock_http_requests_seconds_sum\{method="GET",route="/v1/tasks/\{task_id\}",status="200"\} (\S+)'

    async def worked_s() -> float:
        return float(re.search(sample, (await client.get("/metrics")).text, re.MULTILINE)[1])  # type: ignore[index]

    await client.get(path)
    before = await worked_s()
    await client.get(f"{path}?wait=2")

    assert await worked_s() - before < 1


# --- servers --------------------------------------------------------------------------------------------------


async def test_a_task_of_one_server_is_waited_for_at_another(settings: Settings, store: Store, api_key: str) -> None:
    headers = {"X-API-Key": api_key}
    with api_server.ServerProcess(settings) as here, api_server.ServerProcess(settings) as there:
        async with (
            httpx.AsyncClient(base_url=here.url, headers=headers, timeout=30) as one_client,
            httpx.AsyncClient(base_url=there.url, headers=headers, timeout=30) as other,
        ):
            path = (await post(one_client, client_request_id="order-1")).headers["Location"]
            asking = (post(other, LONG, client_request_id="order-1"), other.get(f"{path}?wait=100"))
            async with in_background(*asking) as asked:
                await until_waiting(other, 2)
                await store.leases.complete(await claimed(store), DONE)
                async with asyncio.timeout(60):
                    answers = await asked

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "SUCCESS")] * 2


async def test_a_server_that_stops_answers_those_who_wait_and_makes_nobody_wait(
    settings: Settings, store: Store, api_key: str
) -> None:
    lingering = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, linger_s=2))
    with api_server.ServerProcess(lingering) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": api_key}, timeout=30) as client:
            async with in_background(post(client, LONG)) as asked:
                lease = await claimed(store)
                await until_waiting(client, 1)
                server.process.send_signal(signal.SIGTERM)
                answer = await one(asked)
            async with in_background(client.get(f"{answer.headers['Location']}?wait=100")) as asked:
                late = await one(asked)
            code = await asyncio.to_thread(server.process.wait, 10)

    assert (answer.status_code, answer.json()["status"]) == (202, "RUNNING")
    assert answer.headers["Connection"] == late.headers["Connection"] == "close"
    assert (late.status_code, late.json()["task_id"]) == (200, lease.id)
    assert code == 0


# --- Redis ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def alone(settings: Settings, own_redis: RedisProcess, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose Redis belongs to this test."""
    on_own = msgspec.structs.replace(settings, redis=RedisSettings(url=own_redis.url, namespace="test"))
    with api_server.in_thread(on_own) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            yield client


@asynccontextmanager
async def store_of(server: RedisProcess) -> AsyncIterator[Store]:
    """Opened anew: a worker that was there all the time would reconnect by itself."""
    settings = RedisSettings(url=server.url, namespace="test")
    async with connect(settings) as client:
        yield Store(Engine(client, settings.namespace, Settings().queue))


async def test_a_task_is_acknowledged_although_redis_goes_away_during_the_wait(
    alone: httpx.AsyncClient, own_redis: RedisProcess
) -> None:
    async with in_background(post(alone, "wait=2")) as asked:
        await until_waiting(alone, 1)
        own_redis.kill()
        answer = await one(asked)

    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
    assert answer.headers["Preference-Applied"] == "wait=2"


async def test_a_read_says_so_when_redis_is_away_at_the_end_of_the_wait(
    alone: httpx.AsyncClient, own_redis: RedisProcess
) -> None:
    path = (await post(alone)).headers["Location"]
    await alone.get("/metrics")  # the first one takes as long as the wait

    async with in_background(alone.get(f"{path}?wait=2")) as asked:
        await until_waiting(alone, 1)
        own_redis.kill()
        answer = await one(asked)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_a_wait_outlives_a_restart_of_redis(alone: httpx.AsyncClient, own_redis: RedisProcess) -> None:
    async with in_background(post(alone, LONG)) as asked:
        await until_waiting(alone, 1)
        own_redis.kill()
        own_redis.start()
        async with store_of(own_redis) as store:
            await store.leases.complete(await claimed(store), DONE)
        answer = await one(asked)

    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")


async def test_an_end_that_the_listener_did_not_hear_is_found(
    alone: httpx.AsyncClient, own_redis: RedisProcess
) -> None:
    """Its connection is cut just before the message."""
    async with in_background(post(alone, LONG)) as asked, store_of(own_redis) as store:
        lease = await claimed(store)
        await until_waiting(alone, 1)
        async with redis.asyncio.Redis.from_url(own_redis.url) as admin:
            assert await admin.client_kill_filter(_type="pubsub") >= 1
            await store.leases.complete(lease, DONE)
        answer = await one(asked)

    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")


async def test_an_end_of_which_there_was_no_message_is_found(alone: httpx.AsyncClient, own_redis: RedisProcess) -> None:
    """What the record is after a message was lost on its way to a listener that is connected all the time."""
    async with in_background(post(alone, LONG)) as asked, store_of(own_redis) as store:
        lease = await claimed(store)
        await until_waiting(alone, 1)
        async with redis.asyncio.Redis.from_url(own_redis.url) as admin:
            await admin.hset(f"{{test}}:task:{lease.id}", "state", "CANCELED")
            await admin.zrem("{test}:running", lease.id)
            await admin.zadd("{test}:finals", {lease.id: 2**42})
        answer = await one(asked)

    assert (answer.status_code, answer.json()["status"]) == (200, "CANCELED")


async def test_a_redis_that_has_lost_the_task_is_no_success(alone: httpx.AsyncClient, own_redis: RedisProcess) -> None:
    async with in_background(post(alone, "wait=5")) as asked, store_of(own_redis) as store:
        lease = await claimed(store)
        await until_waiting(alone, 1)
        async with redis.asyncio.Redis.from_url(own_redis.url) as admin:
            await admin.flushall()
        answer = await one(asked)
        with pytest.raises(TaskNotFound):
            await store.tasks.get(lease.id, "default")

    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")
