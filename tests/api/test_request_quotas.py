"""Requests of a tenant in a minute: what its keys hear when it has made all of them, and that others are served."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.settings import QuotaSettings, Settings
from penstock.store import Store
from tests.support import api_server
from tests.support.drive import body

QUOTA = 5
FIRST, SECOND, OTHER = (f"0123456789abcdef-{name}" for name in ("first", "second", "other"))
READER = "0123456789abcdef-reader"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """`acme` has three keys and a quota, `globex` a key and none."""
    keys = (f"acme:{FIRST}", f"acme:{SECOND}", f"acme:{READER}:read", f"globex:{OTHER}")
    quotas = QuotaSettings(tenants={"acme": {"requests_per_minute": QUOTA}})
    return replace(settings, api=replace(settings.api, keys=keys), quotas=quotas)


Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def ask(stranger: httpx.AsyncClient) -> Ask:
    async def asked(key: str, method: str = "GET", path: str = "/v1/tasks", **said: Any) -> httpx.Response:
        headers = {"X-API-Key": key} | said.pop("headers", {})
        return await stranger.request(method, path, headers=headers, **said)

    return asked


async def test_i8_all_keys_of_a_tenant_have_one_quota_and_other_tenants_theirs(ask: Ask) -> None:
    answers = await asyncio.gather(*(ask((FIRST, SECOND)[n % 2]) for n in range(2 * QUOTA)))
    others = [await ask(OTHER) for _ in range(QUOTA + 1)]

    assert Counter(answer.status_code for answer in answers) == {200: QUOTA, 429: QUOTA}
    assert {answer.status_code for answer in others} == {200}
    assert not [name for name in others[0].headers if name.startswith("ratelimit")]


async def test_i8_two_processes_of_the_api_count_together(server: str, settings: Settings, ask: Ask) -> None:
    with api_server.in_thread(settings) as second:
        answers = await asyncio.gather(
            *(ask(FIRST, path=f"{url}/v1/tasks") for url in (server, second) for _ in range(QUOTA))
        )

    assert Counter(answer.status_code for answer in answers) == {200: QUOTA, 429: QUOTA}


async def test_every_request_counts_whatever_it_is_answered(ask: Ask) -> None:
    refused = [
        await ask(FIRST, "POST", content=b"{", headers={"Content-Type": "application/json"}),
        await ask(READER, "POST", json=body()),
        await ask(FIRST, path="/v1/tasks?nonsense=1"),
        await ask(FIRST, path="/v1/keys"),
        await ask(FIRST, path="/v1/tasks/tsk_none"),
    ]
    last = await ask(FIRST)

    assert [answer.status_code for answer in refused] == [400, 403, 422, 403, 404]
    assert [answer.headers["RateLimit"][:14] for answer in refused] == [f'"requests";r={n}' for n in range(4, -1, -1)]
    assert last.status_code == 429


async def test_wrong_keys_and_open_routes_count_for_nobody(ask: Ask) -> None:
    for _ in range(QUOTA):
        assert (await ask("no-key-of-this-server")).status_code == 401
        assert (await ask(FIRST, path="/livez")).status_code == 200

    assert (await ask(FIRST)).headers["RateLimit"].startswith(f'"requests";r={QUOTA - 1};')


async def test_who_is_refused_hears_which_quota_and_when_to_come_again(ask: Ask) -> None:
    for _ in range(QUOTA):
        await ask(FIRST)

    answer = await ask(FIRST)

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (429, "quota_exceeded", True)
    assert problem["quota"] == "requests_per_minute"
    wait_s = int(answer.headers["Retry-After"])
    assert 1 <= wait_s <= 60
    assert answer.headers["RateLimit-Policy"] == f'"requests";q={QUOTA};w=60'
    assert answer.headers["RateLimit"] == f'"requests";r=0;t={wait_s}'


async def test_one_field_names_all_policies(ask: Ask) -> None:
    answer = await ask(FIRST, "POST", json=body())

    fields = [answer.headers.get_list(name) for name in ("RateLimit-Policy", "RateLimit")]
    assert fields[0] == [f'"submit";q=100000;w=60, "requests";q={QUOTA};w=60']
    (limits,) = fields[1]
    assert limits.startswith('"submit";r=99999;t=60, "requests";r=4;t=')


async def test_who_comes_with_a_token_of_a_task_takes_none_of_the_quota(ask: Ask, stranger: httpx.AsyncClient) -> None:
    links = (await ask(FIRST, "POST", json=body(links={"token": True}))).json()["links"]
    for _ in range(QUOTA):
        assert (await stranger.get(links["self"], params={"token": links["token"]})).status_code == 200

    assert (await ask(FIRST)).headers["RateLimit"].startswith(f'"requests";r={QUOTA - 2};')


async def test_redis_is_not_asked_for_a_tenant_without_a_quota_nor_for_one_that_has_to_wait(
    ask: Ask, store: Store
) -> None:
    keys, client = store.engine.keys, store.engine.client
    for _ in range(QUOTA + 1):
        await ask(FIRST)
    await client.delete(keys.of_root("requests:acme"))  # Redis would let the tenant in again

    refused = await ask(FIRST)
    await ask(OTHER)

    assert refused.status_code == 429
    assert await client.exists(keys.of_root("requests:globex")) == 0
