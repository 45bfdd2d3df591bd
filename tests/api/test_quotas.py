"""What a tenant may use: what is beyond its quotas is refused or waits, and another tenant notices nothing."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.access import SCOPES, text_of
from penstock.core.quotas import QuotaName
from penstock.settings import QuotaSettings, Settings
from penstock.store import Store
from tests.support.drive import WORKER, body, claim

pytestmark = pytest.mark.shared_server

QUOTAS: dict[str, dict[QuotaName, int]] = {"free": {}, "one-runs": {"tasks_running": 1}}
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
    await _are_capped(store)

    started = {(await claim(store)).id, (await claim(store)).id}

    assert started == {first.json()["task_id"], other.json()["task_id"]}

    (blocker,) = (await client.get(f"{second.headers['Location']}/explain")).json()["blockers"]
    assert blocker["code"] == "tenant_at_quota"
    assert "tasks_running: 1" in blocker["detail"]


async def _are_capped(store: Store) -> None:
    async with asyncio.timeout(60):
        while not await store.engine.client.exists(store.engine.keys.of_root("capped")):
            await asyncio.sleep(0.02)
