"""What a tenant may use: what is beyond its quotas is refused or waits, and another tenant notices nothing."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.access import SCOPES, text_of
from penstock.core.quotas import QuotaName
from penstock.core.task import Outcome, Result
from penstock.settings import QuotaSettings, Settings
from penstock.store import Store
from tests.support.drive import WORKER, body, claim, data_uri, image, photo, stored_objects

pytestmark = pytest.mark.shared_server

QUOTAS: dict[str, dict[QuotaName, int]] = {
    "free": {},
    "one-runs": {"tasks_running": 1},
    "two-wait": {"tasks_waiting": 2},
    "two-submits": {"submits_per_minute": 2},
    "small": {"storage_bytes": 100_000, "redis_bytes": 18_000},
    "three-lines": {"batch_lines": 3},
    "short": {"device_seconds_per_day": 2},
}
"""Tenants with their quotas."""

KEYS = {tenant: secrets.token_hex(12) for tenant in QUOTAS}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = tuple(f"{tenant}:{secret}:{text_of(SCOPES)}" for tenant, secret in KEYS.items())
    return replace(settings, api=replace(settings.api, keys=keys), quotas=QuotaSettings(tenants=QUOTAS))


@pytest.fixture
async def clients(server: str) -> AsyncIterator[Mapping[str, httpx.AsyncClient]]:
    opened = {
        tenant: httpx.AsyncClient(base_url=server, timeout=30, headers={"X-API-Key": secret})
        for tenant, secret in KEYS.items()
    }
    yield opened
    await asyncio.gather(*(client.aclose() for client in opened.values()))


async def test_a_task_that_waits_at_the_cap_of_its_tenant_says_so(
    clients: Mapping[str, httpx.AsyncClient], store: Store
) -> None:
    client = clients["one-runs"]
    await store.leases.renew(WORKER, [])
    first, second = [(await client.post("/v1/tasks", json=body())).raise_for_status() for _ in range(2)]
    other = (await clients["free"].post("/v1/tasks", json=body())).raise_for_status()
    await _has_cap(store, "one-runs", 1)

    started = {(await claim(store)).id, (await claim(store)).id}

    assert started == {first.json()["task_id"], other.json()["task_id"]}

    (blocker,) = (await client.get(f"{second.headers['Location']}/explain")).json()["blockers"]
    assert blocker["code"] == "tenant_at_quota"
    assert "tasks_running: 1" in blocker["detail"]


async def test_a_quota_of_running_tasks_that_an_administrator_sets_holds_for_all_workers(
    clients: Mapping[str, httpx.AsyncClient], store: Store
) -> None:
    client = clients["free"]
    for _ in range(3):
        (await submit(client)).raise_for_status()

    (await client.put("/v1/tenants/free/quotas", json={"tasks_running": 1})).raise_for_status()
    await _has_cap(store, "free", 1)
    await claim(store)
    with pytest.raises(AssertionError):
        await claim(store)
    (await client.put("/v1/tenants/free/quotas", json={"tasks_running": 2})).raise_for_status()
    await _has_cap(store, "free", 2)
    await store.caps.review()
    await claim(store)

    (await client.delete("/v1/tenants/free/quotas")).raise_for_status()


async def submit(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/v1/tasks", json=body(**changes))


@pytest.mark.parametrize(
    ("tenant", "quota", "accepted", "policy"),
    [
        ("two-wait", "tasks_waiting", 2, '"tasks_waiting";q=2'),
        ("two-submits", "submits_per_minute", 2, '"submits_per_minute";q=2;w=60'),
        ("short", "device_seconds_per_day", 2, '"device_seconds_per_day";q=2;w=86400'),
    ],
)
async def test_rl3_what_is_beyond_a_quota_is_refused_with_its_name(
    clients: Mapping[str, httpx.AsyncClient], tenant: str, quota: str, accepted: int, policy: str
) -> None:
    for _ in range(accepted):
        (await submit(clients[tenant])).raise_for_status()

    quoted = await clients[tenant].post("/v1/tasks/quote", json=body())
    refused = await submit(clients[tenant])

    assert quoted.json().get("quota") == (quota if quota == "tasks_waiting" else None)
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["quota"]) == (429, "quota_exceeded", quota)
    assert problem["retryable"] is True
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["RateLimit-Policy"] == policy
    assert refused.headers["RateLimit"] == f'"{quota}";r=0;t={refused.headers["Retry-After"]}'
    (await submit(clients["free"])).raise_for_status()


async def test_what_is_left_of_both_limits_of_submits_is_told_in_one_field(
    clients: Mapping[str, httpx.AsyncClient],
) -> None:
    answers = [await submit(clients[tenant]) for tenant in ("two-submits", "free")]

    policies = [answer.headers["RateLimit-Policy"].split(", ") for answer in answers]
    assert policies == [['"submit";q=100000;w=60', '"submits_per_minute";q=2;w=60'], ['"submit";q=100000;w=60']]
    assert answers[0].headers["RateLimit"].endswith('"submits_per_minute";r=1;t=60')


async def test_bytes_beyond_a_quota_are_refused_before_they_are_stored(
    clients: Mapping[str, httpx.AsyncClient], settings: Settings, store: Store
) -> None:
    client, large = clients["small"], {"size": 60_000, "content_type": "image/png"}
    (await client.post("/v1/uploads", json=large)).raise_for_status()

    second = await client.post("/v1/uploads", json=large)
    inline = await submit(client, image_url=data_uri(photo() + bytes(60_000)))
    file = await client.post("/replicate/v1/files", files={"content": ("a.png", photo() + bytes(60_000), "image/png")})

    assert {answer.status_code for answer in (second, inline, file)} == {429}
    assert second.json()["quota"] == inline.json()["quota"] == "storage_bytes"
    assert stored_objects(settings) == []
    (holdings,) = await store.accounts.held(["small"])
    assert holdings.storage_bytes == 60_000


async def test_records_beyond_a_quota_of_redis_are_refused(clients: Mapping[str, httpx.AsyncClient]) -> None:
    answers = [await submit(clients["small"]) for _ in range(16)]

    refused = [answer for answer in answers if answer.status_code == 429]
    assert 4 < len(refused) < 12
    assert {answer.json()["quota"] for answer in refused} == {"redis_bytes"}


async def test_a_batch_with_too_many_lines_is_refused_and_leaves_nothing(
    clients: Mapping[str, httpx.AsyncClient], settings: Settings, store: Store
) -> None:
    def lines(count: int) -> dict[str, Any]:
        return {"lines": [body(custom_id=f"line-{n}") for n in range(count)]}

    refused = await clients["three-lines"].post("/v1/batches", json=lines(4))

    assert (refused.status_code, refused.json()["quota"]) == (429, "batch_lines")
    assert stored_objects(settings) == []
    (holdings,) = await store.accounts.held(["three-lines"])
    assert (holdings.batch_lines, holdings.redis_bytes) == (0, 0)
    assert (await clients["three-lines"].post("/v1/batches", json=lines(3))).status_code == 202


async def test_lines_that_are_run_again_count_for_the_quota_of_lines(
    clients: Mapping[str, httpx.AsyncClient], store: Store
) -> None:
    client, lines = clients["three-lines"], {"lines": [body(custom_id=f"line-{n}") for n in range(3)]}
    first = (await client.post("/v1/batches", json=lines)).raise_for_status().json()["batch_id"]
    async with asyncio.timeout(60):
        while (await store.accounts.held(["three-lines"]))[0].tasks_waiting < 3:
            await asyncio.sleep(0.02)
        (await client.post(f"/v1/batches/{first}/cancel")).raise_for_status()
        while (await store.accounts.held(["three-lines"]))[0].batch_lines:
            await asyncio.sleep(0.02)
    (await client.post("/v1/batches", json=lines)).raise_for_status()

    refused = await client.post("/v1/tasks/retry", params={"status": "CANCELED", "batch_id": first})

    assert (refused.status_code, refused.json()["quota"]) == (429, "batch_lines")
    assert (await store.accounts.held(["three-lines"]))[0].batch_lines == 3


async def test_lines_of_a_batch_wait_for_the_quota_and_none_of_them_fails(
    clients: Mapping[str, httpx.AsyncClient], store: Store
) -> None:
    client = clients["two-wait"]
    await store.leases.renew(WORKER, [])
    lines = [body(custom_id=f"line-{n}", image_url=data_uri(image())) for n in range(5)]
    started = (await client.post("/v1/batches", json={"lines": lines})).raise_for_status().json()

    most, counts = 0, {"succeeded": 0}
    async with asyncio.timeout(60):
        while (await store.accounts.held(["two-wait"]))[0].tasks_waiting < 2:
            await asyncio.sleep(0.02)
        while counts["succeeded"] < 5:
            (holdings,) = await store.accounts.held(["two-wait"])
            most = max(most, holdings.tasks_waiting)
            answer = await store.leases.claim(worker=WORKER.id, device="cpu", models=WORKER.models)
            if answer.lease:
                await store.leases.complete(answer.lease, Outcome(result=Result(data={"score": 1.0})))
            counts = (await client.get(f"/v1/batches/{started['batch_id']}")).json()["counts"]
            await asyncio.sleep(0.01)

    assert (most, counts["failed"]) == (2, 0)


async def test_tasks_are_run_again_as_far_as_the_quota_goes(clients: Mapping[str, httpx.AsyncClient]) -> None:
    client = clients["two-wait"]
    paths = []
    for _ in range(4):
        paths.append((await submit(client)).headers["Location"])
        (await client.post(f"{paths[-1]}/cancel")).raise_for_status()

    some = await client.post("/v1/tasks/retry", params={"status": "CANCELED", "all": "true"})
    none = await client.post("/v1/tasks/retry", params={"status": "CANCELED", "all": "true"})
    one = await client.post(f"{paths[0]}/retry")

    assert (some.status_code, some.json()["retried"], some.json()["matched"]) == (200, 2, 4)
    assert {answer.json()["quota"] for answer in (none, one)} == {"tasks_waiting"}


async def _has_cap(store: Store, tenant: str, cap: int) -> None:
    """Returns when a process of the API has set this cap."""
    async with asyncio.timeout(60):
        while await store.engine.client.hget(store.engine.keys.of_root("caps"), tenant) != str(cap).encode():
            await asyncio.sleep(0.02)
