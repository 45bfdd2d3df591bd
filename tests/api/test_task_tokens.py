"""Task tokens: whoever has one reads one task without a key, and nothing else."""

import asyncio
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.client import AsyncClient
from penstock.settings import Settings, WebhookSettings
from penstock.storage import Storage
from penstock.store import Store
from tests.support.drive import MODEL, body, complete, complete_with, image

pytestmark = pytest.mark.shared_server

WITH_TOKEN = {"links": {"token": True}, "reuse": False}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, webhooks=WebhookSettings(secrets=(SECRET,)))


@pytest.fixture(autouse=True)
async def _known(client: httpx.AsyncClient) -> None:
    """The secret that an earlier test of this server has left is forgotten: its namespace was emptied since."""
    (await client.post("/v1/tokens/revoke?tenant=nobody")).raise_for_status()


async def submitted(client: httpx.AsyncClient, **said: Any) -> dict[str, Any]:
    """The links of a new task."""
    answer = await client.post("/v1/tasks", json=body(**WITH_TOKEN | said))
    assert answer.status_code == 202, answer.text
    return dict(answer.json()["links"])


async def test_a_token_is_given_when_it_is_asked_for(client: httpx.AsyncClient) -> None:
    without = (await client.post("/v1/tasks", json=body(reuse=False))).json()["links"]
    links = await submitted(client, client_request_id="order-1")
    again = (await client.post("/v1/tasks", json=body(**WITH_TOKEN, client_request_id="order-1"))).json()
    bare = await client.post("/v1/tasks", json=body(client_request_id="order-1", reuse=False))

    assert "token" not in without
    assert links["token"].startswith("tt_")
    assert (again["links"]["self"], again["links"]["token"][:3]) == (links["self"], "tt_")
    assert (bare.status_code, "token" in bare.json()["links"]) == (200, False), "a repeat need not ask for it again"
    assert "token" not in (await client.get(links["self"])).json()["links"]


async def test_a_token_opens_status_events_and_result_of_its_task(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    links = await submitted(client)
    query = {"token": links["token"]}
    watching = asyncio.create_task(stranger.get(links["events"], params=query))
    waiting = asyncio.create_task(stranger.get(links["self"], params=query | {"wait": 60}))
    assert (await stranger.get(links["result"], params=query)).json()["code"] == "result_not_ready"
    data = image(32, 24)
    await complete(store, storage, data)

    task, events = (await asyncio.wait_for(waiting, 60)).json(), (await asyncio.wait_for(watching, 60)).text
    result = await stranger.get(links["result"], params=query, follow_redirects=True)

    assert (task["status"], task["links"]["token"]) == ("SUCCESS", links["token"])
    assert "event: completed" in events
    assert (result.status_code, result.content) == (200, data)
    assert (await stranger.get(task["result"]["url"])).content == data, "the URL of the result has the token"
    headers = {"If-None-Match": result.headers["ETag"]}
    assert (await stranger.get(links["result"], params=query, headers=headers)).status_code == 304


async def test_a_token_opens_every_file_of_a_result(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    links = await submitted(client)
    files = {"left.png": image(9), "mask.png": image(10)}
    await complete_with(store, storage, files)

    task = (await stranger.get(links["self"], params={"token": links["token"]})).json()

    assert {one["name"]: (await stranger.get(one["url"])).content for one in task["result"]["files"]} == files


async def test_a_token_opens_nothing_else(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    links = await submitted(client)
    other = (await submitted(client))["self"]
    query = {"token": links["token"]}
    task = links["self"]

    for method, path in [
        ("GET", other), ("GET", f"{other}/result"), ("GET", f"{other}/events"), ("GET", f"{task}/log"),
        ("GET", f"{task}/explain"), ("POST", f"{task}/cancel"), ("POST", f"{task}/retry"), ("DELETE", task),
        ("POST", f"{task}/webhook/redeliver"), ("GET", "/v1/tasks"), ("POST", "/v1/tasks"), ("GET", "/v1/models"),
        ("GET", "/v1/keys"), ("GET", "/v1/audit"),
    ]:  # fmt: skip
        assert (await stranger.request(method, path, params=query)).status_code == 401, (method, path)
    as_key = [{"Authorization": f"Bearer {links['token']}"}, {"X-API-Key": links["token"]}]
    assert [(await stranger.get(task, headers=headers)).status_code for headers in as_key] == [401, 401]
    assert (await stranger.get(task, params=query, headers={"X-API-Key": "wrong"})).status_code == 401
    assert (await stranger.get(task, params=query)).status_code == 200


async def test_wrong_expired_and_revoked_tokens_are_refused_in_the_same_words(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, server: str
) -> None:
    links = await submitted(client)
    task, token = links["self"], links["token"]
    task_id = task.rpartition("/")[2]
    wrong = ["tt_", token[:-1], f"{token}A", f"{token}=", "tt_é", "pk_" + token[3:]]
    refused = [await stranger.get(task, params={"token": one}) for one in wrong]
    assert (await client.get(task, params={"token": "anything"})).status_code == 200, "with a key it says nothing"
    assert (await stranger.get(task, params=[("token", token), ("token", token)])).status_code == 422
    await client.post("/v1/tokens/revoke?tenant=nobody")
    assert (await stranger.get(task, params={"token": token})).status_code == 200

    await client.post("/v1/tokens/revoke?tenant=default")

    refused += [await stranger.get(task, params={"token": token})]
    without = [await stranger.get(task, params={"token": ""}), await stranger.get(task)]
    assert {answer.status_code for answer in refused} == {401}
    assert "the token in this URL has ended" in refused[0].json()["detail"]
    assert all("send a known API key" in answer.json()["detail"] for answer in without)
    bodies = [answer.json() | {"request_id": ""} for answer in refused]
    assert [one for one in bodies if one != bodies[0]] == []
    assert task_id not in refused[0].text
    later = (await submitted(client))["token"]
    assert later != token


async def test_who_comes_with_a_token_does_not_see_the_webhook(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    links = await submitted(client, webhook={"url": "https://hooks.example.com/secret-path"})

    with_key = await client.get(links["self"])
    with_token = await stranger.get(links["self"], params={"token": links["token"]})

    assert with_key.json()["webhook"]["url"].endswith("secret-path")
    assert with_token.json()["webhook"] is None
    assert "secret-path" not in with_token.text


async def test_the_answer_of_a_submit_that_waited_has_the_token_too(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    sent = client.post("/v1/tasks", json=body(**WITH_TOKEN), headers={"Prefer": "wait=60"})
    waiting = asyncio.create_task(sent)
    async with asyncio.timeout(60):
        while not (await store.listing.count("default"))["PENDING"]:
            await asyncio.sleep(0.01)
    await complete(store, storage, image())

    answer = await waiting

    links = answer.json()["links"]
    assert (answer.status_code, answer.json()["status"]) == (200, "SUCCESS")
    assert (await stranger.get(links["self"], params={"token": links["token"]})).status_code == 200


@pytest.mark.parametrize(
    "links", [{"token": "yes"}, {"ttl_s": 59}, {"ttl_s": 604_801}, {"scope": "all"}, [], {"token": True, "tenant": "a"}]
)
async def test_what_is_said_of_links_is_checked(client: httpx.AsyncClient, links: Any) -> None:
    refused = await client.post("/v1/tasks", json=body(links=links))

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


async def test_the_python_client_asks_for_a_token(server: str, api_key: str, stranger: httpx.AsyncClient) -> None:
    async with AsyncClient(server, api_key, patience_s=5) as penstock:
        submitted = await penstock.submit(image(), MODEL, links={"token": True, "ttl_s": 60})
        without = await penstock.submit(image(9), MODEL)

    path = f"/v1/tasks/{submitted.task_id}"
    assert (await stranger.get(path, params={"token": submitted.token or ""})).status_code == 200
    assert without.token is None
