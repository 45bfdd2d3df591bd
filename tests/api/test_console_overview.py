"""The console's overview: what is wrong now, in words, and what failed of late, for those whom it concerns."""

from collections.abc import AsyncIterator
from html import unescape

import httpx
import msgspec
import pytest

from penstock.core.history import MinuteSample
from penstock.store import Store
from tests.support.drive import MODEL, WORKER, body, fail

pytestmark = pytest.mark.shared_server


@pytest.fixture
async def browser(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Is logged in."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        await opened.post("/console/login", data={"key": api_key})
        yield opened


async def shown(browser: httpx.AsyncClient) -> str:
    answer = await browser.get("/console/")
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


async def test_a_server_without_trouble_says_so(browser: httpx.AsyncClient, store: Store) -> None:
    await store.leases.renew(WORKER, [])
    page = await shown(browser)
    assert "Nothing is wrong" in page
    assert WORKER.id in page


async def test_what_is_wrong_is_said_in_words(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store
) -> None:
    await client.post("/v1/tasks", json=body())
    await client.post(f"/v1/queues/{MODEL}/pause?priority=low")
    down = msgspec.structs.replace(WORKER, id="w9", state="DOWN", reason="its device is lost")
    full = msgspec.structs.replace(WORKER, id="w8", state="DRAINING", spool_full=True)
    for worker in (down, full):
        await store.leases.renew(worker, [])

    page = await shown(browser)

    assert "1 tasks wait and no worker is ready" in page
    assert "cpu on here is down" in page
    assert "its device is lost" in page
    assert "w8 claims nothing: its spool is full of results" in page
    assert f"The queue of {MODEL} at priority low is paused" in page
    assert "Nothing is wrong" not in page


async def test_the_last_hour_is_drawn(browser: httpx.AsyncClient, store: Store) -> None:
    assert "curves begin with the second" in await shown(browser)
    for minute in range(3):
        await store.history.put(MinuteSample(minute=29_000_000 + minute, success=10 * minute, waiting={"high": minute}))
    page = await shown(browser)
    assert '"series":[{"name":"done","y":[10.0,10.0]}' in page
    assert 'aria-label="tasks done a minute: the last hour, at most 10.0"' in page


@pytest.mark.shared_server(False)
async def test_errors_of_others_are_shown_to_operators_alone(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store, server: str
) -> None:
    await client.post("/v1/tasks", json=body())
    await fail(store)
    key = (await client.post("/v1/keys", json={"tenant": "acme", "scopes": ["read"]})).json()["key"]

    assert "image_decode_failed" in await shown(browser)
    async with httpx.AsyncClient(base_url=server) as other:
        await other.post("/console/login", data={"key": key})
        page = await shown(other)
    assert "image_decode_failed" not in page
    assert "Devices busy" not in page
