"""Damage in Redis: one record that cannot be read stands in nobody's way. Every field of it is damaged in turn, in a
real Redis, under a real server and a real worker."""

import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio
from _pytest.mark import ParameterSet

from penstock.core.task import ErrorRecord, Outcome, State
from penstock.errors import RecordUnreadable
from penstock.settings import RedisSettings, Settings, clean_environment
from penstock.storage import Storage
from penstock.store import BatchStore, Condemned, Engine, Store, connect
from penstock.store.keys import Keys
from penstock.upkeep.retention import prune
from penstock.upkeep.sweep import sweep
from tests.support.drive import MODEL, WORKER, body, claim, complete, data_uri, image
from tests.support.processes import up, wait_for
from tests.support.redis_server import RedisProcess
from tests.support.stores import submission

pytestmark = pytest.mark.shared_server

Client = redis.asyncio.Redis
Damage = Callable[[Client, Keys, str], Awaitable[Any]]

GARBAGE = b"\xff\x00 not what it was"
HASH_FIELDS = (
    "version", "tenant", "caller", "model", "priority", "state", "stage", "epoch", "failures", "crashes", "cost",
    "created", "max_retries", "timeout_s", "ttl_s",
)  # fmt: skip
SUMMED = ("cost", "created", "start_by", "deadline")
BEYOND = (b"inf", b"nan", b"1e400", b"9" * 25)
"""Numbers for a script, and some for a reader, but none that a record can have."""


def _field(name: str, value: bytes | None) -> Damage:
    async def damage(client: Client, keys: Keys, task_id: str) -> None:
        if value is None:
            await client.hdel(keys.task(task_id), name)
        else:
            await client.hset(keys.task(task_id), name, value)

    return damage


def _part(part: str, value: Any) -> Damage:
    async def damage(client: Client, keys: Keys, task_id: str) -> None:
        key = keys.of_root(f"{part}:{task_id}")
        await client.delete(key)
        if isinstance(value, bytes):
            await client.set(key, value)
        elif value:
            await client.rpush(key, *value)

    return damage


DAMAGES: dict[str, Damage] = {
    **{f"{name} is garbage": _field(name, GARBAGE) for name in HASH_FIELDS},
    **{f"{name} is missing": _field(name, None) for name in HASH_FIELDS},
    **{f"{name} is {value.decode()}": _field(name, value) for name, value in itertools.product(SUMMED, BEYOND)},
    "the record is a string": _part("task", b"text"),
    "the record is a list": _part("task", [b"text"]),
    "the record is missing": _part("task", None),
    "the body is no JSON": _part("body", b"{"),
    "the body lacks a member": _part("body", b'{"model": "superres-x4"}'),
    "the body is missing": _part("body", None),
    "the body is a list": _part("body", [b"text"]),
    "an attempt is no JSON": _part("attempts", b"{"),
    "an attempt lacks members": _part("attempts", b'{"n": 1}'),
    "the attempts are a list": _part("attempts", [b"text"]),
}
USUAL_PAIRS = {f"{name} is {value.decode()}" for name, value in zip(SUMMED, BEYOND, strict=True)}
"""Each of these fields and each of these values once; the other pairs at length."""


def cases(damages: Iterable[str]) -> list[ParameterSet]:
    rare = {f"{name} is {value.decode()}" for name, value in itertools.product(SUMMED, BEYOND)} - USUAL_PAIRS
    return [pytest.param(one, marks=pytest.mark.at_length if one in rare else ()) for one in damages]


OF_ENDED: dict[str, Damage] = {
    "the outcome is no JSON": _part("outcome", b"{"),
    "the outcome has another shape": _part("outcome", b'{"result": 7}'),
    "the outcome is a list": _part("outcome", [b"text"]),
    "finished is garbage": _field("finished", GARBAGE),
}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow answer is another matter."""
    monkeypatch.setattr("penstock.api.services.PATIENCE_S", 60.0)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    async with connect(settings.redis) as client:
        yield Store(Engine(client, settings.redis.namespace, settings.queue, patience_s=60))


@pytest.fixture
async def client_of_redis(redis_url: str) -> AsyncIterator[Client]:
    async with Client.from_url(redis_url) as client:
        yield client


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


READS = (
    "/v1/tasks",
    "/v1/tasks?status=PENDING&status=RUNNING",
    f"/v1/tasks?model={MODEL}&priority=normal",
    "/v1/tasks?metadata.album=1",
    "/v1/queues",
    "/v1/workers",
    "/v1/stats",
    "/v1/batches",
    "/v1/models",
    "/readyz",
    "/metrics",
    "/replicate/v1/predictions",
)
OF_TASK = ("", "/explain", "/result", "/events")


async def every_route(client: httpx.AsyncClient, task_id: str, *, first: str = "") -> None:
    """No answer is a 500."""
    paths = [*READS, *(f"/v1/tasks/{task_id}{path}" for path in OF_TASK), f"/replicate/v1/predictions/{task_id}"]
    for path in ([first] if first else []) + paths:
        answer = await client.get(path, headers={"Authorization": f"Bearer {client.headers['x-api-key']}"})
        assert answer.status_code < 500, f"{path}: {answer.text}"


async def submitted(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post("/v1/tasks", json=body(reuse=False, metadata={"album": "1"}, **changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def failed_as_unreadable(client: httpx.AsyncClient, task_id: str) -> None:
    view = (await client.get(f"/v1/tasks/{task_id}")).json()
    assert (view["status"], view["error"]["code"]) == ("FAILED", RecordUnreadable.code), view
    listed = (await client.get("/v1/tasks?limit=100")).json()["data"]
    assert [task["status"] for task in listed if task["task_id"] == task_id] == ["FAILED"]


@pytest.mark.parametrize("damage", cases(DAMAGES))
async def test_pk2_a_damaged_task_that_waits_fails_and_all_others_go_on(
    client: httpx.AsyncClient, store: Store, client_of_redis: Client, keys: Keys, damage: str
) -> None:
    await store.leases.renew(WORKER, [])
    task_id, other = await submitted(client), await submitted(client)
    await DAMAGES[damage](client_of_redis, keys, task_id)
    first = random.Random(damage).choice([*READS, f"/v1/tasks/{task_id}", f"/v1/tasks/{task_id}/explain"])

    await every_route(client, task_id, first=first)
    await failed_as_unreadable(client, task_id)
    assert (await claim(store)).id == other
    assert (await store.leases.claim(worker=WORKER.id, device="cpu", models=[MODEL])).lease is None
    assert [one.id for one in await store.unreadable()] == [task_id]
    assert (await client.delete(f"/v1/tasks/{task_id}")).status_code == 204
    assert (await client.get(f"/v1/tasks/{task_id}")).status_code == 410


@pytest.mark.parametrize("damage", cases(DAMAGES))
async def test_a_worker_that_comes_upon_a_damaged_task_takes_the_next(
    store: Store, client_of_redis: Client, keys: Keys, damage: str
) -> None:
    damaged = (await store.tasks.submit(submission(), rate_limit=0)).id
    other = (await store.tasks.submit(submission(), rate_limit=0)).id
    await DAMAGES[damage](client_of_redis, keys, damaged)

    taken = await _claimed(store)

    assert other in taken
    for task_id in {damaged, other} & taken.keys():  # what a claim does not need may be damaged
        await store.leases.release(taken[task_id])
    if damaged not in taken:
        assert (await store.tasks.get(damaged, "default")).outcome.error.code == RecordUnreadable.code  # type: ignore[union-attr]


async def _claimed(store: Store) -> dict[str, Any]:
    """All that can be claimed, as a worker does: until nothing is left."""
    taken: dict[str, Any] = {}
    for _ in range(10):
        given = await store.leases.claim(worker=WORKER.id, device="cpu", models=[MODEL])
        if given.lease is not None:
            taken[given.lease.id] = given.lease
        elif given.next_due_s != 0:
            break
    return taken


@pytest.mark.parametrize("damage", cases(DAMAGES))
async def test_a_damaged_task_that_runs_fails_and_the_sweeps_go_on(
    client: httpx.AsyncClient,
    store: Store,
    batches: BatchStore,
    condemned: Condemned,
    storage: Storage,
    client_of_redis: Client,
    keys: Keys,
    damage: str,
) -> None:
    task_id, other = await submitted(client, start_within_s=30, finish_within_s=60), await submitted(client)
    leases = [await claim(store), await claim(store)]
    await DAMAGES[damage](client_of_redis, keys, task_id)
    for name in ("starting", "deadlines"):
        if await client_of_redis.zscore(keys.of_root(name), task_id) is not None:
            await client_of_redis.zadd(keys.of_root(name), {task_id: 1})

    await store.leases.renew(WORKER, leases)
    await sweep(store)
    await prune(store, storage)
    for lease in leases:
        await client_of_redis.zadd(keys.running, {lease.id: 1}, xx=True)
    for _ in range(3):
        await sweep(store)
    await every_route(client, task_id)

    view = (await client.get(f"/v1/tasks/{task_id}")).json()
    assert view["status"] == "FAILED", view
    assert (await client.get(f"/v1/tasks/{other}")).json()["status"] == "PENDING"
    assert (await client.delete(f"/v1/tasks/{task_id}")).status_code == 204


@pytest.mark.parametrize("damage", cases(DAMAGES | OF_ENDED))
async def test_a_damaged_task_that_has_ended_reads_as_failed_and_is_pruned(
    client: httpx.AsyncClient,
    store: Store,
    batches: BatchStore,
    condemned: Condemned,
    storage: Storage,
    client_of_redis: Client,
    keys: Keys,
    damage: str,
) -> None:
    task_id = await submitted(client)
    await complete(store, storage, b"bytes")
    other = await submitted(client)
    await complete(store, storage, b"bytes")
    await (DAMAGES | OF_ENDED)[damage](client_of_redis, keys, task_id)

    await every_route(client, task_id)
    await failed_as_unreadable(client, task_id)
    assert (await client.get(f"/v1/tasks/{other}")).json()["status"] == "SUCCESS"
    await client_of_redis.zadd(keys.finals, {task_id: 1, other: 1})
    await client_of_redis.set(keys.of_root("reaper"), int(time.time() * 1000))
    await prune(store, storage)
    assert (await client.get(f"/v1/tasks/{task_id}")).status_code == 410
    assert (await client.get(f"/v1/tasks/{other}")).status_code == 410


@pytest.mark.parametrize("damage", cases(DAMAGES | OF_ENDED))
async def test_what_is_due_to_go_goes_though_a_damaged_record_is_before_it(
    store: Store, client_of_redis: Client, keys: Keys, damage: str
) -> None:
    ids = [(await store.tasks.submit(submission(), rate_limit=0)).id for _ in range(3)]
    for task_id in ids:
        await store.tasks.cancel(task_id, "default")
    await (DAMAGES | OF_ENDED)[damage](client_of_redis, keys, ids[0])
    await client_of_redis.zadd(keys.finals, {task_id: place + 1 for place, task_id in enumerate(ids)})
    await client_of_redis.set(keys.of_root("reaper"), int(time.time() * 1000))

    await store.overdue.prune()

    assert await client_of_redis.exists(*(keys.task(task_id) for task_id in ids[1:])) == 0


async def test_sound_records_of_every_kind_are_left_alone(
    client: httpx.AsyncClient, store: Store, storage: Storage, client_of_redis: Client, keys: Keys
) -> None:
    same = {"reuse": True}
    asked: list[dict[str, Any]] = [
        {},
        {"priority": "high"},
        {"finish_within_s": 60},
        {"start_within_s": 60},
        same,
        same,
    ]
    for changes in asked:
        answer = await client.post("/v1/tasks", json=body(**changes))
        assert answer.status_code == 202, answer.text
    for _ in range(2):
        await complete(store, storage, b"bytes")
    await store.leases.release(await claim(store))
    running = await claim(store)
    await store.leases.progress(running, "infer")
    page = await store.listing.page("default", limit=100)
    ids = [task.id for task in page.tasks]
    await store.tasks.cancel(next(task.id for task in page.tasks if task.state is State.PENDING), "default")

    assert len(ids) == len(asked)
    assert await store.engine.salvage.examine(ids) == []
    assert await store.unreadable() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workers", {"w9": b"{"}),
        ("workers", {"w9": b'{"id": "w9"}'}),
    ],
)
async def test_a_worker_that_cannot_be_read_is_left_out(
    client: httpx.AsyncClient, store: Store, client_of_redis: Client, keys: Keys, key: str, value: dict[str, bytes]
) -> None:
    await store.leases.renew(WORKER, [])
    await client_of_redis.hset(keys.of_root(key), mapping=value)

    task_id = await submitted(client)
    assert (await client.get(f"/v1/tasks/{task_id}/explain")).status_code == 200
    await client.post(f"/v1/tasks/{task_id}/cancel")
    await every_route(client, task_id)
    assert [one["id"] for one in (await client.get("/v1/workers")).json()["data"]] == [WORKER.id]


@pytest.mark.parametrize("field", ["total", "fed", "epoch", "created", "state", "tenant", "caller", "plan", "type"])
@pytest.mark.parametrize("how", ["garbage", "missing"])
async def test_a_damaged_batch_is_gone_and_its_tasks_and_all_other_batches_go_on(
    client: httpx.AsyncClient, store: Store, client_of_redis: Client, keys: Keys, field: str, how: str
) -> None:
    lines = [{"custom_id": str(n)} | body(reuse=False) for n in range(3)]
    damaged, sound = [(await client.post("/v1/batches", json={"lines": lines})).json()["batch_id"] for _ in range(2)]
    await _until_fed(store, 6)
    if field == "plan":
        await client_of_redis.delete(keys.plan(damaged))
        if how == "garbage":
            await client_of_redis.set(keys.plan(damaged), GARBAGE)
    elif field == "type":
        await client_of_redis.delete(keys.batch(damaged))
        if how == "garbage":
            await client_of_redis.set(keys.batch(damaged), "text")
    elif how == "garbage":
        await client_of_redis.hset(keys.batch(damaged), field, GARBAGE)
    else:
        await client_of_redis.hdel(keys.batch(damaged), field)

    for path in ("/v1/batches", f"/v1/batches/{damaged}", f"/v1/batches/{damaged}/results", "/v1/tasks", "/metrics"):
        answer = await client.get(path)
        assert answer.status_code < 500, f"{path}: {answer.text}"
    for _ in range(6):
        assert await store.leases.fail(await claim(store), _failed())
    assert (await client.get(f"/v1/batches/{sound}")).json()["status"] == "COMPLETED"
    assert (await client.get(f"/v1/batches/{damaged}")).status_code in (404, 410)
    listed = [one["batch_id"] for one in (await client.get("/v1/batches")).json()["data"]]
    assert listed == [sound]


def _failed() -> Outcome:
    return Outcome(error=ErrorRecord(code="image_decode_failed", message="damaged", retryable=False))


async def _until_fed(store: Store, count: int) -> None:
    async with asyncio.timeout(30):
        while (await store.listing.count("default"))[State.PENDING] < count:
            await asyncio.sleep(0.02)


@pytest.mark.at_length
def test_a_real_worker_lives_and_doctor_names_what_was_set_aside(own_redis: RedisProcess, tmp_path: Path) -> None:
    environ = {
        "REDIS_URL": own_redis.url,
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": "noop-v1",
        "RATE_LIMIT_PER_MINUTE": "0",
    }
    asked = {"model": "noop-v1", "input": {"image_url": data_uri(image())}, "reuse": False}
    with up(tmp_path / "penstock-data", **environ) as system, system.client() as client:
        worker = system.process.child("worker-process")
        keys = Keys(RedisSettings().namespace)
        with redis.Redis.from_url(own_redis.url) as raw:
            assert client.post("/v1/queues/noop-v1/pause").status_code == 200
            damaged: dict[str, str] = {}
            for name in (*HASH_FIELDS, "body"):
                task_id = client.post("/v1/tasks", json=asked).raise_for_status().json()["task_id"]
                if name == "body":
                    raw.set(keys.body(task_id), "{")
                else:
                    raw.hset(keys.task(task_id), name, GARBAGE)
                damaged[task_id] = name
            sound = client.post("/v1/tasks", json=asked).json()["task_id"]
            assert client.post("/v1/queues/noop-v1/resume").status_code == 200
            assert wait_for(client, sound)["status"] == "SUCCESS"
            for task_id, name in damaged.items():
                view = client.get(f"/v1/tasks/{task_id}").json()
                ends = {"SUCCESS", "FAILED"} if name == "stage" else {"FAILED"}  # a claim that comes first writes it
                assert view["status"] in ends, (name, view)
            again = client.post("/v1/tasks", json=asked).json()["task_id"]
            assert wait_for(client, again)["status"] == "SUCCESS"
        assert system.process.child("worker-process") == worker, "it was not started again"
        until = time.monotonic() + 60
        while system.metrics()["penstock_records_unreadable"][0][1] < 1:
            assert time.monotonic() < until
            time.sleep(0.2)
        log = system.process.log.read_text()

        done = subprocess.run(
            [sys.executable, "-m", "penstock", "doctor", "--json"],
            cwd=tmp_path,
            env=clean_environment() | environ,
            capture_output=True,
            text=True,
            check=False,
        )
    found = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert found["records"]["state"] == "warn"
    assert any(task_id in found["records"]["found"] for task_id in damaged)
    assert "a record could not be read, and was set aside" in log
