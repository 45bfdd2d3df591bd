"""Managed keys in Redis: made, rotated, revoked, and known to every API process; and the stream of the audit."""

import asyncio
import secrets
from typing import Any

import msgspec
import pytest
import redis.asyncio

from penstock.api.http.key_table import LOOK_S, USED_EVERY_MS, KeyTable
from penstock.core.access import Caller
from penstock.core.access_keys import AccessKey, new_access_key, presented_key
from penstock.errors import AccessKeyNotFound, AccessKeyReplaced, InvalidRequest, StoreUnavailable
from penstock.store import AuditRecord, Store, access_keys, audit
from tests.support.redis_server import RedisProcess
from tests.support.stores import open_store

DAY_MS = 86_400_000
NOW = 1_800_000_000_000


def presented(text: str) -> Any:
    given = presented_key(text.encode())
    assert given is not None
    return given


async def made(store: Store, text: str = "", **changes: Any) -> tuple[str, AccessKey]:
    """The text and the record of a new key."""
    text = text or new_access_key()[0]
    given = presented(text)
    said: dict[str, Any] = {"tenant": "acme", "name": "web", "scopes": ("read",), "created": NOW, "created_by": "root"}
    key = AccessKey(id=given.id, digest=given.digest.hex(), **said | changes)
    await store.access_keys.create(key)
    return text, key


async def read_by(table: KeyTable, store: Store) -> KeyTable:
    await table.read(store.access_keys)
    return table


async def test_a_key_is_listed_with_its_last_use_and_redis_never_has_its_text(store: Store, redis_url: str) -> None:
    text, key = await made(store)
    _, older = await made(store, created=NOW - 5)
    table = await read_by(KeyTable(), store)
    assert table.find(text.encode()) == Caller("web", "acme", frozenset({"read"}))

    await table.note_used(store.access_keys)

    listed = await store.access_keys.listed()
    assert [(one, used is not None) for one, used in listed] == [(key, True), (older, False)]
    assert await store.access_keys.last_used(key.id) == listed[0][1]
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        rows = await client.hgetall(store.engine.keys.access_keys)
    assert all(text.rpartition("_")[2].encode() not in row for row in rows.values())


async def test_the_use_of_a_key_is_noted_once_a_minute_at_most_and_never_goes_back(store: Store) -> None:
    text, key = await made(store)
    now = [1000.0]
    ahead, behind = [await read_by(KeyTable(clock), store) for clock in (lambda: now[0], lambda: 900.0)]
    seen = []
    for _ in range(3):
        for table in (ahead, behind):
            assert table.find(text.encode())
            await table.note_used(store.access_keys)
        seen.append(await store.access_keys.last_used(key.id))
        now[0] += USED_EVERY_MS / 2000

    assert seen == [1_000_000, 1_000_000, 1_060_000]


async def test_a_rotated_key_works_beside_its_successor_for_the_overlap(store: Store) -> None:
    old_text, old = await made(store, expires=NOW + 90 * DAY_MS)
    new_text, new = new_access_key()
    later = NOW + 30 * DAY_MS

    replaced, successor = await store.access_keys.rotate(old.id, new, by="root", at=later, overlap_ms=DAY_MS)

    assert (replaced.expires, replaced.replaced_by) == (later + DAY_MS, new.id)
    assert (successor.created, successor.expires) == (later, later + 90 * DAY_MS)
    now = [(later + DAY_MS) / 1000 - 1]
    table = await read_by(KeyTable(lambda: now[0]), store)
    assert table.find(old_text.encode()) == table.find(new_text.encode()) == Caller("web", "acme", frozenset({"read"}))
    now[0] += 1
    assert table.find(old_text.encode()) is None
    assert table.find(new_text.encode()) is not None
    with pytest.raises(AccessKeyNotFound):
        await store.access_keys.rotate(old.id, new_access_key()[1], by="r", at=later + DAY_MS, overlap_ms=0)


async def test_a_rotation_lengthens_no_life_and_is_done_once(store: Store) -> None:
    _, old = await made(store, expires=NOW + 1000)
    new, third = new_access_key()[1], new_access_key()[1]

    replaced, successor = await store.access_keys.rotate(old.id, new, by="root", at=NOW, overlap_ms=DAY_MS)

    assert replaced.expires == NOW + 1000
    again = await store.access_keys.rotate(old.id, new, by="root", at=NOW, overlap_ms=DAY_MS)
    assert again == (replaced, successor)
    with pytest.raises(AccessKeyReplaced, match=new.id):
        await store.access_keys.rotate(old.id, third, by="root", at=NOW, overlap_ms=DAY_MS)
    assert len(await store.access_keys.listed()) == 2


async def test_of_two_who_rotate_a_key_at_once_one_is_told_of_the_other(store: Store) -> None:
    _, old = await made(store)

    ends = await asyncio.gather(
        *(
            store.access_keys.rotate(old.id, new_access_key()[1], by="root", at=NOW, overlap_ms=DAY_MS)
            for _ in range(8)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(end, AccessKeyReplaced) for end in ends) == 7
    assert len(await store.access_keys.listed()) == 2


async def test_a_record_is_written_only_over_the_one_that_was_read(store: Store) -> None:
    _, key = await made(store)
    read_before = msgspec.json.encode(key)
    await store.access_keys.revoke(key.id, at=NOW)

    written = await store.engine.run(
        "key_put", id=key.id, before=read_before, record=read_before, other="", other_record="", version="v"
    )

    assert written == 0
    assert (await store.access_keys.get(key.id)).revoked == NOW


async def test_a_revocation_is_not_lost_to_a_rotation_at_the_same_time(store: Store) -> None:
    for _ in range(10):
        text, key = await made(store)
        await asyncio.gather(
            store.access_keys.rotate(key.id, new_access_key()[1], by="root", at=NOW, overlap_ms=DAY_MS),
            store.access_keys.revoke(key.id, at=NOW),
            return_exceptions=True,
        )
        assert (await read_by(KeyTable(lambda: NOW / 1000), store)).find(text.encode()) is None


async def test_an_unknown_key_can_be_neither_rotated_nor_revoked(store: Store) -> None:
    with pytest.raises(AccessKeyNotFound):
        await store.access_keys.revoke("nobody", at=NOW)
    with pytest.raises(AccessKeyNotFound):
        await store.access_keys.rotate("nobody", new_access_key()[1], by="root", at=NOW, overlap_ms=0)


async def test_only_so_many_keys_work_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_keys, "MAX_KEYS", 2)
    _, first = await made(store)
    await made(store, expires=NOW - 1)
    await made(store)

    with pytest.raises(InvalidRequest, match="revoke one"):
        await made(store)
    await store.access_keys.revoke(first.id, at=NOW - 1)
    await made(store)


async def test_a_key_that_ended_long_ago_is_forgotten(store: Store) -> None:
    _, old = await made(store, expires=NOW)
    await store.access_keys.used({old.id: NOW})

    _, kept = await made(store, created=NOW + access_keys.KEPT_MS)
    assert {key.id for key, _ in await store.access_keys.listed()} == {old.id, kept.id}
    _, new = await made(store, created=NOW + access_keys.KEPT_MS + 1)

    assert {key.id for key, _ in await store.access_keys.listed()} == {kept.id, new.id}
    assert await store.access_keys.last_used(old.id) is None


@pytest.mark.parametrize(
    "damage",
    [
        {"id": 1},
        {"id": "another"},
        {"digest": "no hex"},
        {"digest": "ab"},
        {"expires": 10**17},
        {"created": -(10**17)},
        {"scopes": ["root"]},
    ],
)
async def test_a_record_that_cannot_be_read_hides_no_other(
    store: Store, redis_url: str, damage: dict[str, Any]
) -> None:
    text, key = await made(store)
    broken = msgspec.to_builtins(key) | {"id": "broken"} | damage
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.hset(store.engine.keys.access_keys, "broken", msgspec.json.encode(broken))

    assert [one for one, _ in await store.access_keys.listed()] == [key]
    assert (await read_by(KeyTable(), store)).find(text.encode()) is not None


async def test_what_is_damaged_beside_the_keys_stops_no_process_from_reading_them(store: Store, redis_url: str) -> None:
    text, _ = await made(store)
    await store.audit.add(act("acme"))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.hset(store.engine.keys.token_generations, b"acme\xff", b"damaged")
        await client.hset(store.engine.keys.token_generations, b"acme", b"")
        await client.hset(store.engine.keys.tokens, b"secret", b"no hex")
        await client.xadd(store.engine.keys.audit, {"other": "x"})

    table = await read_by(KeyTable(), store)

    assert table.find(text.encode()) is not None
    assert table.tenant_of(table.token("tsk_1", "acme", ttl_s=60), "tsk_1") == "acme"
    assert [entry.record for entry in await store.audit.newest(9)] == [act("acme")]


# --- what a process knows -----------------------------------------------------------------------------------------


async def test_a_change_is_heard_by_every_process_within_moments(store: Store) -> None:
    text, key = await made(store)
    tables = [KeyTable() for _ in range(2)]
    changes = [asyncio.Event() for _ in tables]
    loops = [
        asyncio.create_task(table.run(store.access_keys, changed.set))
        for table, changed in zip(tables, changes, strict=True)
    ]
    for changed in changes:
        await asyncio.wait_for(changed.wait(), 30)
        changed.clear()
    await asyncio.sleep(0.2)  # both listen by now, or look again

    await store.access_keys.revoke(key.id, at=NOW)

    for changed in changes:
        await asyncio.wait_for(changed.wait(), 30)
    assert [table.find(text.encode()) for table in tables] == [None, None]
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


async def test_a_change_is_also_found_without_its_message(store: Store, redis_url: str) -> None:
    table = await read_by(KeyTable(), store)
    text, _ = await made(store)

    assert table.find(text.encode()) is None
    assert await table.read(store.access_keys)
    assert table.find(text.encode()) is not None
    assert not await table.read(store.access_keys), "nothing has changed since"
    assert LOOK_S <= 4


async def test_a_process_goes_by_what_it_knows_while_redis_is_away(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        text, _ = await made(store, expires=NOW)
        now = [NOW / 1000 - 1]
        table = await read_by(KeyTable(lambda: now[0]), store)
    async with open_store("redis://127.0.0.1:1", namespace="away") as away:
        loop = asyncio.create_task(table.run(away.access_keys, lambda: None))
        await asyncio.sleep(0.2)

        assert table.find(text.encode()) is not None
        now[0] += 1
        assert table.find(text.encode()) is None, "an expired key needs no Redis to be refused"
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_who_fills_redis_is_stopped_while_it_is_full(own_redis: RedisProcess) -> None:
    """Keys and tokens are ended, a process that starts then knows them, and acts are written down."""
    async with (
        open_store(own_redis.url, namespace="full") as store,
        redis.asyncio.Redis.from_url(own_redis.url) as client,
    ):
        text, key = await made(store)
        before = await read_by(KeyTable(), store)
        token = before.token("tsk_1", "acme", ttl_s=60)
        await client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="memory is full"):
            await store.engine.ping()

        started_now = await read_by(KeyTable(), store)
        assert started_now.find(text.encode()) is not None
        assert started_now.tenant_of(token, "tsk_1") == "acme"
        await started_now.note_used(store.access_keys)
        assert await store.access_keys.last_used(key.id) is not None

        await store.access_keys.revoke(key.id, at=NOW)
        await store.access_keys.revoke_tokens("acme")
        await store.audit.add(act("acme"))
        for table in (before, started_now):
            await table.read(store.access_keys)
            assert table.find(text.encode()) is None
            assert table.tenant_of(token, "tsk_1") is None
        assert [entry.record for entry in await store.audit.newest(9)] == [act("acme")]


async def test_all_processes_sign_tokens_alike_and_an_emptied_redis_ends_them(store: Store, redis_url: str) -> None:
    first, second = [await read_by(KeyTable(), store) for _ in range(2)]
    token = first.token("tsk_1", "acme", ttl_s=60)

    assert second.tenant_of(token, "tsk_1") == "acme"
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(store.engine.keys.tokens)
    assert await second.read(store.access_keys)
    assert second.tenant_of(token, "tsk_1") is None


async def test_all_tokens_of_a_tenant_are_revoked_at_once(store: Store) -> None:
    table = await read_by(KeyTable(), store)
    tokens = {tenant: table.token("tsk_1", tenant, ttl_s=60) for tenant in ("acme", "other")}

    await store.access_keys.revoke_tokens("acme")

    assert await table.read(store.access_keys)
    assert [table.tenant_of(token, "tsk_1") for token in tokens.values()] == [None, "other"]
    assert table.tenant_of(table.token("tsk_1", "acme", ttl_s=60), "tsk_1") == "acme"


# --- the audit ----------------------------------------------------------------------------------------------------


def act(subject: str) -> AuditRecord:
    return AuditRecord(
        by="root",
        tenant="ops",
        act="queue.pause",
        subject=subject,
        address="192.0.2.1",
        request_id="req_1",
        details={"priority": None},
    )


async def test_the_audit_is_read_page_by_page_from_the_newest(store: Store) -> None:
    for name in "abcde":
        await store.audit.add(act(name))

    pages, before = [], None
    while page := await store.audit.newest(2, before=before):
        pages.append([entry.record.subject for entry in page])
        before = page[-1].place

    assert pages == [["e", "d"], ["c", "b"], ["a"]]
    assert await store.audit.newest(2, before="0-0") == ()
    (entry,) = await store.audit.newest(1)
    assert entry.record == act("e")
    assert abs(entry.at - await store.access_keys.now_ms()) < 60_000


async def test_the_audit_keeps_a_bounded_number_of_acts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_ENTRIES", 100)
    subjects = [secrets.token_hex(4) for _ in range(450)]

    for name in subjects:
        await store.audit.add(act(name))

    kept = [entry.record.subject for entry in await store.audit.newest(1000)]
    assert 100 <= len(kept) <= 300
    assert kept == subjects[::-1][: len(kept)]
