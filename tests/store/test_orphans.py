"""Objects that no record knows of are found, and deleted when that is wanted; nothing else ever is."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core.task import Artifact, Outcome, Result, new_task_id
from penstock.core.upload import new_upload_id, upload_key
from penstock.errors import StorageUnavailable
from penstock.settings import Settings, StorageSettings, environment_of
from penstock.storage import MARKER, Item, LocalStorage, Storage, Stored, open_storage
from penstock.store import BatchStore, Engine, Installation, Shards, Store, UploadStore, connect, connect_each
from penstock.store.keys import Keys
from penstock.upkeep.orphans import NotCertain, delete_orphans, find_orphans, move_beat, sweep_orphans
from tests.support.memory_storage import MemoryStorage
from tests.support.processes import penstock
from tests.support.stores import lease_of, open_upload, submission, submit

DAY_S = 24 * 3600
PNG = "image/png"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.upkeep.orphans.SETTLE_PAUSE_S", 0.0)
    monkeypatch.setattr("penstock.upkeep.orphans.CONFIRM_PAUSE_S", 0.0)


@pytest.fixture
async def installation(settings: Settings) -> AsyncIterator[Installation]:
    async with connect(settings.redis) as client:
        yield Installation(Engine(client, settings.redis.namespace, settings.queue))


class World:
    """An installation that is ten days old, and its storage."""

    def __init__(self, settings: Settings, redis: Any, storage: Storage) -> None:
        self.root = Path(settings.storage.directory) / settings.redis.namespace
        self.keys = Keys(settings.redis.namespace)
        self.redis = redis
        self.storage = storage

    def age(self, days: float = 2) -> None:
        """All objects are this old."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                moment = time.time() - days * DAY_S
                os.utime(Path(folder, name), (moment, moment))

    async def put(self, *keys: str) -> None:
        await self.storage.put_all([Item(key, b"12345", PNG) for key in keys])


@pytest.fixture
async def world(settings: Settings, installation: Installation, storage: Storage) -> AsyncIterator[World]:
    async with connect(settings.redis) as client:
        world = World(settings, client, storage)
        await installation.ensure_identity()
        await client.hset(world.keys.installation, "created", int((time.time() - 10 * DAY_S) * 1000))
        await move_beat(installation, storage)
        yield world


async def ended(store: Store, storage: Storage, **options: Any) -> tuple[str, str]:
    """A task with a result file, and the key of that."""
    task_id = await submit(store, **options)
    lease = await lease_of(store)
    key = f"results/default/{task_id}/{lease.token}.png"
    await storage.put(key, b"12345", PNG)
    artifact = Artifact(name="result.png", s3_key=key, size=5, sha256="", content_type=PNG)
    await store.leases.complete(lease, Outcome(result=Result(artifacts=(artifact,))))
    return task_id, key


def keys_of(found: list[Stored]) -> set[str]:
    return {stored.key for stored in found}


ORPHANS = {
    f"inputs/default/{new_task_id()}",
    f"inputs/default/{new_task_id()}-1a2b",
    f"results/default/{new_task_id()}/1-0a1b2c3d.png",
    upload_key("default", new_upload_id()),
    f"batches/default/bat_{'0' * 32}/0",
}


async def test_what_no_record_knows_of_is_found_and_deleted_and_nothing_else(
    world: World, installation: Installation, store: Store, uploads: UploadStore, storage: Storage
) -> None:
    _, result = await ended(store, storage)
    upload = upload_key("default", await open_upload(uploads))
    await world.put(upload, *ORPHANS, "probe/x", "else/where/y")
    world.age()

    found = await find_orphans(installation, storage)
    deleted = await delete_orphans(installation, storage, found)

    assert keys_of(found) == keys_of(deleted) == ORPHANS
    assert [stored.key async for stored in storage.list("results/")] == [result]
    assert await storage.get(upload) == await storage.get("probe/x") == await storage.get("else/where/y") == b"12345"
    assert await find_orphans(installation, storage) == []


async def test_a_result_that_was_begun_in_parts_and_never_finished_is_found_and_deleted(
    world: World, installation: Installation, store: Store, storage: Storage
) -> None:
    in_memory = MemoryStorage()
    await in_memory.put(MARKER, await storage.get(MARKER), "application/json")
    running = await submit(store)
    unknown, known = (f"results/default/{task}/1-0a.png" for task in (new_task_id(), running))
    for key, days in ((unknown, 2), (unknown, 0), (known, 2)):
        writer = in_memory.writer(key, PNG)
        await writer.write(b"x" * writer.part_bytes)
        writer.begun -= int(days * DAY_S * 1000)

    found = await find_orphans(installation, in_memory)
    deleted = await delete_orphans(installation, in_memory, found)

    assert keys_of(found) == keys_of(deleted) == {unknown}
    assert sorted(writer.key for writer in in_memory.writers) == sorted([unknown, known])


async def test_what_is_younger_than_a_day_is_left_alone(
    world: World, installation: Installation, storage: Storage
) -> None:
    await world.put(*ORPHANS)
    world.age(0.99)

    assert await find_orphans(installation, storage) == []


async def test_an_input_is_known_by_the_mark_that_its_record_has(
    world: World, installation: Installation, store: Store, storage: Storage
) -> None:
    task_id = await submit(store)
    await world.redis.hset(world.keys.task(task_id), "input", "-mine")
    await world.put(f"inputs/default/{task_id}-mine", f"inputs/default/{task_id}-another", f"inputs/default/{task_id}")
    world.age()

    found = keys_of(await find_orphans(installation, storage))

    assert found == {f"inputs/default/{task_id}-another", f"inputs/default/{task_id}"}


async def test_several_inputs_of_a_task_are_known_by_their_prefix(
    world: World, installation: Installation, store: Store, storage: Storage
) -> None:
    """Those of another feeder of the same line lie below another prefix; a third task is not there yet."""
    task_id, coming = await submit(store), new_task_id()
    await world.redis.hset(world.keys.task(task_id), "input", "-mine/")
    await world.redis.zadd(world.keys.awaited, {f"inputs/default/{coming}/": 1})
    known = [f"inputs/default/{task_id}-mine/{n}" for n in (0, 1)]
    await world.put(*known, f"inputs/default/{task_id}-another/0", f"inputs/default/{coming}/0")
    world.age()

    found = keys_of(await find_orphans(installation, storage))

    assert found == {f"inputs/default/{task_id}-another/0"}


async def test_a_result_that_another_s_record_shows_is_no_orphan(
    world: World, installation: Installation, store: Store, storage: Storage
) -> None:
    """The task that ran is gone; one follower is left, and nothing but its own record says whose file it shows."""
    digest = "d" * 64
    leader = submission(reuse_digest=digest, result_ttl_s=1)
    await store.tasks.submit(leader, rate_limit=0)
    follower = (await store.tasks.submit(submission(reuse_digest=digest), rate_limit=0)).id
    lease = await lease_of(store)
    key = f"results/default/{leader.id}/{lease.token}.png"
    await world.put(key)
    artifact = Artifact(name="result.png", s3_key=key, size=5, sha256="", content_type=PNG)
    await store.leases.complete(lease, Outcome(result=Result(artifacts=(artifact,))))
    await world.redis.zadd(world.keys.finals, {leader.id: 1})
    assert await store.overdue.prune() == 1
    world.age()

    assert not await world.redis.exists(world.keys.task(leader.id))
    assert await world.redis.exists(world.keys.task(follower))
    assert await find_orphans(installation, storage) == []


@pytest.mark.parametrize("entry", ["key", "prefix", "again", "awaited"])
async def test_what_is_condemned_or_awaited_is_no_orphan(
    world: World, installation: Installation, storage: Storage, entry: str
) -> None:
    key = f"results/default/{new_task_id()}/1-0a1b2c3d.png"
    prefix = key.rpartition("/")[0] + "/"
    name, member = {
        "key": (world.keys.condemned, key),
        "prefix": (world.keys.condemned, prefix),
        "again": (world.keys.condemned, f"again {prefix}"),
        "awaited": (world.keys.awaited, key),
    }[entry]
    await world.redis.zadd(name, {member: 1})
    await world.put(key)
    world.age()

    assert await find_orphans(installation, storage) == []


async def test_what_gets_a_record_between_the_two_looks_is_not_deleted(
    world: World, installation: Installation, storage: Storage
) -> None:
    await world.put(*ORPHANS)
    world.age()
    found = await find_orphans(installation, storage)
    late = next(key for key in ORPHANS if key.startswith("inputs/"))
    await world.redis.zadd(world.keys.awaited, {late: 1})

    await delete_orphans(installation, storage, found)

    assert [stored.key async for stored in storage.list("inputs/")] == [late]


# --- where nothing is certain ---------------------------------------------------------------------------------


async def nothing_is_deleted(installation: Installation, storage: Storage, reason: str) -> None:
    with pytest.raises(NotCertain, match=reason):
        await find_orphans(installation, storage)
    with pytest.raises(NotCertain):
        await delete_orphans(installation, storage, [Stored(key, 5, 0) for key in ORPHANS])
    for key in ORPHANS:
        assert await storage.get(key) == b"12345"


async def test_nothing_is_looked_for_where_redis_was_emptied(
    world: World, installation: Installation, storage: Storage
) -> None:
    await world.put(*ORPHANS)
    world.age()
    await world.redis.delete(world.keys.installation)
    await nothing_is_deleted(installation, storage, "Redis knows of no installation")

    await sweep_orphans(installation, storage, delete=True)

    await nothing_is_deleted(installation, storage, "of another installation")


async def test_nothing_is_looked_for_in_the_storage_of_another_installation(
    world: World, installation: Installation, storage: Storage
) -> None:
    await world.put(*ORPHANS)
    await storage.put(MARKER, b'{"id": "another", "beat": "0"}', "application/json")
    world.age()

    await nothing_is_deleted(installation, storage, "of another installation")


async def test_a_storage_with_objects_from_before_redis_is_not_marked(
    world: World, installation: Installation, storage: Storage
) -> None:
    await storage.delete(MARKER)
    await world.put(*ORPHANS)
    world.age(20)

    with pytest.raises(NotCertain, match="older than this Redis"):
        await move_beat(installation, storage)

    await nothing_is_deleted(installation, storage, "has no marker")


async def test_nothing_is_deleted_where_an_object_is_older_than_redis(
    world: World, installation: Installation, storage: Storage
) -> None:
    await world.put(*ORPHANS)
    world.age(20)

    with pytest.raises(NotCertain, match="older than what Redis holds"):
        await find_orphans(installation, storage)


async def test_all_processes_have_the_same_identity(installation: Installation, storage: Storage) -> None:
    identities = await asyncio.gather(*(installation.ensure_identity() for _ in range(20)))
    await move_beat(installation, storage)

    assert len(set(identities)) == 1
    assert msgspec.json.decode(await storage.get(MARKER))["id"] == identities[0].id


@pytest.mark.parametrize("content", [b"", b"no JSON", b'{"id": "of another version"}', b"x" * 5000])
async def test_a_marker_that_cannot_be_read_is_nobody_s(
    world: World, installation: Installation, storage: Storage, content: bytes
) -> None:
    await world.put(*ORPHANS)
    await storage.put(MARKER, content, "application/json")
    world.age()

    await nothing_is_deleted(installation, storage, "of another installation")


# --- where Redis was set back, or there are two of it ----------------------------------------------------------


async def moved(installation: Installation, storage: Storage, hours: int = 1) -> None:
    for _ in range(hours):
        await move_beat(installation, storage)


async def test_nothing_is_deleted_by_a_redis_that_was_restored_from_an_older_save(
    world: World, installation: Installation, storage: Storage
) -> None:
    save = await world.redis.hgetall(world.keys.installation)
    await moved(installation, storage, hours=2)
    await world.put(*ORPHANS)
    world.age()

    await world.redis.delete(world.keys.installation)
    await world.redis.hset(world.keys.installation, mapping=save)

    await nothing_is_deleted(installation, storage, "older than the marker")
    await sweep_orphans(installation, storage, delete=True)
    await nothing_is_deleted(installation, storage, "older than the marker")


async def test_of_two_copies_of_a_redis_none_deletes_what_the_other_knows(
    world: World, installation: Installation, settings: Settings, storage: Storage
) -> None:
    engine = Engine(world.redis, f"{settings.redis.namespace}-copy", settings.queue)
    copy = Installation(engine)
    await world.redis.copy(world.keys.installation, engine.keys.installation)
    await world.put(*ORPHANS)
    world.age()

    await moved(copy, storage)
    await sweep_orphans(installation, storage, delete=True)

    await nothing_is_deleted(installation, storage, "a copy of it that uses the same storage")
    await nothing_is_deleted(copy, storage, "a copy of it that uses the same storage")
    await sweep_orphans(copy, storage, delete=True)
    for key in ORPHANS:
        assert await storage.get(key) == b"12345"


async def test_a_copy_that_moves_the_marker_during_a_sweep_stops_its_deletions(
    world: World, installation: Installation, settings: Settings, storage: Storage
) -> None:
    engine = Engine(world.redis, f"{settings.redis.namespace}-copy", settings.queue)
    copy = Installation(engine)
    await world.redis.copy(world.keys.installation, engine.keys.installation)
    await world.put(*ORPHANS)
    world.age()
    found = await find_orphans(installation, storage)

    await moved(copy, storage)

    with pytest.raises(NotCertain, match="a copy of it"):
        await delete_orphans(installation, storage, found)
    assert {stored.key async for stored in storage.list("inputs/")} == {k for k in ORPHANS if k.startswith("inputs/")}


async def test_who_deletes_the_marker_says_whose_the_objects_are(
    world: World, installation: Installation, storage: Storage
) -> None:
    save = await world.redis.hgetall(world.keys.installation)
    await moved(installation, storage)
    await world.redis.hset(world.keys.installation, mapping=save)
    await world.put(*ORPHANS)
    world.age()
    with pytest.raises(NotCertain, match=f"delete {storage.full_key(MARKER)}"):
        await move_beat(installation, storage)

    await storage.delete(MARKER)
    await move_beat(installation, storage)

    assert keys_of(await find_orphans(installation, storage)) == ORPHANS


class Crash(Exception):
    """What ends a process."""


class BeforeThePut(LocalStorage):
    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        raise Crash


class AfterThePut(LocalStorage):
    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        await super().put(key, data, content_type)
        raise Crash


@pytest.mark.parametrize("crashing", [BeforeThePut, AfterThePut])
async def test_a_crash_while_the_beat_is_replaced_stops_nobody(
    world: World, installation: Installation, settings: Settings, storage: Storage, crashing: type[LocalStorage]
) -> None:
    await world.put(*ORPHANS)
    world.age()

    with pytest.raises(Crash):
        await move_beat(installation, crashing(settings.storage.directory, settings.redis.namespace))

    assert keys_of(await find_orphans(installation, storage)) == ORPHANS
    await moved(installation, storage, hours=2)
    assert keys_of(await find_orphans(installation, storage)) == ORPHANS


# --- who does it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delete", [False, True])
async def test_upkeep_counts_orphans_and_deletes_them_only_when_told_to(
    world: World, installation: Installation, storage: Storage, delete: bool
) -> None:
    await world.put(*ORPHANS)
    world.age()

    await sweep_orphans(installation, storage, delete=delete)

    left = {stored.key for stored in await find_orphans(installation, storage)}
    assert left == (set() if delete else ORPHANS)


async def test_one_process_looks_in_an_hour(world: World, installation: Installation, storage: Storage) -> None:
    assert [await installation.take_turn(3600) for _ in range(3)] == [True, False, False]
    await world.put(*ORPHANS)
    world.age()

    await sweep_orphans(installation, storage, delete=True)

    assert keys_of(await find_orphans(installation, storage)) == ORPHANS, "another has the turn"


async def test_a_storage_that_fails_midway_deletes_no_more(
    world: World, installation: Installation, settings: Settings
) -> None:
    await world.put(*ORPHANS)
    world.age()

    class Failing(LocalStorage):
        async def delete(self, *keys: str) -> None:
            raise StorageUnavailable("away")

    failing = Failing(settings.storage.directory, settings.redis.namespace)
    with pytest.raises(StorageUnavailable):
        await delete_orphans(installation, failing, await find_orphans(installation, failing))

    assert keys_of(await find_orphans(installation, failing)) == ORPHANS


def doctored(settings: Settings, here: Path, *arguments: str) -> tuple[int, str]:
    environ = {name: value for name, value in environment_of(settings).items() if value}
    done = penstock(here, "doctor", "--orphans", *arguments, **environ)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


async def test_the_doctor_reports_orphans_and_deletes_them_when_told_to(
    world: World, settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    await world.put(*ORPHANS)
    world.age()

    reported = await asyncio.to_thread(doctored, settings, tmp_path)
    kept = [key for key in ORPHANS if await storage.get(key)]
    deleted = await asyncio.to_thread(doctored, settings, tmp_path, "--delete")
    after = await asyncio.to_thread(doctored, settings, tmp_path)

    assert reported[0] == deleted[0] == after[0] == 0
    assert f"no record knows of {len(ORPHANS)} objects of {5 * len(ORPHANS)} bytes" in reported[1]
    assert len(kept) == len(ORPHANS)
    assert f"deleted {len(ORPHANS)} objects" in deleted[1]
    assert "a record knows of every object" in after[1]


async def test_the_doctor_does_not_touch_what_may_be_another_s(
    world: World, settings: Settings, storage: Storage, tmp_path: Path
) -> None:
    await world.put(*ORPHANS)
    await storage.put(MARKER, b'{"id": "another", "beat": "0"}', "application/json")
    world.age()

    status, said = await asyncio.to_thread(doctored, settings, tmp_path, "--delete")

    assert (status, "of another installation" in said) == (1, True)
    for key in ORPHANS:
        assert await storage.get(key) == b"12345"


def test_delete_is_no_word_alone(tmp_path: Path) -> None:
    assert penstock(tmp_path, "doctor", "--delete").returncode == 2


async def test_orphans_are_found_in_a_bucket_too(
    s3_server: StorageSettings, settings: Settings, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.upkeep.orphans.OLD_MS", -60_000)
    async with open_storage(replace(s3_server), settings.redis.namespace) as storage:
        await move_beat(installation, storage)
        await storage.put_all([Item(key, b"12345", PNG) for key in ORPHANS])

        found = await find_orphans(installation, storage)
        await delete_orphans(installation, storage, found)

        assert keys_of(found) == ORPHANS
        assert await find_orphans(installation, storage) == []
        await storage.delete(MARKER)


async def test_lines_of_a_batch_that_is_there_are_no_orphans(
    world: World, installation: Installation, batches: BatchStore, storage: Storage
) -> None:
    batch_id = f"bat_{'1' * 32}"
    await world.redis.hset(world.keys.batch(batch_id), "state", "RUNNING")
    await world.put(f"batches/default/{batch_id}/0", f"batches/default/{batch_id}/1")
    world.age()

    assert await find_orphans(installation, storage) == []


async def test_each_shard_looks_after_the_objects_of_its_own_tenants(settings: Settings, storage: Storage) -> None:
    """A single node may be restored from an older save: the objects of its tenants alone are left to people then."""
    async with connect_each(replace(settings.redis, shards=2)) as clients:
        shards, orphans = Shards.over(clients, settings.queue), {}
        world = World(settings, clients[settings.redis.namespace], storage)
        for store, client in zip(shards, clients.values(), strict=True):
            tenant = next(name for name in map(str, range(100)) if shards.of(name) is store)
            orphans[store.shard] = f"results/{tenant}/{new_task_id()}/1-0a1b2c3d.png"
            await store.installation.ensure_identity()
            kept = store.engine.keys.installation
            await client.hset(kept, "created", int((time.time() - 10 * DAY_S) * 1000))
            await move_beat(store.installation, storage)
        await world.put(*orphans.values())
        world.age()

        for store in shards:
            assert keys_of(await find_orphans(store.installation, storage)) == {orphans[store.shard]}

        home, other = shards
        await other.engine.client.hset(other.engine.keys.installation, "beat", "of an older save")
        with pytest.raises(NotCertain):
            await find_orphans(other.installation, storage)
        assert keys_of(await delete_orphans(home.installation, storage, await find_orphans(home.installation, storage)))
        assert await storage.get(orphans[1]) == b"12345"
