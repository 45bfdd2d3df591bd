"""The pages of the server for people: the front page, and those of the errors."""

import base64
import hashlib
import re

import httpx
import pytest
from msgspec.structs import replace

from penstock.errors import codes
from penstock.settings import Settings
from tests.support.api_server import in_thread

pytestmark = pytest.mark.shared_server

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
BRACKETS = re.compile(r"<(/?)(\w+)[^>]*?(/?)>")
VOID = {"meta", "link", "br", "circle", "path"}


def check_page(answer: httpx.Response) -> None:
    """Asserts that the page is well-formed, that its policy lets it load and run nothing, and that its style is let."""
    policy, text = answer.headers["content-security-policy"], answer.text
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert not re.findall(r"<script|\son\w+=|style=|src=|https?://(?!127\.0\.0\.1|proxy\.example)", text)
    open_: list[str] = []
    for closes, name, is_void in BRACKETS.findall(text.replace("<!doctype html>", "")):
        if closes:
            assert open_.pop() == name
        elif not is_void and name not in VOID:
            open_.append(name)
    assert open_ == []


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "text/html, application/json;q=0.9"])
async def test_a_browser_gets_a_page_that_leads_to_the_parts_of_the_server(
    stranger: httpx.AsyncClient, accept: str
) -> None:
    answer = await stranger.get("/", headers={"Accept": accept})

    check_page(answer)
    links = re.findall(r'href="(/[^"]+)"', answer.text)
    assert {"/console", "/docs", "/schema/openapi.json", "/errors", "/readyz"} <= set(links)
    for link in links:
        assert (await stranger.get(link, follow_redirects=True)).status_code == 200, link
    assert f"curl {str(stranger.base_url).rstrip('/')}/v1/models" in answer.text
    assert "accept" in answer.headers["vary"].lower()


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/json, text/html", "text/plain", "", "x"]
)
async def test_a_program_gets_json(stranger: httpx.AsyncClient, accept: str | None) -> None:
    request = stranger.build_request("GET", "/")
    del request.headers["Accept"]
    if accept is not None:
        request.headers["Accept"] = accept

    answer = await stranger.send(request)

    assert (answer.json()["name"], answer.headers["content-type"]) == ("penstock", "application/json")
    assert answer.json()["links"]["errors"] == "/errors"


def test_what_is_turned_off_is_not_on_the_page(settings: Settings) -> None:
    off = replace(settings, api=replace(settings.api, docs="off"), console=replace(settings.console, enabled=False))
    with in_thread(off) as url:
        page = httpx.get(url, headers={"Accept": BROWSER})

    check_page(page)
    assert "/docs" not in page.text
    assert "/schema" not in page.text
    assert "/console" not in page.text


def test_behind_a_proxy_the_pages_lead_to_where_it_is(settings: Settings) -> None:
    api = replace(settings.api, public_url="https://proxy.example/penstock")
    with in_thread(replace(settings, api=api)) as url:
        pages = [
            httpx.get(f"{url}{path}", headers={"Accept": BROWSER}) for path in ("/", "/errors", "/errors/internal")
        ]
        refused = httpx.get(f"{url}/v1/tasks")

    for page in pages:
        check_page(page)
        assert {link.split("/")[1] for link in re.findall(r'href="(/[^"]+)"', page.text)} == {"penstock"}
    assert refused.headers["link"] == '<https://proxy.example/penstock/errors/unauthorized>; rel="help"'


async def test_every_code_has_a_page_with_what_it_means(stranger: httpx.AsyncClient) -> None:
    table = await stranger.get("/errors")
    check_page(table)
    assert re.findall(r'href="/errors/(\w+)"', table.text) == list(codes())
    for code, error in codes().items():
        page = await stranger.get(f"/errors/{code}")
        check_page(page)
        assert f"<h1>{code}</h1>" in page.text
        assert str(error.status) in page.text
        assert "`" not in page.text


async def test_every_refusal_leads_to_the_page_of_its_code(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    refusals = [
        await stranger.get("/v1/tasks"),
        await client.get("/v1/tasks/tsk_nothing"),
        await client.get("/nowhere"),
        await client.patch("/v1/tasks"),
        await client.post("/v1/tasks", json={}),
        await client.get("/v1/tasks", params={"limit": "many"}),
        await client.get("/v1/tasks", headers={"Host": "not a host"}),
        await client.get("/v1/tasks", headers={f"X-{n}": "1" for n in range(200)}),
        await client.get("/errors/no_such_code"),
    ]
    for refusal in refusals:
        link = refusal.links["help"]["url"]
        page = await stranger.get(refusal.url.copy_with(raw_path=httpx.URL(link).raw_path))
        assert (page.status_code, f"<h1>{refusal.json()['code']}</h1>" in page.text) == (200, True), refusal.text
