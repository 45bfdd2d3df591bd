"""Quotas of single tenants, set while the server runs: over HTTP, with the client and with `penstock tenants`."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from penstock.api.schemas.tenants import QuotasRequest, QuotasView
from penstock.cli.main import cli
from penstock.client import AsyncClient, Client
from penstock.core.quotas import QUOTAS, Quotas
from penstock.settings import QuotaSettings, Settings
from penstock.store import Store
from tests.support import api_server
from tests.support.drive import body

pytestmark = pytest.mark.shared_server

ACME, PATH = "0123456789abcdef-acme", "/v1/tenants/acme/quotas"
NONE = dict.fromkeys(QUOTAS, 0)
OF_ALL = NONE | {"tasks_waiting": 900}
OF_SETTINGS = OF_ALL | {"storage_bytes": 10**12}

Run = Callable[..., Result]


@pytest.fixture
def settings(settings: Settings, api_key: str) -> Settings:
    keys = (f"root:{api_key}:read+submit+operate+admin", f"acme:{ACME}")
    quotas = QuotaSettings(tasks_waiting=900, tenants={"acme": {"storage_bytes": 10**12}})
    return replace(settings, api=replace(settings.api, keys=keys), quotas=quotas)


@pytest.fixture
def run(server: str, api_key: str) -> Run:
    """Runs a command at the server with the key of the administrator, or with another one."""

    def invoke(*arguments: str, key: str = api_key, status: int = 0) -> Result:
        environ = {"PENSTOCK_URL": server, "PENSTOCK_API_KEY": key, "COLUMNS": "200"}
        done = CliRunner().invoke(cli, ("tenants", *arguments), env=environ)
        assert done.exit_code == status, done.output
        return done

    return invoke


async def test_what_is_set_for_a_tenant_stands_over_the_settings_until_it_is_taken_back(
    client: httpx.AsyncClient,
) -> None:
    before = (await client.get(PATH)).json()
    first = (await client.put(PATH, json={"tasks_waiting": 5, "tasks_running": None})).json()
    second = (await client.put(PATH, json={"storage_bytes": 0})).json()
    again = (await client.put(PATH, json={"storage_bytes": 0})).json()
    other = (await client.get("/v1/tenants/nobody/quotas")).json()
    after = [(await client.delete(PATH)).json() for _ in range(2)]

    assert before == {"tenant": "acme", "quotas": OF_SETTINGS, "own": {}}
    assert first == {"tenant": "acme", "quotas": OF_SETTINGS | {"tasks_waiting": 5}, "own": {"tasks_waiting": 5}}
    assert second == {"tenant": "acme", "quotas": OF_ALL, "own": {"storage_bytes": 0}}
    assert again == second
    assert other == {"tenant": "nobody", "quotas": OF_ALL, "own": {}}
    assert after == [before, before]


@pytest.mark.parametrize(
    ("path", "asked", "param"),
    [
        (PATH, {"tasks_waiting": -1}, "tasks_waiting"),
        (PATH, {"tasks_waiting": 2**53}, "tasks_waiting"),
        (PATH, {"tasks_waiting": 1.5}, "tasks_waiting"),
        (PATH, {"tasks": 1}, "tasks"),
        (PATH, {"tenant": "other"}, "tenant"),
        ("/v1/tenants/a b/quotas", {}, "tenant"),
        ("/v1/tenants/-a/quotas", {}, "tenant"),
    ],
)
async def test_what_is_no_quota_or_no_tenant_is_refused(
    client: httpx.AsyncClient, path: str, asked: dict[str, Any], param: str
) -> None:
    refused = await client.put(path, json=asked)

    assert (refused.status_code, refused.json()["code"], refused.json()["param"]) == (422, "invalid_request", param)


async def test_a_change_of_quotas_is_in_the_audit(client: httpx.AsyncClient) -> None:
    await client.put(PATH, json={"tasks_waiting": 5})
    await client.delete(PATH)

    entries = (await client.get("/v1/audit")).json()["data"]

    seen = [(one["by"], one["act"], one["subject"], one["details"]) for one in entries]
    assert seen == [("root", "quotas.reset", "acme", {}), ("root", "quotas.set", "acme", {"tasks_waiting": 5})]


async def test_tenants_are_listed_with_their_keys_tasks_and_quotas(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await client.post("/v1/keys", json={"tenant": "acme"})
    revoked = (await client.post("/v1/keys", json={"tenant": "acme"})).json()["record"]["id"]
    await client.delete(f"/v1/keys/{revoked}")
    await client.put("/v1/tenants/soon/quotas", json={"tasks_running": 1})
    (await stranger.post("/v1/tasks", json=body(), headers={"X-API-Key": ACME})).raise_for_status()

    listed = (await client.get("/v1/tenants")).json()["data"]

    assert listed == [
        {"tenant": "acme", "keys": 2, "pending": 1, "running": 0, "quotas": OF_SETTINGS},
        {"tenant": "default", "keys": 0, "pending": 0, "running": 0, "quotas": OF_ALL},
        {"tenant": "root", "keys": 1, "pending": 0, "running": 0, "quotas": OF_ALL},
        {"tenant": "soon", "keys": 0, "pending": 0, "running": 0, "quotas": OF_ALL | {"tasks_running": 1}},
    ]


async def test_an_unreadable_entry_counts_as_none(client: httpx.AsyncClient, store: Store) -> None:
    await store.engine.client.hset(store.engine.keys.quotas, "broken", b'{"tasks": "many"}')
    await client.put(PATH, json={"tasks_waiting": 5})

    assert (await client.get("/v1/tenants/broken/quotas")).json()["own"] == {}
    assert (await client.get(PATH)).json()["own"] == {"tasks_waiting": 5}


# --- at once, everywhere --------------------------------------------------------------------------------------


@pytest.fixture
async def neighbour(settings: Settings, server: str) -> AsyncIterator[httpx.AsyncClient]:
    """Another process of the same API, asked as the tenant."""
    with api_server.in_thread(settings) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": ACME}, timeout=30) as opened:
            yield opened


async def test_every_process_goes_by_new_quotas_within_five_seconds(
    client: httpx.AsyncClient, neighbour: httpx.AsyncClient
) -> None:
    async def until(is_limited: bool) -> float:
        began = time.monotonic()
        async with asyncio.timeout(60):
            while ("RateLimit" in (await neighbour.get("/v1/models")).headers) != is_limited:
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    await until(False)
    await client.put(PATH, json={"requests_per_minute": 1_000_000})
    limited_after_s = await until(True)
    await client.delete(PATH)
    free_after_s = await until(False)

    assert limited_after_s < 5
    assert free_after_s < 5


async def test_a_tenant_that_has_to_wait_is_let_in_when_its_quota_is_raised(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    async def status() -> int:
        return (await stranger.get("/v1/models", headers={"X-API-Key": ACME})).status_code

    await client.put(PATH, json={"requests_per_minute": 1})
    before = [await status() for _ in range(3)]
    await client.put(PATH, json={"requests_per_minute": 3})
    after = [await status() for _ in range(3)]

    assert before == [200, 429, 429]
    assert after == [200, 200, 429], "one was counted before"


# --- the clients ----------------------------------------------------------------------------------------------


async def test_the_client_sets_and_reads_quotas(server: str, api_key: str) -> None:
    async with AsyncClient(server, api_key) as client:
        made = await client.set_quotas("acme", {"tasks_running": 2})
        read = await client.quotas("acme")
        (listed,) = [one for one in await client.tenants() if one.tenant == "acme"]
        reset = await client.reset_quotas("acme")

    assert made == read
    assert (read.own, read.quotas["tasks_running"]) == ({"tasks_running": 2}, 2)
    assert listed.quotas == read.quotas
    assert reset.own == {}


def test_the_blocking_client_does_as_the_other(server: str, api_key: str) -> None:
    with Client(server, api_key) as client:
        made = client.set_quotas("acme", {"tasks_running": 2})
        assert client.quotas("acme") == made
        assert [one.tenant for one in client.tenants()] == ["acme", "default", "root"]
        assert client.reset_quotas("acme").own == {}


def test_the_commands_set_single_quotas_and_leave_the_others(run: Run) -> None:
    run("quotas", "acme", "--set", "tasks_waiting=5", "--set", "requests_per_minute=60")
    shown = run("quotas", "acme", "--set", "tasks_waiting=0").stdout
    assert re.search(r"^tasks_waiting +none +acme *$", shown, re.MULTILINE)
    assert re.search(r"^requests_per_minute +60 +acme *$", shown, re.MULTILINE)
    assert re.search(r"^storage_bytes +1000000000000 *$", shown, re.MULTILINE)

    own = json.loads(run("quotas", "acme", "--set", "tasks_waiting=default", "--json").stdout)["own"]
    assert own == {"requests_per_minute": 60}
    assert json.loads(run("quotas", "acme", "--reset", "--set", "tasks_running=1", "--json").stdout)["own"] == {
        "tasks_running": 1
    }
    assert json.loads(run("quotas", "acme", "--reset", "--json").stdout)["own"] == {}


def test_the_commands_list_tenants(run: Run) -> None:
    table, lines = run("list").stdout, run("list", "--json").stdout.splitlines()

    assert re.search(r"^acme +1 +0 +0 +tasks_waiting=900 storage_bytes=1000000000000", table, re.MULTILINE)
    assert [json.loads(line)["tenant"] for line in lines] == ["acme", "default", "root"]
    assert "forbidden" in run("list", key=ACME, status=1).stderr


@pytest.mark.parametrize(
    ("said", "answer"),
    [("tasks=1", "'tasks' is no quota"), ("tasks_waiting", "0 for no limit"), ("tasks_waiting=-1", "0 for no limit")],
)
def test_a_mistyped_quota_is_explained(run: Run, said: str, answer: str) -> None:
    assert answer in run("quotas", "acme", "--set", said, status=2).stderr


def test_the_shapes_of_requests_and_answers_have_every_quota() -> None:
    assert QuotasRequest.__struct_fields__ == QuotasView.__struct_fields__ == Quotas.__struct_fields__ == QUOTAS
