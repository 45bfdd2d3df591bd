"""What operators do most in the console, each from the overview: at most three clicks, the answer to a question among
them. docs/how-to/console.md lists the same."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.console_pages import logged_in
from tests.support.drive import data_uri, photo
from tests.support.processes import System, up, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FAILED, WAITING = ".tile[href*='FAILED']", ".tile[href*='PENDING']"
YES = "#confirm-yes"
CLICKS = {
    "see why tasks fail, and what to do": ["#errors td a code", "text=the source did not answer in time"],
    "see why a task waits": [WAITING, "tr[data-link] a.id", "text=has been paused by"],
    "retry a task": [FAILED, "tr[data-link] a.id", "button:text-is('Retry')", "text=Queued again"],
    "retry all that failed": [FAILED, "button:text-is('Retry all')", YES, "text=retried"],
    "cancel all that wait": [WAITING, "button:text-is('Cancel all')", YES, "text=canceled"],
    "pause the queues of a model": ["nav >> text=Queues", "button:text-is('Pause all')", "text=is paused: no waiting"],
    "resume a queue": ["main >> text=Show", "button:text-is('Resume')", "text=goes on"],
    "purge a queue": ["nav >> text=Queues", "button:text-is('Purge')", YES, "text=Canceled"],
    "make a key": ["nav >> text=Keys", "button:text-is('Make a key')", "text=shown this once"],
    "drain a worker": ["nav >> text=Workers", "button:text-is('Drain')", YES, "text=claims nothing more"],
}
"""What is clicked, and at last what is to be seen. The worker is drained last, as nothing fails or waits after that."""


@pytest.fixture(scope="module")
def server(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up"), GPU_IDS="cpu") as system:
        yield system


def prepare(server: System) -> None:
    """Leaves a task that failed, and one that waits in a queue that is paused."""
    ready = {"model": "image-scoring-v1", "reuse": False, "input": {"image_url": data_uri(photo())}}
    failing = ready | {"input": {"image_url": "https://a.invalid/b.png"}, "retry": {"max_attempts": 1}}
    with server.client() as client:
        client.post("/v1/queues/image-scoring-v1/resume").raise_for_status()
        client.post("/v1/queues/image-scoring-v1/pause?priority=low").raise_for_status()
        client.post("/v1/tasks", json=ready | {"priority": "low"}).raise_for_status()
        failed = client.post("/v1/tasks", json=failing).raise_for_status().json()["task_id"]
        wait_for(client, failed, "FAILED")


def test_ten_acts_take_three_clicks_at_most(browser: "Browser", server: System) -> None:
    prepare(server)
    with logged_in(browser, server.url, server.api_key, theme="dark") as (page, complaints):
        page.set_default_timeout(15_000)
        for clicks in CLICKS.values():
            prepare(server)
            page.goto(f"{server.url}/console")
            for where in clicks[:-1]:
                page.locator(where).first.click()
            page.locator(clicks[-1]).first.wait_for()
    assert complaints == []
    assert max(len(clicks) - 1 for clicks in CLICKS.values()) <= 3
