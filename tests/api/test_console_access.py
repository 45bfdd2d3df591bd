"""The console's screens of batches, keys, usage and the audit."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest
from msgspec.structs import replace

from penstock.settings import Settings, WebhookSettings
from tests.support.drive import MODEL, body, data_uri, image

pytestmark = pytest.mark.shared_server


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Webhooks are signed."""
    return replace(settings, webhooks=WebhookSettings(secrets=(f"whsec_{base64.b64encode(bytes(24)).decode()}",)))


@pytest.fixture
async def browser(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Is logged in with all scopes."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        await opened.post("/console/login", data={"key": api_key})
        yield opened


async def shown(browser: httpx.AsyncClient, path: str) -> str:
    answer = await browser.get(f"/console{path}")
    assert answer.status_code == 200, answer.text[:2000]
    return answer.text


async def new_key(client: httpx.AsyncClient, *scopes: str, name: str = "shop") -> dict[str, str]:
    made = (await client.post("/v1/keys", json={"tenant": "acme", "name": name, "scopes": scopes})).json()
    return {"key": made["key"], "id": made["record"]["id"]}


async def test_a_batch_shows_its_counts_its_webhook_and_what_can_be_done(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    lines = [{"custom_id": f"photo {n}"} | body(image_url=data_uri(image())) for n in range(3)]
    made = (await client.post("/v1/batches", json={"lines": lines, "metadata": {"album": "<summer>"}})).json()
    batch_id = made["batch_id"]

    listed, page = await shown(browser, "/batches"), await shown(browser, f"/batches/{batch_id}")

    assert f'href="/console/batches/{batch_id}"' in listed
    assert "&lt;summer&gt;" in page
    assert f"/console/v1/batches/{batch_id}/cancel" in page
    assert f"/console/v1/batches/{batch_id}/results" in page
    assert "Delete" not in page, "it runs"
    await client.post(f"/v1/batches/{batch_id}/cancel")
    assert (await browser.get("/console/batches/bat_none")).status_code == 404


async def test_keys_are_shown_to_administrators_alone(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    made = await new_key(client, "read", "operate")

    page = await shown(browser, "/keys")
    assert f'id="{made["id"]}"' in page
    assert f"/console/v1/keys/{made['id']}/rotate" in page
    assert "/console/v1/tokens/revoke?tenant=acme" in page
    assert made["key"] not in page

    await browser.post("/console/login", data={"key": made["key"]})
    assert [(await browser.get(f"/console/{path}")).status_code for path in ("keys", "audit")] == [403, 403]
    assert "/console/keys" not in await shown(browser, "/")


async def test_the_usage_of_others_is_shown_to_who_operates(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await client.put("/v1/tenants/acme/quotas", json={"tasks_waiting": 4})
    made = await new_key(client, "read", "submit")
    await client.post("/v1/tasks", json=body(image_url=data_uri(image())), headers={"X-API-Key": made["key"]})

    own, everybody = await shown(browser, "/usage"), await shown(browser, "/usage?tenant=*")
    assert "<h2>acme</h2>" not in own
    acme = everybody[everybody.index("<h2>acme</h2>") :]
    assert 'value="0.250"' in acme, "one of four tasks waits"

    await browser.post("/console/login", data={"key": made["key"]})
    assert "<h2>acme</h2>" in await shown(browser, "/usage")
    assert (await browser.get("/console/usage?tenant=*")).status_code == 403


async def test_the_audit_says_who_did_what(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    await client.post(f"/v1/queues/{MODEL}/pause?priority=low")

    page = await shown(browser, "/audit")

    assert "<code>queue.pause</code>" in page
    assert "priority: low" in page


async def test_operators_see_which_endpoints_are_owed_events(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    hook = {"url": "https://93.184.216.34/hook", "events": ["canceled"]}
    answer = await client.post("/v1/tasks", json=body(image_url=data_uri(image()), webhook=hook))
    task_id = answer.json()["task_id"]
    assert "No event waits" in await shown(browser, "/webhooks")

    await client.post(f"/v1/tasks/{task_id}/cancel")

    page = await shown(browser, "/webhooks")
    assert hook["url"] in page
    assert "<code>task.canceled</code>" in page
    assert f"/console/v1/tasks/{task_id}/webhook/redeliver?tenant=default" in page
    made = await new_key(client, "read", "submit")
    await browser.post("/console/login", data={"key": made["key"]})
    assert (await browser.get("/console/webhooks")).status_code == 403
