"""The console in a real browser, on a real server with real tasks: every screen is readable in both themes and on a
phone, and works by keyboard."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.console_pages import DESK, PHONE, THEMES, faults_of, logged_in
from tests.support.drive import data_uri, photo
from tests.support.processes import System, up, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CAT = Path(__file__).parents[2] / "src" / "penstock" / "models" / "photo.jpg"
SCREENS = ["/", "/tasks", "/tasks?status=FAILED&key=nobody", "/errors/queue_full", "/nowhere"]
SCREENS += [
    "/batches",
    "/queues",
    "/workers",
    "/models",
    "/models/superres-x4",
    "/webhooks",
    "/try",
    "/usage",
    "/keys",
    "/audit",
]
"""Those without an id; the pages of the tasks of the test are added."""


@pytest.fixture(scope="module")
def server(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up"), GPU_IDS="cpu") as system:
        yield system


def submitted(server: System, model: str = "image-scoring-v1", **changes: Any) -> str:
    body = {"model": model, "input": {"image_url": data_uri(CAT.read_bytes(), "image/jpeg")}, "reuse": False} | changes
    with server.client() as client:
        return str(client.post("/v1/tasks", json=body).raise_for_status().json()["task_id"])


def ended(server: System, task_id: str) -> str:
    with server.client() as client:
        return str(wait_for(client, task_id, "SUCCESS", "FAILED", "CANCELED")["status"])


@pytest.fixture(scope="module")
def tasks(server: System) -> dict[str, str]:
    """One task of each kind, by what became of it; the queue of low priority is paused."""
    with server.client() as client:
        client.post("/v1/queues/superres-x4/pause", params={"priority": "low"}).raise_for_status()
    found = {
        "picture": submitted(server, "superres-x4"),
        "score": submitted(server, params={"grid": 2}),
        "failed": submitted(server, input={"image_url": "https://a.invalid/b.png"}, retry={"max_attempts": 1}),
        "waits": submitted(server, "superres-x4", priority="low"),
    }
    for name in ("picture", "score", "failed"):
        ended(server, found[name])
    return found


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_every_screen_is_for_everybody(
    browser: "Browser", server: System, tasks: dict[str, str], theme: str, size: tuple[int, int]
) -> None:
    paths = [*SCREENS, *(f"/tasks/{task_id}" for task_id in tasks.values()), f"/tasks/{tasks['failed']}/replay"]
    faults: dict[str, Any] = {}
    with logged_in(browser, server.url, server.api_key, size=size, theme=theme) as (page, complaints):
        for path in paths:
            page.goto(f"{server.url}/console{path}")
            if found := faults_of(page):
                faults[path] = found
        page.keyboard.press("?")
        faults |= {"?": found} if (found := faults_of(page)) else {}
        page.goto(f"{server.url}/console/login")
        faults |= {"login": found} if (found := faults_of(page)) else {}
    assert faults == {}
    assert [text for text in complaints if "404" not in text] == []


def test_a_task_is_found_opened_and_left_by_keyboard(browser: "Browser", server: System, tasks: dict[str, str]) -> None:
    with logged_in(browser, server.url, server.api_key) as (page, complaints):
        page.keyboard.press("g")
        page.keyboard.press("t")
        page.wait_for_url("**/console/tasks")
        rows = page.locator("tr[data-link]")
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        page.keyboard.press("j")
        wanted = rows.nth(1).get_attribute("data-link")
        assert page.locator("tr.current").get_attribute("data-link") == wanted
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{wanted}")
        page.keyboard.press("/")
        page.keyboard.type(tasks["failed"][4:26])
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/console/tasks/{tasks['failed']}")
        page.get_by_role("link", name="input_download_failed").first.click()
        assert page.get_by_text("the source did not answer in time").is_visible()
    assert complaints == []


def test_the_keyboard_stays_where_it_is_when_a_part_is_loaded_again(browser: "Browser", server: System) -> None:
    with logged_in(browser, server.url, server.api_key, size=PHONE) as (page, complaints):
        page.goto(f"{server.url}/console/workers")
        page.get_by_role("button", name="Drain").focus()
        page.evaluate("document.getElementById('workers').dataset.before = 'yes'")
        page.locator("#workers:not([data-before])").wait_for()
        page.locator("[data-act$='/drain']:focus").wait_for()
        assert page.get_by_role("link", name="Workers").bounding_box()["x"] < PHONE[0] - 50, "its place is in the strip"

        page.goto(f"{server.url}/console/queues")
        page.get_by_role("button", name="Pause", exact=True).first.focus()
        for act in ("resume", "pause"):
            page.keyboard.press("Enter")
            page.locator(f"[data-act*='/{act}?']:focus").wait_for()
    assert complaints == []


def test_a_task_is_followed_to_its_result_without_a_reload(browser: "Browser", server: System) -> None:
    with server.client() as client:
        client.post("/v1/queues/image-scoring-v1/pause").raise_for_status()
        task_id = submitted(server)
        with logged_in(browser, server.url, server.api_key) as (page, complaints):
            page.goto(f"{server.url}/console/tasks/{task_id}")
            assert page.get_by_text("has been paused by").is_visible()
            page.evaluate("window.same = true")
            client.post("/v1/queues/image-scoring-v1/resume").raise_for_status()
            page.get_by_role("heading", name="Result").wait_for()
            assert page.locator(".score .tile-value").inner_text().replace(".", "").isdigit()
            assert page.evaluate("window.same")
    assert complaints == []


def test_the_slider_shows_more_of_the_input(browser: "Browser", server: System, tasks: dict[str, str]) -> None:
    with logged_in(browser, server.url, server.api_key) as (page, complaints):
        page.goto(f"{server.url}/console/tasks/{tasks['picture']}")
        slider = page.get_by_label("How much of the input is shown over the result")
        sizes = page.evaluate("[...document.querySelectorAll('.compare img')].map((one) => one.naturalWidth)")
        clip = "getComputedStyle(document.querySelector('.compare .before')).clipPath"
        before = page.evaluate(clip)
        slider.focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        assert page.evaluate(clip) != before
    assert sizes == [900, 225]
    assert complaints == []


def test_all_that_match_are_canceled_after_their_number_was_shown(browser: "Browser", server: System) -> None:
    ids = [submitted(server, "superres-x4", priority="low", metadata={"act": "all"}) for _ in range(3)]
    with logged_in(browser, server.url, server.api_key) as (page, complaints):
        page.goto(f"{server.url}/console/tasks")
        page.get_by_text("More filters").click()
        page.get_by_label("Metadata").fill("act=all")
        page.get_by_role("button", name="Filter", exact=True).click()
        page.wait_for_url("**entry=act%3Dall")
        assert page.url.partition("?")[2] == "entry=act%3Dall", "empty fields stay out of the address"
        page.get_by_role("button", name="Cancel all").click()
        page.get_by_text("3 tasks", exact=True).wait_for()
        page.get_by_role("button", name="Go back").click()
        assert ended_now(server, ids) == ["PENDING"] * 3
        page.get_by_role("button", name="Cancel all").click()
        page.get_by_text("3 tasks", exact=True).wait_for()
        page.locator("#confirm-yes", has_text="Cancel").click()
        page.get_by_text("3 canceled").wait_for()
        page.locator("tr[data-link] .badge", has_text="Canceled").nth(2).wait_for()
    assert ended_now(server, ids) == ["CANCELED"] * 3
    assert complaints == []


def test_chosen_tasks_are_retried_and_deleted(browser: "Browser", server: System) -> None:
    ids = [submitted(server, "superres-x4", priority="low", metadata={"act": "chosen"}) for _ in range(3)]
    with server.client() as client:
        for task_id in ids:
            client.post(f"/v1/tasks/{task_id}/cancel").raise_for_status()
    with logged_in(browser, server.url, server.api_key) as (page, complaints):
        page.goto(f"{server.url}/console/tasks?entry=act%3Dchosen")
        page.get_by_label(f"Choose {ids[0]}").check()
        page.get_by_text("1 chosen").wait_for()
        page.get_by_role("button", name="Retry", exact=True).click()
        page.locator("#confirm-yes").click()
        page.get_by_text("1 of 1 retried").wait_for()
        for task_id in ids[1:]:
            page.get_by_label(f"Choose {task_id}").check()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.locator("#confirm-yes").click()
        page.get_by_text("2 of 2 deleted").wait_for()
        page.locator("tr[data-link]").nth(1).wait_for(state="detached")
    with server.client() as client:
        assert [client.get(f"/v1/tasks/{task_id}").status_code for task_id in ids] == [200, 410, 410]
    assert complaints == []


def test_a_task_is_replayed_with_changes(browser: "Browser", server: System, tasks: dict[str, str]) -> None:
    with logged_in(browser, server.url, server.api_key) as (page, complaints):
        page.goto(f"{server.url}/console/tasks/{tasks['score']}")
        page.get_by_role("link", name="Replay with changes").click()
        page.get_by_label("Params").fill("not json")
        page.get_by_role("button", name="Submit").click()
        page.get_by_text("Params:").wait_for()
        page.get_by_label("Params").fill('{"grid": 3}')
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(re.compile(r"/console/tasks/tsk_[0-9a-f]{32}$"))
        task_id = page.url.rpartition("/")[2]
        page.get_by_role("heading", name="Result").wait_for()
    assert task_id != tasks["score"]
    with server.client() as client:
        view = wait_for(client, task_id)
        assert "grid" in view["result"]["data"]
        sent = client.get(f"/v1/tasks/{tasks['score']}").json()["result"]["data"]["score"]
    assert view["result"]["data"]["score"] == sent, "the input is the same"
    assert complaints == []


def test_a_large_file_of_an_input_is_sent_as_an_upload(browser: "Browser", server: System) -> None:
    task_id = submitted(server)
    ended(server, task_id)
    big = {"name": "big.bmp", "mimeType": "image/bmp", "buffer": photo("BMP") + bytes(600_000)}
    with logged_in(browser, server.url, server.api_key) as (page, complaints):
        page.goto(f"{server.url}/console/tasks/{task_id}/replay")
        page.get_by_label("Input image").set_input_files(big)  # type: ignore[arg-type]
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(re.compile(r"/console/tasks/tsk_[0-9a-f]{32}$"))
        new = page.url.rpartition("/")[2]
    assert ended(server, new) == "SUCCESS"
    assert complaints == []


def test_the_theme_stays_and_a_viewer_has_no_buttons(browser: "Browser", server: System) -> None:
    with server.client() as client:
        made = client.post("/v1/keys", json={"tenant": "default", "scopes": ["read"]}).raise_for_status().json()
    task_id = submitted(server)
    with logged_in(browser, server.url, made["key"]) as (page, complaints):
        page.keyboard.press("t")
        page.goto(f"{server.url}/console/tasks/{task_id}")
        assert page.locator("html").get_attribute("data-theme") == "dark"
        assert page.locator("[data-act]").count() == 1, "to log out"
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/console/login")
        page.goto(f"{server.url}/console/tasks")
        assert "login?next=/console/tasks" in page.url
    assert complaints == []


def test_a_link_on_another_site_leads_to_the_page(browser: "Browser", server: System, tasks: dict[str, str]) -> None:
    with logged_in(browser, server.url, server.api_key) as (page, complaints):
        wanted = f"{server.url}/console/tasks/{tasks['score']}"
        page.route("http://chat.example/", lambda route: route.fulfill(body=f'<a href="{wanted}">look</a>'))
        page.goto("http://chat.example/")
        page.get_by_text("look").click()
        page.wait_for_url(wanted)
        assert page.get_by_role("heading", name="Result").is_visible()
    assert complaints == []


def ended_now(server: System, ids: list[str]) -> list[str]:
    with server.client() as client:
        return [client.get(f"/v1/tasks/{task_id}").json()["status"] for task_id in ids]
