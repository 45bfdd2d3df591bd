"""The console's list of tasks: its filter is the API's, and finds a task by the beginning of its id."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from penstock.store import Store
from tests.support.drive import body, fail

pytestmark = pytest.mark.shared_server

ROW = re.compile(r'id="row-(tsk_[0-9a-f]{32})"')


@pytest.fixture
async def browser(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Is logged in."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        await opened.post("/console/login", data={"key": api_key})
        yield opened


async def submitted(client: httpx.AsyncClient, **changes: object) -> str:
    return str((await client.post("/v1/tasks", json=body(**changes))).json()["task_id"])


async def rows(browser: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await browser.get(f"/console/tasks{query}")
    assert answer.status_code == 200, answer.text
    return ROW.findall(answer.text)


async def test_tasks_are_listed_and_filtered(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store
) -> None:
    failed = await submitted(client, priority="high")
    await fail(store)
    waiting = await submitted(client, metadata={"album": "<b>42</b>"})

    assert await rows(browser) == [waiting, failed]
    assert await rows(browser, "?status=FAILED") == [failed]
    assert await rows(browser, "?status=PENDING&status=FAILED&within=1h") == [waiting, failed]
    assert await rows(browser, "?error_code=image_decode_failed") == [failed]
    assert await rows(browser, "?entry=album%3D%3Cb%3E42%3C%2Fb%3E") == [waiting]
    assert await rows(browser, "?model=&key=&created_after=&status=FAILED") == [failed], "an empty field says nothing"
    assert (await browser.get("/console/tasks?within=ever")).status_code == 422


async def test_an_act_on_all_has_the_filter_of_the_list(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    mine, other = await submitted(client, priority="high"), await submitted(client)
    page = (await browser.get("/console/tasks?priority=high")).text
    links = re.findall(r'data-act="(/console/v1/tasks/[^"]+)"', page)
    assert [link.partition("?")[0].rpartition("/")[2] for link in links] == ["cancel", "retry", "delete"]
    token = re.search(r'data-act-token="([0-9a-f]+)"', page)
    assert token

    cancel = links[0].replace("&amp;", "&")
    counted = await browser.post(f"{cancel}&dry_run=true", headers={"X-Act-Token": token[1]})
    done = await browser.post(cancel, headers={"X-Act-Token": token[1]})

    assert (counted.json()["matched"], done.json()["canceled"]) == (1, 1)
    assert await rows(browser, "?status=CANCELED") == [mine]
    assert await rows(browser, "?status=PENDING") == [other]


async def test_pages_go_on_and_stay(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    ids = [await submitted(client) for _ in range(53)]
    first = await browser.get("/console/tasks?status=PENDING")
    older = re.search(r'href="(/console/tasks\?[^"]+)" rel="next"', first.text)
    assert older
    assert ROW.findall(first.text) == ids[:2:-1]
    assert ROW.findall((await browser.get(older[1].replace("&amp;", "&"))).text) == ids[2::-1]


@pytest.mark.parametrize("given", [36, 24, 20])
async def test_a_task_is_found_by_the_beginning_of_its_id(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, given: int
) -> None:
    task_id = await submitted(client)
    for text in (task_id[:given], f"  {task_id[4:given]} "):
        found = await browser.get("/console/find", params={"id": text})
        assert (found.status_code, found.headers["Location"]) == (303, f"/console/tasks/{task_id}")


async def test_several_tasks_that_begin_alike_are_listed(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    ids = [await submitted(client) for _ in range(2)]
    found = await browser.get("/console/find", params={"id": ids[0][:9]})
    assert found.headers["Location"] == f"/console/tasks?id_prefix={ids[0][:9]}"
    assert set(await rows(browser, f"?id_prefix={ids[0][:9]}")) == set(ids)


async def test_an_operator_finds_the_task_of_another_tenant(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, server: str
) -> None:
    asked = {"tenant": "acme", "scopes": ["read", "submit"]}
    key = (await client.post("/v1/keys", json=asked)).json()["key"]
    async with httpx.AsyncClient(base_url=server, headers={"X-API-Key": key}) as other:
        task_id = await submitted(other)

    found = await browser.get("/console/find", params={"id": task_id})
    assert found.headers["Location"] == f"/console/tasks/{task_id}?tenant=acme"
    assert await rows(browser) == []
    assert await rows(browser, "?tenant=acme") == [task_id]

    async with httpx.AsyncClient(base_url=server) as stranger:
        await stranger.post("/console/login", data={"key": key})
        assert (await stranger.get("/console/tasks?tenant=default")).status_code == 403
