"""A start converts what the release before has left in Redis. `tests/upgrades` does so with that release itself."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.core.access import TENANT
from penstock.core.task import RECORD_VERSION, ErrorRecord, Outcome, Priority, State
from penstock.errors import ConfigurationError
from penstock.settings import RedisSettings
from penstock.store import Redis, Store, check_server, connect, conversion, open_server
from penstock.store.conversion import CONVERTED
from penstock.store.keys import Keys
from tests.support.stores import MODEL, lease_of, submit

POOL = "0123abcd"
BROKEN = ErrorRecord(code="internal", message="broken", retryable=True)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(RedisSettings(url=redis_url)) as opened:
        yield opened


async def make_older(client: Redis, store: Store, *ids: str) -> None:
    """Gives these tasks, and all that is not of single tasks, the form of the release before."""
    keys, root = store.engine.keys, store.engine.keys.root
    for task_id in ids:
        rows = (await client.get(keys.attempts(task_id)) or b"").splitlines()
        await client.delete(keys.attempts(task_id))
        await write(client, "HSET", keys.task(task_id), "version", CONVERTED)
        for row in rows:
            await write(client, "RPUSH", keys.attempts(task_id), row)
    await client.delete(keys.board)
    pools: list[bytes] = await write(client, "HKEYS", keys.pools)
    for pool in [*map(bytes.decode, pools), POOL]:
        await write(client, "HSET", keys.pools, pool, MODEL)
        await write(client, "ZADD", f"{root}pools:seen", 1, pool)
        await write(client, "HSET", f"{root}clock:{pool}:normal", "v", 5)
        await write(client, "HSET", f"{root}passed:{pool}", "normal", 3)
        await client.delete(f"{root}pool:{pool}")
    await write(client, "HSET", f"{root}pace", f"ms:{MODEL}", 1234.5, f"cost:{MODEL}", 1000)


async def write(client: Redis, *command: str | bytes | float) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_tasks_of_the_release_before_go_on_after_a_start(client: Redis, store: Store) -> None:
    retried, waiting, ended = [await submit(store, caller=name) for name in ("ann", "bea", "cleo")]
    await store.leases.retry(await lease_of(store), BROKEN, delay_ms=0)
    before = await store.tasks.get(retried, TENANT)
    await make_older(client, store, retried, waiting, ended)

    await open_server(client, store.namespace)

    assert (await store.tasks.get(retried, TENANT)).attempts == before.attempts != ()
    assert (await store.tasks.get(waiting, TENANT)).version == before.version
    for _ in range(3):
        await store.leases.complete(await lease_of(store), Outcome())
    assert [(await store.tasks.get(one, TENANT)).state for one in (retried, waiting, ended)] == [State.SUCCESS] * 3


async def test_what_stood_in_keys_of_its_own_is_where_scripts_look_for_it(client: Redis, store: Store) -> None:
    task_id = await submit(store)
    await store.queues.pause(MODEL, (Priority.NORMAL,), by="ann")
    await make_older(client, store, task_id)
    await write(client, "ZADD", store.engine.keys.drained, 1, "w9")
    await client.set(store.engine.keys.of_root("capped"), "of-caps")

    await open_server(client, store.namespace)

    board = await write(client, "HGETALL", store.engine.keys.board)
    assert {b"paused", b"drained:w9", b"capped", f"ms:{MODEL}".encode(), f"cost:{MODEL}".encode()} <= board.keys()
    assert (await store.leases.claim(worker="w0", device="cpu", models=[MODEL])).lease is None, "its queue is paused"
    await store.queues.resume(MODEL, (Priority.NORMAL,))
    await store.leases.complete(await lease_of(store), Outcome())
    left = [key async for key in client.scan_iter(match=f"{store.engine.keys.root}*")]
    assert not [key for key in left if b"clock:" in key or b"passed:" in key or key.endswith((b"pace", b":capped"))]


async def test_a_process_of_the_release_before_keeps_a_start_from_converting(client: Redis, store: Store) -> None:
    task_id = await submit(store)
    await make_older(client, store, task_id)

    async with client.pubsub() as worker:
        await worker.subscribe(store.engine.keys.signals)
        with pytest.raises(ConfigurationError, match="1 processes of the Penstock that made them still run; stop all"):
            await open_server(client, store.namespace)

    assert await client.hget(store.engine.keys.task(task_id), "version") == str(CONVERTED).encode()


async def test_a_process_of_this_release_keeps_no_start_from_anything(client: Redis, store: Store) -> None:
    await submit(store)

    async with client.pubsub() as worker:
        await worker.subscribe(store.engine.keys.signals)
        await open_server(client, store.namespace)


async def test_a_conversion_that_was_interrupted_goes_on(
    client: Redis, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "PAGE", 2)
    ids = [await submit(store) for _ in range(5)]
    await make_older(client, store, *ids)
    newest = conversion._newest_first(store.engine)
    first = await anext(newest)
    await newest.aclose()  # type: ignore[attr-defined]
    await store.engine.run("convert_tasks", before=CONVERTED, version=RECORD_VERSION, ids=first)

    assert first == [ids[-1], ids[-2]]
    await open_server(client, store.namespace)

    versions = [await client.hget(store.engine.keys.task(one), "version") for one in ids]
    assert {*versions} == {str(RECORD_VERSION).encode()}


async def test_a_damaged_task_is_converted_with_the_others_and_set_aside_later(client: Redis, store: Store) -> None:
    damaged, lost, sound = [await submit(store) for _ in range(3)]
    await make_older(client, store, damaged, lost, sound)
    await client.delete(store.engine.keys.task(lost))
    await client.set(store.engine.keys.task(lost), "text")
    await client.set(store.engine.keys.attempts(damaged), "text")

    await open_server(client, store.namespace)

    assert (await store.tasks.get(sound, TENANT)).state is State.PENDING
    assert await store.engine.salvage.examine([damaged, lost, sound]) == [damaged, lost]


async def test_somebody_who_only_looks_is_told_and_changes_nothing(client: Redis, store: Store) -> None:
    task_id = await submit(store)
    await make_older(client, store, task_id)

    warnings = await check_server(client, store.namespace)

    assert any("the release before" in warning and "converts them" in warning for warning in warnings)
    assert await client.exists(Keys(store.namespace).of_root("pace"))
