"""Managed keys and the audit over HTTP, as administrators and their clients use them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from loguru import logger
from msgspec.structs import replace

from penstock.client import AsyncClient, PenstockApiError
from penstock.core.access_keys import new_access_key
from penstock.settings import Settings
from penstock.store import Store
from tests.support import api_server
from tests.support.drive import MODEL, body

pytestmark = [pytest.mark.shared_server, pytest.mark.usefixtures("patient")]

KEY = {"tenant": "acme", "name": "web"}


async def created(client: httpx.AsyncClient, **said: Any) -> tuple[str, dict[str, Any]]:
    """The text and the record of a new key."""
    answer = (await client.post("/v1/keys", json=KEY | said)).raise_for_status()
    return answer.json()["key"], answer.json()["record"]


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def status_with(stranger: httpx.AsyncClient, key: str) -> int:
    return (await stranger.get("/v1/tasks", headers=bearing(key))).status_code


async def test_a_key_is_made_shown_once_and_used(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/keys", json=KEY | {"expires_in_s": 3600})

    made = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert answer.headers["Location"] == f"/v1/keys/{made['record']['id']}"
    assert await status_with(stranger, made["key"]) == 200
    shown = (await client.get(answer.headers["Location"])).json()
    assert shown == made["record"] | {"last_used_at": shown["last_used_at"]}
    assert {name: shown[name] for name in ("tenant", "name", "scopes", "status", "created_by")} == {
        "tenant": "acme", "name": "web", "scopes": ["read", "submit"], "status": "active", "created_by": "default",
    }  # fmt: skip
    secret = made["key"].rpartition("_")[2]
    for path in ("/v1/keys", "/v1/audit", answer.headers["Location"]):
        assert secret not in (await client.get(path)).text


async def test_au1_unknown_expired_and_revoked_keys_are_refused_in_the_same_words(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store
) -> None:
    expired, record = await created(client)
    await store.access_keys.rotate(record["id"], new_access_key()[1], by="t", at=await moment(store), overlap_ms=1)
    revoked, record = await created(client)
    await client.delete(f"/v1/keys/{record['id']}")
    wrong = ["nonsense", revoked[:-1] + "é", new_access_key()[0], expired, revoked, f"{revoked}="]

    async with asyncio.timeout(30):
        while await status_with(stranger, expired) != 401:
            await asyncio.sleep(0.02)
    answers = [await stranger.get("/v1/tasks", headers={"Authorization": f"Bearer {key}".encode()}) for key in wrong]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}
    bodies = [answer.json() | {"request_id": ""} for answer in answers]
    assert [body for body in bodies if body != bodies[0]] == []
    assert (await stranger.get("/v1/tasks")).json() | {"request_id": ""} == bodies[0]


async def test_a_rotated_key_acts_as_the_same_caller_beside_the_old_one(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    old, record = await created(client, name=None)

    rotated = (await client.post(f"/v1/keys/{record['id']}/rotate?overlap_s=3600")).json()

    assert (rotated["record"]["name"], record["name"]) == (record["id"], record["id"])
    assert rotated["replaced"]["replaced_by"] == rotated["record"]["id"]
    assert [await status_with(stranger, key) for key in (old, rotated["key"])] == [200, 200]
    order = body(client_request_id="order-1")
    tasks = [(await stranger.post("/v1/tasks", json=order, headers=bearing(key))) for key in (old, rotated["key"])]
    assert [answer.status_code for answer in tasks] == [202, 200]
    again = await client.post(f"/v1/keys/{record['id']}/rotate")
    assert (again.status_code, again.json()["code"]) == (409, "key_already_replaced")
    now = (await client.post(f"/v1/keys/{rotated['record']['id']}/rotate?overlap_s=0")).json()
    assert [await status_with(stranger, key) for key in (rotated["key"], now["key"])] == [401, 200]


def status_of(address: str, headers: dict[str, str]) -> int:
    """The status of a request whose headers are sent as they are: httpx refuses spaces at the end."""
    with closing(HTTPConnection(address)) as connection:
        connection.request("GET", "/v1/tasks", headers=headers)
        return connection.getresponse().status


async def test_a_key_is_found_whatever_spaces_are_around_it_and_beside_an_empty_header(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    """Proxies add headers that are empty, and scripts a line's end."""
    key, _ = await created(client, scopes=["read"])
    assert (await stranger.get("/v1/tasks", headers={"X-API-Key": ""} | bearing(key))).status_code == 200
    assert await asyncio.to_thread(status_of, stranger.base_url.netloc.decode(), {"X-API-Key": f"{key} \t"}) == 200
    for headers in ({"X-API-Key": "another"} | bearing(key), {"X-API-Key": ""}):
        assert (await stranger.get("/v1/tasks", headers=headers)).status_code == 401, headers


async def test_au5_a_key_in_a_query_a_cookie_or_another_header_is_none(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, api_key: str
) -> None:
    managed, _ = await created(client, scopes=["read"])
    task = (await client.post("/v1/tasks", json=body())).json()["links"]["self"]
    for key in (managed, api_key):
        for path in ("/v1/tasks", task, f"{task}/result", f"{task}/events"):
            for name in ("token", "api_key", "key", "access_token", "x-api-key"):
                assert (await stranger.get(f"{path}?{name}={key}")).status_code == 401, (path, name)
            for headers in (
                {"Cookie": f"token={key}; api_key={key}"}, {"Token": key}, {"Authorization": key},
                {"Authorization": f"Basic {key}"}, {"X-Auth-Token": key}, {"Proxy-Authorization": f"Bearer {key}"},
            ):  # fmt: skip
                assert (await stranger.get(path, headers=headers)).status_code == 401, headers


async def test_au5_keys_and_tokens_are_in_no_log_metric_or_refusal(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, api_key: str
) -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="TRACE", serialize=True, backtrace=True, diagnose=True)
    try:
        managed, record = await created(client)
        links = (await client.post("/v1/tasks", json=body(links={"token": True}))).json()["links"]
        refused = [
            await stranger.get(links["self"], params={"token": managed}),
            await stranger.get(links["result"], params={"token": links["token"]}),
            await stranger.get(links["self"], params={"token": links["token"], "unknown": "1"}),
            await stranger.post(
                "/v1/tasks", content=b"{", headers=bearing(managed) | {"Content-Type": "application/json"}
            ),
            await stranger.get("/v1/tasks", headers=bearing(managed[:-1])),
        ]
        await client.post(f"/v1/keys/{record['id']}/rotate")
        shown = [answer.text for answer in refused] + [(await stranger.get("/metrics")).text]
    finally:
        logger.remove(sink)

    assert [answer.status_code for answer in refused] == [401, 409, 422, 400, 401]
    secrets = (api_key, managed, managed.rpartition("_")[2][:32], links["token"], links["token"][3:])
    assert [secret for secret in secrets if any(secret in text for text in said + shown)] == []
    assert any(record["id"] in text for text in said), "the id is what a log calls a key"


@pytest.mark.parametrize(
    "asked",
    [
        {"tenant": "a/b"},
        {"tenant": ""},
        {"tenant": "null"},
        {"name": "a:b"},
        {"name": "web\n"},
        {"scopes": []},
        {"scopes": ["root"]},
        {"expires_in_s": -1},
        {"id": "mine"},
        {"key": "pk_mine"},
    ],
)
async def test_a_request_for_a_key_is_checked(client: httpx.AsyncClient, asked: dict[str, Any]) -> None:
    refused = await client.post("/v1/keys", json=KEY | asked)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


async def test_keys_are_listed_by_tenant_with_how_they_ended(client: httpx.AsyncClient) -> None:
    _, first = await created(client)
    _, foreign = await created(client, tenant="other", expires_in_s=0)
    revoked = (await client.delete(f"/v1/keys/{first['id']}")).json()

    assert (await client.delete(f"/v1/keys/{first['id']}")).json() == revoked, "it can be repeated"
    everyone = (await client.get("/v1/keys")).json()["data"]
    assert [(key["id"], key["status"]) for key in everyone] == [(foreign["id"], "active"), (first["id"], "revoked")]
    assert (everyone[0]["expires_at"], everyone[1]["revoked_at"]) == (None, revoked["revoked_at"])
    assert [key["id"] for key in (await client.get("/v1/keys?tenant=acme")).json()["data"]] == [first["id"]]


@pytest.mark.parametrize("tenant", ["a/b", "null", "", "x" * 65, "-a"])
async def test_a_tenant_in_a_query_is_a_name(client: httpx.AsyncClient, tenant: str) -> None:
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/tokens/revoke")):
        refused = await client.request(method, path, params={"tenant": tenant})
        assert (refused.status_code, refused.json()["param"]) == (422, "tenant")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/rotate"), ("DELETE", "")])
async def test_acts_on_a_key_that_is_none_find_nothing(client: httpx.AsyncClient, method: str, path: str) -> None:
    refused = await client.request(method, f"/v1/keys/{'0' * 12}{path}")

    assert (refused.status_code, refused.json()["code"]) == (404, "key_not_found")


async def test_the_stream_of_a_revoked_key_ends(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    key, record = await created(client)
    made = await stranger.post("/v1/tasks", json=body(), headers=bearing(key))
    events = made.json()["links"]["events"]

    async with asyncio.timeout(30), stranger.stream("GET", events, headers=bearing(key)) as stream:
        lines = stream.aiter_lines()
        while not (await anext(lines)).startswith("data:"):
            pass
        await client.delete(f"/v1/keys/{record['id']}")
        rest = [line async for line in lines]
        assert not [line for line in rest if line.startswith(("data:", "event:", ":"))], "it ended at once"


# --- several processes --------------------------------------------------------------------------------------------


@pytest.fixture
async def neighbour(settings: Settings, server: str) -> AsyncIterator[httpx.AsyncClient]:
    """Another process of the same API, asked without a key."""
    with api_server.ServerProcess(settings) as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=30) as opened:
            yield opened


async def known_to(process: httpx.AsyncClient, key: str) -> None:
    async with asyncio.timeout(60):
        while await status_with(process, key) != 200:
            await asyncio.sleep(0.01)


async def last_let_in(process: httpx.AsyncClient, key: str) -> float:
    """Asks without a pause until the key is refused, and returns when the last request that was let in began."""
    began = 0.0
    while True:
        now = asyncio.get_running_loop().time()
        status = await status_with(process, key)
        if status == 401:
            return began
        assert status == 200
        began = now


async def test_au4_a_key_revoked_under_load_is_refused_by_every_process_within_five_seconds(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, neighbour: httpx.AsyncClient
) -> None:
    key, record = await created(client)
    await known_to(neighbour, key)
    asking = [asyncio.create_task(last_let_in(process, key)) for process in (stranger, neighbour) for _ in range(4)]
    await asyncio.sleep(0.3)

    await client.delete(f"/v1/keys/{record['id']}")

    revoked = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*asking)
    assert min(ends) > 0, "they were let in before"
    assert max(ends) < revoked + 5
    assert [await status_with(process, key) for process in (stranger, neighbour)] == [401, 401]


async def test_au4_a_rotation_under_load_costs_no_client_an_error(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, neighbour: httpx.AsyncClient
) -> None:
    key, record = await created(client)
    await known_to(neighbour, key)
    keys, seen = {"old": key}, []

    async def ask(process: httpx.AsyncClient, which: str) -> None:
        for _ in range(25):
            seen.append(await status_with(process, keys[which]))

    asking = [asyncio.create_task(ask(process, "old")) for process in (stranger, neighbour)]
    keys["new"] = (await client.post(f"/v1/keys/{record['id']}/rotate?overlap_s=600")).json()["key"]
    await known_to(neighbour, keys["new"])
    asking += [asyncio.create_task(ask(process, "new")) for process in (stranger, neighbour)]
    await asyncio.gather(*asking)

    assert (len(seen), set(seen)) == (100, {200})


# --- the audit ----------------------------------------------------------------------------------------------------


async def test_every_act_on_keys_and_queues_is_in_the_audit(client: httpx.AsyncClient) -> None:
    _, record = await created(client)
    new = (await client.post(f"/v1/keys/{record['id']}/rotate")).json()["record"]["id"]
    await client.delete(f"/v1/keys/{new}")
    await client.post("/v1/tokens/revoke?tenant=acme")
    await client.post(f"/v1/queues/{MODEL}/pause?priority=low")
    await client.post(f"/v1/queues/{MODEL}/purge?dry_run=true")
    resumed = await client.post(f"/v1/queues/{MODEL}/resume")
    await client.post(f"/v1/queues/{MODEL}/purge")

    page = (await client.get("/v1/audit")).json()

    acts = [(entry["act"], entry["subject"]) for entry in page["data"]]
    assert acts == [
        ("queue.purge", MODEL),
        ("queue.resume", MODEL),
        ("queue.pause", MODEL),
        ("tokens.revoke", "acme"),
        ("key.revoke", new),
        ("key.rotate", record["id"]),
        ("key.create", record["id"]),
    ]
    assert {(entry["by"], entry["address"]) for entry in page["data"]} == {("default", "127.0.0.1")}
    assert page["data"][1]["request_id"] == resumed.headers["X-Request-Id"]
    assert page["data"][2]["details"] == {"priority": "low", "paused": 1}
    assert page["data"][6]["details"]["of_tenant"] == "acme"


async def test_the_filter_of_keys_does_not_change_who_asks(client: httpx.AsyncClient) -> None:
    admin, _ = await created(client, scopes=["admin"], tenant="ops", name="root")

    async with httpx.AsyncClient(base_url=client.base_url, headers=bearing(admin), timeout=30) as opened:
        assert (await opened.get("/v1/keys?tenant=acme")).json()["data"] == []
        assert (await opened.post("/v1/tokens/revoke?tenant=acme")).status_code == 200
    (entry, *_) = (await client.get("/v1/audit")).json()["data"]
    assert (entry["by"], entry["tenant"], entry["subject"], entry["details"]) == ("root", "ops", "acme", {})


async def test_the_audit_has_the_address_of_the_client_behind_a_proxy_that_is_trusted(
    settings: Settings, api_key: str
) -> None:
    behind = replace(settings, api=replace(settings.api, trusted_proxies=("127.0.0.1",)))
    said = {"X-API-Key": api_key, "X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    with api_server.in_thread(behind) as url:
        async with httpx.AsyncClient(base_url=url, headers=said, timeout=30) as client:
            await client.post(f"/v1/queues/{MODEL}/resume")
            (entry,) = (await client.get("/v1/audit")).json()["data"]

    assert entry["address"] == "198.51.100.7"


async def test_the_audit_is_paged(client: httpx.AsyncClient) -> None:
    for _ in range(5):
        await client.post(f"/v1/queues/{MODEL}/resume")

    ids, cursor = [], ""
    while cursor is not None:
        page = (await client.get("/v1/audit", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        ids += [entry["id"] for entry in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)

    assert (len(ids), ids) == (5, sorted(ids, reverse=True))
    assert (await client.get("/v1/audit", params={"cursor": "0-0"})).json()["data"] == []
    for wrong in ("1", "x-1", "(1-1", "1-1\n"):
        assert (await client.get("/v1/audit", params={"cursor": wrong})).status_code == 422


async def test_the_python_client_makes_and_ends_keys(server: str, api_key: str) -> None:
    async with AsyncClient(server, api_key, patience_s=5) as admin:
        with pytest.raises(ValueError, match="None"):
            await admin.create_key("acme", expires_in_s=0)
        made = await admin.create_key("acme", scopes=("read",), name="ci", expires_in_s=None)
        assert (made.record.expires_at, made.record.scopes) == (None, ("read",))
        rotated = await admin.rotate_key(made.record.id, overlap_s=60)
        async with AsyncClient(server, rotated.key, patience_s=5) as user:
            assert [task async for task in user.list()] == []
            assert (await admin.revoke_key(rotated.record.id)).status == "revoked"
            with pytest.raises(PenstockApiError, match="unauthorized"):
                await anext(user.list())
        await admin.revoke_tokens("acme")
        assert [key.status for key in await admin.keys(tenant="acme")] == ["revoked", "active"]
        assert [entry.act async for entry in admin.audit()] == [
            "tokens.revoke", "key.revoke", "key.rotate", "key.create",
        ]  # fmt: skip


async def moment(store: Store) -> int:
    return await store.access_keys.now_ms()
