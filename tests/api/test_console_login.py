"""The console's entry: a key is changed for a session, which lasts no longer than the key does."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.access import ALL_SCOPES
from penstock.settings import Settings
from penstock.store import Store
from tests.support import api_server

pytestmark = pytest.mark.shared_server

ACT = re.compile(r'data-act-token="([0-9a-f]{32})"')


NO_PAGES = [
    "/console/../v1/tasks",
    "/console/%2E%2e/v1/tasks",
    "/console/v1/tasks",
    "/console/logout",
    "/console/Assets/x",
]


@pytest.fixture
async def browser(server: str) -> AsyncIterator[httpx.AsyncClient]:
    """Keeps cookies, follows no redirect, and has no key."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        yield opened


async def log_in(browser: httpx.AsyncClient, key: str, **form: str) -> httpx.Response:
    return await browser.post("/console/login", data={"key": key} | form)


async def act_token(browser: httpx.AsyncClient) -> str:
    found = ACT.search((await browser.get("/console/")).text)
    assert found
    return found[1]


async def new_key(client: httpx.AsyncClient, **changes: object) -> dict[str, str]:
    answer = await client.post("/v1/keys", json={"tenant": "default", "scopes": ["read"]} | changes)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return {"key": made["key"], "id": made["record"]["id"]}


async def test_a_page_asks_for_a_login_and_comes_back_to_where_it_was(browser: httpx.AsyncClient, api_key: str) -> None:
    refused = await browser.get("/console/errors/queue_full")
    assert (refused.status_code, refused.headers["Location"]) == (303, "/console/login?next=/console/errors/queue_full")

    entered = await log_in(browser, api_key, next="/console/errors/queue_full")
    assert (entered.status_code, entered.headers["Location"]) == (303, "/console/errors/queue_full")
    cookie = entered.headers["Set-Cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/console", "max-age=43200"))
    assert api_key not in entered.headers["Set-Cookie"]
    shown = await browser.get("/console/errors/queue_full")
    assert shown.status_code == 200
    assert "queue.max_depth" in shown.text


@pytest.mark.parametrize(
    "wanted", ["https://evil.example", "//evil.example", "/v1/tasks", "/console\\@evil", "", *NO_PAGES]
)
async def test_a_login_leads_to_no_other_place(browser: httpx.AsyncClient, api_key: str, wanted: str) -> None:
    assert (await log_in(browser, api_key, next=wanted)).headers["Location"] == "/console"


async def test_a_wrong_key_is_refused_on_the_page(browser: httpx.AsyncClient) -> None:
    refused = await log_in(browser, "<b>wrong</b>-key-of-nobody")
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (401, False)
    assert "not an API key of this server" in refused.text
    assert "<b>wrong" not in refused.text


async def test_wrong_keys_are_slowed_by_their_address(settings: Settings, api_key: str) -> None:
    slow = replace(settings, api=replace(settings.api, wrong_keys_per_minute=2))
    with api_server.in_thread(slow) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as browser:
            answers = [(await log_in(browser, f"wrong-key-number-{n}")).status_code for n in range(4)]
            assert answers[:2] == [401, 401]
            assert answers[-1] == 429


async def test_a_page_that_outlives_its_session_slows_nobody(settings: Settings, api_key: str) -> None:
    slow = replace(settings, api=replace(settings.api, wrong_keys_per_minute=2))
    with api_server.in_thread(slow) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as browser:
            assert {(await browser.get("/console/v1/tasks")).status_code for _ in range(5)} == {401}
            assert (await log_in(browser, api_key)).status_code == 303


async def test_another_sites_form_cannot_log_anybody_in(browser: httpx.AsyncClient, api_key: str) -> None:
    refused = await browser.post("/console/login", data={"key": api_key}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (403, False)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://"])
async def test_nor_can_it_over_plain_http_where_browsers_name_no_relation(
    browser: httpx.AsyncClient, api_key: str, origin: str
) -> None:
    refused = await browser.post("/console/login", data={"key": api_key}, headers={"Origin": origin})
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (403, False)

    form = await browser.get("/console/login?again=true")
    assert form.headers["Referrer-Policy"] == "same-origin", "or the own form is of the origin `null`, too"
    own = str(browser.base_url).rstrip("/")
    entered = await browser.post("/console/login", data={"key": api_key}, headers={"Origin": own})
    assert entered.status_code == 303


async def test_an_act_needs_the_token_of_its_page(browser: httpx.AsyncClient, api_key: str) -> None:
    await log_in(browser, api_key)
    path = "/console/v1/tasks/cancel?status=PENDING&all=true"
    assert (await browser.post(path)).status_code == 403
    assert (await browser.post(path, headers={"X-Act-Token": "0" * 32})).status_code == 403
    done = await browser.post(path, headers={"X-Act-Token": await act_token(browser)})
    assert (done.status_code, done.json()["canceled"]) == (200, 0)


async def test_a_session_opens_the_console_alone(browser: httpx.AsyncClient, api_key: str) -> None:
    await log_in(browser, api_key)
    token = browser.cookies["penstock_session"]
    assert (await browser.get("/v1/tasks", headers={"Cookie": f"penstock_session={token}"})).status_code == 401


async def test_a_session_ends_when_it_is_logged_out(browser: httpx.AsyncClient, api_key: str) -> None:
    await log_in(browser, api_key)
    cookie = {"Cookie": f"penstock_session={browser.cookies['penstock_session']}"}
    answer = await browser.post("/console/logout", headers={"X-Act-Token": await act_token(browser)})
    assert answer.status_code == 200
    assert "penstock_session" not in browser.cookies
    assert (await browser.get("/console/", headers=cookie)).status_code == 303


async def test_a_session_ends_with_its_key(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    made = await new_key(client)
    await log_in(browser, made["key"])
    assert (await browser.get("/console/")).status_code == 200

    await client.delete(f"/v1/keys/{made['id']}")

    assert (await browser.get("/console/")).status_code == 303
    assert (await browser.get("/console/v1/tasks")).status_code == 401


async def test_a_session_of_a_key_of_the_settings_ends_when_the_key_is_taken_out(
    settings: Settings, api_key: str
) -> None:
    other = f"other:another-key-of-the-tests:{'+'.join(sorted(ALL_SCOPES))}"
    with_both = replace(settings, api=replace(settings.api, keys=(*settings.api.keys, other)))
    with api_server.in_thread(with_both) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as browser:
            await log_in(browser, "another-key-of-the-tests")
            cookie = {"Cookie": f"penstock_session={browser.cookies['penstock_session']}"}
            assert (await browser.get("/console/", headers=cookie)).status_code == 200
    with api_server.in_thread(settings) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30, headers=cookie) as browser:
            assert (await browser.get("/console/")).status_code == 303


async def test_what_redis_has_of_a_session_opens_nothing(
    browser: httpx.AsyncClient, api_key: str, store: Store
) -> None:
    await log_in(browser, api_key)
    names = [name async for name in store.engine.client.scan_iter(f"{store.engine.keys.root}session:*")]
    assert len(names) == 1
    kept = await store.engine.client.get(names[0])
    token = browser.cookies["penstock_session"].encode()
    assert token not in names[0] + kept
    assert 0 < await store.engine.client.ttl(names[0]) <= 43_200
    stolen = names[0].rpartition(b":")[2].decode()
    assert (await browser.get("/console/", headers={"Cookie": f"penstock_session={stolen}"})).status_code == 303


async def test_a_viewer_sees_and_does_not_act(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    made = await new_key(client, scopes=["read"])
    await log_in(browser, made["key"])
    token = await act_token(browser)
    for path in ("/tasks/cancel?status=PENDING&all=true", "/queues/noop-v1/pause", "/tokens/revoke?tenant=default"):
        refused = await browser.post(f"/console/v1{path}", headers={"X-Act-Token": token})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_pages_keep_to_themselves(browser: httpx.AsyncClient, api_key: str) -> None:
    await log_in(browser, api_key)
    headers = (await browser.get("/console/")).headers
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert all(rule in policy for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"))
    said = {name: headers[name] for name in ("X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy")}
    assert said == {"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    assert headers["Cache-Control"] == "no-store"


async def test_the_first_view_is_small_and_kept_for_good(browser: httpx.AsyncClient, api_key: str) -> None:
    await log_in(browser, api_key)
    page = await browser.get("/console/")
    paths = set(re.findall(r'(?:src|href)="(/console/assets/[^"]+)"', page.text))
    names = {path.rpartition("/")[2] for path in paths}
    assert {"console.css", "console.js", "htmx.min.js"} <= names
    answers = [await browser.get(path, headers={"Accept-Encoding": "identity"}) for path in paths]
    assert all("immutable" in answer.headers["Cache-Control"] for answer in answers)
    assert sum(len(answer.content) for answer in [page, *answers]) < 300_000
    changed = next(iter(paths)).replace("/assets/", "/assets/0")
    assert (await browser.get(changed)).status_code == 404


async def test_errors_are_pages(browser: httpx.AsyncClient, api_key: str) -> None:
    await log_in(browser, api_key)
    for path, status in (("/console/nowhere", 404), ("/console/errors/nothing", 404), ("/console/?x=1", 422)):
        answer = await browser.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8"), path
        assert "<h1>" in answer.text


async def test_a_part_of_a_page_is_sent_to_the_login_as_a_whole(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/console/login")


async def test_the_console_can_be_turned_off(settings: Settings, api_key: str) -> None:
    off = replace(settings, console=replace(settings.console, enabled=False))
    with api_server.in_thread(off) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30, headers={"X-API-Key": api_key}) as client:
            assert (await client.get("/console")).status_code == 404
            assert (await client.get("/console/v1/tasks")).status_code == 404


async def test_behind_a_proxy_links_and_the_cookie_have_its_path(settings: Settings, api_key: str) -> None:
    public = replace(settings, api=replace(settings.api, public_url="https://example.com/gpu"))
    with api_server.in_thread(public) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as browser:
            entered = await log_in(browser, api_key)
            assert entered.headers["Location"] == "https://example.com/gpu/console"
            cookie = entered.headers["Set-Cookie"].lower()
            assert "path=/gpu/console" in cookie
            assert "secure" in cookie
            page = (await browser.get("/console/login?again=true")).text
            assert 'action="/gpu/console/login"' in page


async def test_a_link_on_another_site_leads_to_the_page_and_not_to_another_login(
    browser: httpx.AsyncClient, api_key: str
) -> None:
    path, said_over_http = "/console/login?next=/console/tasks", dict[str, str]()
    for said in ({"Sec-Fetch-Site": "cross-site"}, said_over_http):
        first = await browser.get(path, headers=said)
        assert first.headers["Refresh"] == "0; url=/console/login?next=%2Fconsole%2Ftasks&again=true"
        assert "sandbox" not in first.headers["Content-Security-Policy"], "it would be another origin"
    for site in ("same-origin", "cross-site"):
        shown = await browser.get(f"{path}&again=true", headers={"Sec-Fetch-Site": site})
        assert ("API key" in shown.text, "Refresh" in shown.headers) == (True, False)
    await log_in(browser, api_key)
    led_on = await browser.get(path, headers={"Sec-Fetch-Site": "same-origin"})
    assert (led_on.status_code, led_on.headers["Location"]) == (303, "/console/tasks")


async def test_a_second_login_ends_the_session_of_the_first(browser: httpx.AsyncClient, api_key: str) -> None:
    await log_in(browser, api_key)
    first = {"Cookie": f"penstock_session={browser.cookies['penstock_session']}"}
    await log_in(browser, api_key)
    assert (await browser.get("/console/")).status_code == 200
    assert (await browser.get("/console/", headers=first)).status_code == 303


@pytest.mark.parametrize("wanted", ["bat_%0d%0aSet-Cookie:%20a=b", "bat_..%2f..", "tsk_%0d%0aX:%20y"])
async def test_nothing_that_is_looked_for_becomes_a_header(
    browser: httpx.AsyncClient, api_key: str, wanted: str
) -> None:
    await log_in(browser, api_key)
    answer = await browser.get(f"/console/find?id={wanted}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/tasks")
    asked = await browser.get("/console/errors/%0d%0aSet-Cookie:%20a=b", headers={"Cookie": ""})
    assert "a=b" not in str(asked.headers)
