"""The interactive docs in a real browser: from our own assets alone, with examples that run and links to what errors
mean."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

from penstock.settings import Settings
from tests.support import api_server, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

SHOWN = {"tasks-submitTask", "tasks-getTask", "tasks-cancelTask", "models-listModels", "health-readyz"}


@pytest.fixture
def server(settings: Settings, browser: "Browser") -> Iterator[str]:
    with api_server.in_thread(settings) as url:
        yield url


def opened(page: "Page", url: str) -> None:
    page.goto(f"{url}/docs")
    page.wait_for_selector("#operations-tasks-submitTask")


def executed(page: "Page", operation: str) -> "Locator":
    """Runs the example of an operation as it stands, and returns what was answered."""
    place = page.locator(f"#operations-{operation}")
    place.locator(".opblock-summary-control").dispatch_event("click")
    place.locator(".responses-table").first.wait_for()  # before it is known, Swagger UI cannot run an operation
    place.locator("button.execute").dispatch_event("click")
    answer = place.locator(".live-responses-table")
    answer.wait_for()
    return answer


def status_of(answer: "Locator") -> str:
    return answer.locator("tbody .response-col_status").first.inner_text().split()[0]


def test_the_docs_page_shows_every_operation(server: str, browser: "Browser") -> None:
    document = httpx.get(f"{server}/schema/openapi.json", trust_env=False).json()
    named = {
        f"operations-{operation['tags'][0]}-{operation['operationId']}"
        for item in document["paths"].values()
        for operation in item.values()
    }
    with chromium.opened(browser) as (page, complaints):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        opened(page, server)
        shown = page.evaluate("[...document.querySelectorAll('.opblock')].map((one) => one.id)")

    assert set(shown) == named
    assert {f"operations-{name}" for name in SHOWN} <= named
    assert complaints == []
    assert {httpx.URL(url).host for url in asked if not url.startswith("data:")} == {"127.0.0.1"}


def test_the_examples_run_with_a_key_that_is_kept_nowhere(server: str, browser: "Browser", api_key: str) -> None:
    with chromium.opened(browser) as (page, _):
        opened(page, server)
        page.click("button.authorize")
        page.fill(".modal-ux input", api_key)
        page.click(".modal-ux button.authorize")
        page.click(".modal-ux .btn-done")

        names = ("tasks-submitTask", "tasks-getTask", "tasks-listTasks")
        statuses = [status_of(executed(page, name)) for name in names]
        stored = page.evaluate("JSON.stringify([Object.entries(localStorage), Object.entries(sessionStorage)])")
        source = page.evaluate("fetch('/docs').then((answer) => answer.text())")

    assert statuses == ["202", "200", "200"], "the task of the second is that of the first"
    assert stored == "[[],[]]"
    assert api_key not in source


def test_one_click_leads_from_a_code_to_its_page(server: str, browser: "Browser") -> None:
    with chromium.opened(browser) as (page, _):
        opened(page, server)
        refused = executed(page, "tasks-listTasks")
        with page.expect_popup() as of_answer:
            refused.get_by_role("link", name="What unauthorized means").click()
        with page.expect_popup() as of_description:
            page.locator("#operations-tasks-listTasks").get_by_role("link", name="forbidden", exact=True).click()
        titles = [of_answer.value.title(), of_description.value.title()]

    assert titles == ["unauthorized · Penstock", "forbidden · Penstock"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_docs_can_be_read_in_the_theme_of_the_browser(server: str, browser: "Browser", theme: str) -> None:
    with chromium.opened(browser, color_scheme=theme) as (page, _):
        opened(page, server)
        page.locator("#operations-tasks-submitTask .opblock-summary-control").click()
        page.wait_for_selector("#operations-tasks-submitTask .responses-table")
        faint = chromium.faults(page, "#operations-tasks-submitTask", runOnly=["color-contrast"])
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert faint == []
    assert (ground == "rgb(15, 21, 25)") is (theme == "dark")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/errors", "/errors/quota_exceeded"])
def test_the_pages_of_the_server_have_no_fault_for_anybody(
    server: str, browser: "Browser", path: str, theme: str
) -> None:
    with chromium.opened(browser, color_scheme=theme, viewport={"width": 390, "height": 800}) as (page, complaints):
        page.goto(f"{server}{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        faults = chromium.faults(page)

    assert faults == []
    assert complaints == []
    assert width == 390
