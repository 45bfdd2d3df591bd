"""What pages of other origins may do: those of `api.cors_origins`, and any that has a URL which lets in by itself."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.api.app import create_app
from penstock.api.http.auth import HOLDER
from penstock.core.access import Caller
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from tests.support.api_server import in_thread
from tests.support.drive import body, complete_with, data_uri, image

pytestmark = pytest.mark.shared_server

PAGE = "https://shop.example.com"
APP = "capacitor://localhost"
STRANGERS = (
    "https://evil.example", "http://shop.example.com", "https://shop.example.com:8443", "https://a.shop.example.com",
    "https://shop.example.com.evil.example", "HTTPS://SHOP.EXAMPLE.COM", "https://shop.example.com/", "null", "*",
)  # fmt: skip
SAFELISTED = {"cache-control", "content-language", "content-type", "expires", "last-modified", "pragma"}
FOR_BROWSERS = {
    "connection", "content-security-policy", "cross-origin-resource-policy", "referrer-policy", "transfer-encoding",
    "vary", "x-accel-buffering", "x-content-type-options",
}  # fmt: skip
"""Headers of answers that no page has to read."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, api=replace(settings.api, cors_origins=(PAGE, APP)))


@pytest.fixture(autouse=True)
async def _known(client: httpx.AsyncClient) -> None:
    """The secret that an earlier test of this server has left is forgotten: its namespace was emptied since."""
    (await client.post("/v1/tokens/revoke?tenant=nobody")).raise_for_status()


def allows(answer: httpx.Response) -> str | None:
    assert "access-control-allow-credentials" not in answer.headers
    return answer.headers.get("access-control-allow-origin")


def names(answer: httpx.Response, header: str) -> set[str]:
    return {name.strip().lower() for name in answer.headers.get(header, "").split(",") if name.strip()}


async def preflight(
    client: httpx.AsyncClient, url: str, method: str, origin: str = PAGE, headers: str = "", **params: str
) -> httpx.Response:
    """The answer to what a browser asks before it sends such a request."""
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    asked |= {"Access-Control-Request-Headers": headers} if headers else {}
    answer = await client.request("OPTIONS", url, headers=asked, params=params or None)
    assert (answer.status_code, answer.content) == (204, b"")
    return answer


async def shared(client: httpx.AsyncClient, store: Store, storage: Storage) -> tuple[str, dict[str, str]]:
    """The path of a task that has ended with two files, and the query that opens it."""
    submitted = await client.post("/v1/tasks", json=body(links={"token": True}, reuse=False))
    await complete_with(store, storage, {"left.png": image(9), "mask.png": image(10)})
    links = submitted.json()["links"]
    return links["self"], {"token": links["token"]}


# --- pages of the listed origins ------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [PAGE, APP])
async def test_a_preflight_of_a_listed_origin_needs_no_key(stranger: httpx.AsyncClient, origin: str) -> None:
    wanted = "x-api-key, authorization, idempotency-key, prefer, content-type, last-event-id, traceparent"
    answer = await preflight(stranger, "/v1/tasks", "POST", origin, wanted)

    assert allows(answer) == origin
    assert names(answer, "access-control-allow-methods") >= {"get", "head", "post", "put", "delete"}
    assert names(answer, "access-control-allow-headers") >= set(wanted.split(", "))
    assert int(answer.headers["access-control-max-age"]) >= 600
    assert "origin" in names(answer, "vary")


async def test_a_page_may_send_every_header_that_the_api_describes(stranger: httpx.AsyncClient) -> None:
    document = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    described = {
        parameter["name"].lower()
        for operation in operations
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "header"
    }
    assert {"idempotency-key", "if-none-match", "prefer"} <= described

    answer = await preflight(stranger, "/v1/tasks", "POST")

    assert described - names(answer, "access-control-allow-headers") == set()


async def test_preflights_never_count_as_wrong_keys(settings: Settings, api_key: str) -> None:
    few = replace(settings, api=replace(settings.api, wrong_keys_per_minute=2))
    with in_thread(few) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            for origin in (PAGE, "https://evil.example") * 3:
                await preflight(client, "/v1/tasks", "GET", origin, "x-api-key")
            first = await client.get("/v1/tasks", headers={"Origin": PAGE})
            for _ in range(3):
                last = await client.get("/v1/tasks", headers={"Origin": PAGE})
            early = await preflight(client, "/v1/tasks", "GET")

    assert (first.status_code, allows(first)) == (401, PAGE)
    assert (last.status_code, allows(last)) == (429, PAGE), "a refusal that comes before every route"
    assert "retry-after" in names(last, "access-control-expose-headers")
    assert allows(early) == PAGE


async def test_every_answer_can_be_read_by_a_page_of_a_listed_origin(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    task, _ = await shared(client, store, storage)
    etag = (await client.get(f"{task}/result")).headers["ETag"]
    tries: list[tuple[int, httpx.AsyncClient, str, str, dict[str, Any]]] = [
        (200, client, "GET", task, {}),
        (200, client, "HEAD", task, {}),
        (200, client, "GET", f"{task}/result", {}),
        (206, client, "GET", f"{task}/result", {"headers": {"Range": "bytes=0-3"}}),
        (304, client, "GET", f"{task}/result", {"headers": {"If-None-Match": etag}}),
        (416, client, "GET", f"{task}/result", {"headers": {"Range": "bytes=999999-"}}),
        (200, client, "GET", f"{task}/events", {}),
        (202, client, "POST", "/v1/tasks", {"json": body(reuse=False)}),
        (201, client, "POST", "/v1/uploads", {"json": {"size": 3}}),
        (200, client, "GET", "/v1/batches", {}),
        (200, client, "GET", "/replicate/v1/predictions", {}),
        (401, stranger, "GET", task, {}),
        (404, client, "GET", "/v1/tasks/tsk_nothing", {}),
        (404, client, "GET", "/v1/nowhere", {}),
        (405, client, "PATCH", "/v1/tasks", {}),
        (409, client, "POST", f"{task}/cancel", {}),
        (415, client, "POST", "/v1/tasks", {"content": b"{}"}),
        (422, client, "POST", "/v1/tasks", {"json": {}}),
        (400, client, "POST", "/v1/tasks", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        (400, client, "GET", "/v1/tasks", {"headers": {"Host": "not a host"}}),
        (200, client, "GET", "/", {}),
        (200, stranger, "GET", "/livez", {}),
        (200, stranger, "GET", "/schema/openapi.json", {}),
    ]
    seen: set[str] = set()
    for status, who, method, path, said in tries:
        headers = {"Origin": PAGE} | said.pop("headers", {})
        answer = await who.request(method, path, headers=headers, **said)
        assert answer.status_code == status, (method, path, answer.text)
        assert allows(answer) == PAGE, (method, path)
        assert "origin" in {name.strip().lower() for name in answer.headers["vary"].split(",")}, (method, path)
        seen |= {name for name in answer.headers if not name.startswith("access-control-")}
        exposed = names(answer, "access-control-expose-headers")

    assert {"etag", "location", "retry-after", "ratelimit", "content-range", "content-disposition"} <= seen
    assert seen - exposed - SAFELISTED - FOR_BROWSERS == set()


def test_a_request_that_is_refused_while_it_is_read_can_be_read_too(server: str, api_key: str) -> None:
    many = {f"X-{n}": "1" for n in range(200)}
    refused = httpx.get(f"{server}/v1/tasks", headers={"Origin": PAGE, "X-API-Key": api_key} | many)
    unlisted = httpx.get(f"{server}/v1/tasks", headers={"Origin": "https://evil.example"} | many)

    assert (refused.status_code, allows(refused)) == (400, PAGE)
    assert (unlisted.status_code, allows(unlisted)) == (400, None)


@pytest.mark.parametrize(("origin", "of_api"), [(PAGE, PAGE), ("https://anybody.example", None)])
def test_a_request_that_does_not_come_in_time_is_told_so(
    settings: Settings, api_key: str, origin: str, of_api: str | None
) -> None:
    key = f"X-API-Key: {api_key}\r\n"
    with in_thread(replace(settings, api=replace(settings.api, receive_s=0.5))) as url:
        opened = httpx.post(f"{url}/v1/uploads", json={"size": 100}, headers={"X-API-Key": api_key}).json()
        upload = opened["url"].removeprefix(url)
        answers = [half_sent(url, "POST /v1/tasks", origin, key), half_sent(url, f"PUT {upload}", origin)]

    assert [answer.partition(" ")[2][:3] for answer in answers] == ["408", "408"]
    found = [re.findall(r"access-control-allow-origin: (\S+)", answer) for answer in answers]
    assert found == [[of_api] if of_api else [], ["*"]]


def half_sent(url: str, request_line: str, origin: str, headers: str = "") -> str:
    """The answer to a request whose body stops after its first byte."""
    at = httpx.URL(url)
    with socket.create_connection((at.host, at.port or 0), timeout=60) as connection:
        head = f"{request_line} HTTP/1.1\r\nHost: {at.netloc.decode()}\r\nOrigin: {origin}\r\n{headers}"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        return connection.recv(65_536).decode()


async def test_a_server_that_is_not_ready_says_so_to_a_page(settings: Settings, api_key: str) -> None:
    with in_thread(settings, is_published=False) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30, headers={"X-API-Key": api_key}) as client:
            answer = await client.post("/v1/tasks", json=body(), headers={"Origin": PAGE})

    assert (answer.status_code, allows(answer)) == (503, PAGE)


# --- pages of all others --------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", STRANGERS)
async def test_no_other_origin_reads_anything_with_a_key(
    client: httpx.AsyncClient, store: Store, storage: Storage, origin: str
) -> None:
    task, query = await shared(client, store, storage)
    upload = (await client.post("/v1/uploads", json={"size": 3})).json()
    headers = {"Origin": origin}
    answers = [
        await client.get("/v1/tasks", headers=headers),
        await client.get(task, headers=headers),
        await client.get(task, headers=headers, params=query),
        await client.get(f"{task}/result", headers=headers, params=query),
        await client.get("/v1/models", headers=headers, params=query),
        await client.post("/v1/tasks", json=body(), headers=headers),
        await client.put(upload["url"], content=b"abc", headers=headers),
        await client.get("/livez", headers=headers),
        await client.get("/schema/openapi.json", headers=headers),
    ]

    assert [allows(answer) for answer in answers] == [None] * len(answers)
    assert {answer.headers["cross-origin-resource-policy"] for answer in answers} == {"same-origin"}
    asked = [
        await preflight(client, "/v1/tasks", "POST", origin, "content-type"),
        await preflight(client, task, "GET", origin, "x-api-key", **query),
        await preflight(client, task, "GET", origin, "content-type,Authorization", **query),
        await preflight(client, task, "DELETE", origin, **query),
        await preflight(client, task, "GET", origin),
        await preflight(client, f"{task}/cancel", "POST", origin, **query),
    ]
    assert [allows(answer) for answer in asked] == [None] * len(asked)


@pytest.mark.parametrize("origin", ["https://anybody.example", "null", PAGE])
async def test_any_page_reads_a_task_by_its_token(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage, origin: str
) -> None:
    task, query = await shared(client, store, storage)
    headers = {"Origin": origin}
    files = (await stranger.get(task, params=query)).json()["result"]["files"]

    paths = [task, f"{task}/result", f"{task}/events", *(file["url"].partition("?")[0] for file in files)]
    for path in paths:
        answer = await stranger.get(path, params=query, headers=headers)
        head = await stranger.head(path, params=query, headers=headers)
        assert (answer.status_code, allows(answer)) == (200, "*"), path
        assert (head.status_code, allows(head)) == (200, "*"), path
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        asked = await preflight(stranger, path, "GET", origin, "if-none-match, Last-Event-ID, prefer", **query)
        assert (allows(asked), names(asked, "access-control-allow-methods")) == ("*", {"get", "head"})
        assert names(asked, "access-control-allow-headers") >= {"if-none-match", "last-event-id", "prefer"}
        assert names(asked, "access-control-allow-headers") & {"x-api-key", "authorization"} == set()
    etag = (await stranger.get(f"{task}/result", params=query)).headers["ETag"]
    current = await stranger.get(f"{task}/result", params=query, headers=headers | {"If-None-Match": etag})
    expired = await stranger.get(task, params={"token": "tt_expired"}, headers=headers)
    assert (current.status_code, allows(current)) == (304, "*")
    assert (expired.status_code, allows(expired)) == (401, "*"), "a page can tell that its token has ended"
    assert {"etag", "retry-after"} <= names(current, "access-control-expose-headers")


async def test_a_token_opens_nothing_else_to_a_page(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    task, query = await shared(client, store, storage)
    headers = {"Origin": "https://anybody.example"}
    for method, path in [
        ("GET", f"{task}/log"), ("GET", f"{task}/explain"), ("POST", f"{task}/cancel"), ("POST", f"{task}/retry"),
        ("DELETE", task), ("GET", "/v1/tasks"), ("POST", "/v1/tasks"), ("GET", "/v1/models"), ("GET", "/livez"),
        ("GET", "/metrics"), ("GET", f"{task}/result/a/b"), ("GET", "/v1/uploads/upl_1"), ("PATCH", task),
    ]:  # fmt: skip
        answer = await stranger.request(method, path, params=query, headers=headers)
        assert allows(answer) is None, (method, path)
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    for query_string in ("", "?token=", "?tokens=x", "?x=token=y"):
        answer = await stranger.get(f"{task}{query_string}", headers=headers)
        assert (answer.status_code in (401, 422), allows(answer)) == (True, None)


async def test_any_page_sends_an_upload_to_its_url(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    opened = (await client.post("/v1/uploads", json={"size": 3})).json()
    path, _, token = opened["url"].partition("?token=")
    headers = {"Origin": "https://anybody.example"}

    asked = await preflight(stranger, path, "PUT", headers["Origin"], "content-type", token=token)
    wrong = await stranger.put(opened["url"], content=b"abcd", headers=headers)
    sent = await stranger.put(opened["url"], content=b"abc", headers=headers)
    unknown = await stranger.put(f"{path}?token=other", content=b"abc", headers=headers)
    read = await stranger.get(opened["url"], headers=headers)

    assert (allows(asked), names(asked, "access-control-allow-methods")) == ("*", {"put"})
    assert "content-type" in names(asked, "access-control-allow-headers")
    assert [(one.status_code, allows(one)) for one in (wrong, sent, unknown)] == [(422, "*"), (200, "*"), (404, "*")]
    assert allows(read) is None


async def test_any_page_shows_the_output_of_a_prediction(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    sent = {"version": "superres-x4", "input": {"image": data_uri(image())}}
    prediction = (await client.post("/replicate/v1/predictions", json=sent)).json()
    await complete_with(store, storage, {"result.png": bytes(3_000_000)})
    url = (await client.get(f"/replicate/v1/predictions/{prediction['id']}")).json()["output"]

    answer = await stranger.get(url, headers={"Origin": "https://anybody.example"})

    assert (answer.status_code, allows(answer)) == (200, "*")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


async def test_without_the_setting_no_origin_is_listed(
    settings: Settings, client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    task, query = await shared(client, store, storage)
    with in_thread(replace(settings, api=replace(settings.api, cors_origins=()))) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30, headers={"Origin": PAGE}) as page:
            keyed = await page.get("/v1/tasks", headers=dict(client.headers))
            asked = await preflight(page, "/v1/tasks", "POST")
            by_token = await page.get(task, params=query)

    assert (keyed.status_code, allows(keyed), keyed.headers.get("vary")) == (200, None, None)
    assert allows(asked) is None
    assert (by_token.status_code, allows(by_token)) == (200, "*")


def test_who_was_let_in_by_anything_but_the_token_answers_no_other_origin(settings: Settings) -> None:
    cors = create_app(settings).state.cors
    url = ("GET", "/v1/tasks/tsk_1/result", b"token=tt_1", {})
    nobody, holder = cors.headers_of(*url), cors.headers_of(*url, Caller(HOLDER, "acme", frozenset({"read"})))
    person = cors.headers_of(*url, Caller("ann", "acme", frozenset({"read"})))

    assert (b"access-control-allow-origin", b"*") in nobody == holder
    assert person == [(b"cross-origin-resource-policy", b"same-origin"), (b"vary", b"Origin")]
