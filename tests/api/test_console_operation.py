"""The console's screens of operators: queues, workers and models, with the acts that the viewer's key may do."""

import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest

from penstock.core.task import Progress
from penstock.store import Store
from tests.support.drive import MODEL, WORKER, body, claim, data_uri, image
from tests.support.stores import submit

pytestmark = pytest.mark.shared_server


@pytest.fixture
async def browser(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Is logged in with all scopes."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        await opened.post("/console/login", data={"key": api_key})
        yield opened


async def shown(browser: httpx.AsyncClient, path: str) -> str:
    answer = await browser.get(f"/console{path}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def submitted(client: httpx.AsyncClient, **changes: object) -> str:
    answer = await client.post("/v1/tasks", json=body(image_url=data_uri(image()), **changes))
    return str(answer.json()["task_id"])


async def test_queues_show_what_waits_and_who_paused_them(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    await submitted(client, priority="low")
    assert "Pause all" in await shown(browser, "/queues")

    await client.post(f"/v1/queues/{MODEL}/pause?priority=low")

    page = await shown(browser, "/queues")
    low = page[page.index(f'id="{MODEL} low"') :].partition("</tr>")[0]
    assert ">1<" in low
    assert ">Paused<" in low
    assert f"/console/v1/queues/{MODEL}/resume?priority=low" in low
    assert f"/console/v1/queues/{MODEL}/purge" in page


async def test_queues_show_the_shares_of_keys_to_who_may_know_them(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, server: str, store: Store
) -> None:
    callers = {("default", "alice"): 3, ("default", "al"): 1, ("acme", "eve"): 2, ("acme0", "mallory"): 1}
    for (tenant, caller), count in callers.items():
        for _ in range(count):
            await submit(store, tenant=tenant, caller=caller)
    made = await client.post("/v1/keys", json={"tenant": "acme", "name": "eye", "scopes": ["read"]})

    whole = await shown(browser, "/queues")
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as viewer:
        await viewer.post("/console/login", data={"key": made.json()["key"]})
        own = await shown(viewer, "/queues")

    found = re.findall(r'<a href="([^"]+key=[^"]+)">([^<]+)</a> (\d+), (\d+)%', whole)
    assert [row[1:] for row in found] == [
        ("alice", "3", "43"), ("acme/eve", "2", "29"), ("acme0/mallory", "1", "14"), ("al", "1", "14"),
    ]  # fmt: skip
    listed = await shown(browser, unescape(found[1][0]).removeprefix("/console"))
    assert len(re.findall('id="row-tsk_', listed)) == 2
    assert re.findall(r">([^<]+)</a> (\d+), \d+%", own) == [("eve", "2")]


async def test_workers_show_their_tasks_tile_by_tile(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store
) -> None:
    await store.leases.renew(WORKER, [])
    task_id = await submitted(client)
    lease = await claim(store)
    await store.leases.progress(lease, "infer", Progress(done=3, total=12))

    (worker,) = (await client.get("/v1/workers")).json()["data"]
    page = await shown(browser, "/workers")

    assert worker["tasks"][0]["progress"] == {"ratio": 0.25, "unit": "tiles", "done": 3, "total": 12}
    assert f"running-{task_id}" in page
    assert "3 of 12 tiles" in page
    assert "infer:1" in page
    assert f"/console/v1/workers/{WORKER.id}/drain" in page


async def test_models_show_their_versions_and_params(browser: httpx.AsyncClient) -> None:
    assert MODEL in await shown(browser, "/models")
    page = await shown(browser, f"/models/{MODEL}")
    assert "best, clean, general" in page
    assert "whole number, 1 to 65535" in page
    assert "/unload" not in page, "a model in code is loaded as long as its workers run"
    assert (await browser.get("/console/models/nobody")).status_code == 404


async def test_who_may_not_operate_is_shown_no_button_that_does(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store
) -> None:
    await store.leases.renew(WORKER, [])
    made = (await client.post("/v1/keys", json={"tenant": "default", "scopes": ["read"]})).json()
    await browser.post("/console/login", data={"key": made["key"]})

    pages = [await shown(browser, path) for path in ("/queues", "/workers", f"/models/{MODEL}")]

    assert all("data-method" not in page for page in pages)
    assert all("Try it" not in page for page in pages)
    assert (await browser.get("/console/try")).status_code == 403


async def test_a_model_is_tried_by_the_form_that_its_schema_makes(browser: httpx.AsyncClient) -> None:
    page = await shown(browser, f"/try?model={MODEL}")

    assert f'<input type="hidden" name="model" value="{MODEL}">' in page
    for field in ("input.image", "params.scale", "params.post.min_gain", "output.format", "priority"):
        assert f'name="{field}"' in page
    assert 'max="8"' in page
    assert "general (default)" in page
    assert (await browser.get("/console/try?model=nobody")).status_code == 404
