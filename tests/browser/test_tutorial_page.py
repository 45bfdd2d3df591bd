"""The page of the tutorial in a real browser, on another origin than the server, which has no setting for it."""

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from PIL import Image

from penstock.settings import Settings, StorageSettings, environment_of
from tests.support import chromium
from tests.support.processes import System, up

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FILES = Path(__file__).parents[2] / "docs" / "tutorials" / "page"
API, BACKEND = "127.0.0.1:8000", 8080
"""The addresses in the files of the tutorial."""

OBSERVED = """
window.seen = [];
const value = Object.getOwnPropertyDescriptor(HTMLProgressElement.prototype, "value");
Object.defineProperty(HTMLProgressElement.prototype, "value", {
  get() { return value.get.call(this); },
  set(ratio) { value.set.call(this, ratio); seen.push([document.querySelector("output").value, ratio]); },
});
"""
"""Keeps each value that the page gives to its progress bar, with the words that stand beside it."""

READ = """async ([url, init]) => {
  try { const answer = await fetch(url, init); return [answer.status, await answer.text()]; } catch { return null; }
}"""
SHOW = """(url) => new Promise((done) => {
  Object.assign(new Image(), { src: url, onload: () => done(true), onerror: () => done(false) });
})"""

ENDED = "!/^(Choose|Sending|Waiting|Enlarging)/.test(document.querySelector('output').value)"


@pytest.fixture(scope="module")
def server(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up"), GPU_IDS="cpu") as system:
        yield system


@pytest.fixture(scope="module")
def backend(server: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_backend(server, tmp_path_factory.mktemp("tutorial")) as url:
        yield url


@contextmanager
def running_backend(server: System, here: Path) -> Iterator[str]:
    """Runs the backend of the tutorial, with its page; their files are as they are but for the two addresses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (here / "page").mkdir()
    for file in FILES.iterdir():
        text = file.read_text().replace(API, httpx.URL(server.url).netloc.decode())
        (here / "page" / file.name).write_text(text.replace(str(BACKEND), str(port)))
    environ = os.environ | {"KEY": server.api_key, "no_proxy": "*"}
    with subprocess.Popen([sys.executable, "page/server.py"], cwd=here, env=environ, stderr=subprocess.DEVNULL) as run:
        try:
            httpx.Client(transport=httpx.HTTPTransport(retries=10), trust_env=False).get(f"http://127.0.0.1:{port}/")
            yield f"http://localhost:{port}/"
        finally:
            run.terminate()


def photo(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(out, "PNG")
    return out.getvalue()


def enlarged(page: "Page", data: bytes) -> str:
    """Chooses the photo, and returns the URL of the picture that the page then shows."""
    page.locator("input").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": data})
    page.wait_for_function(ENDED)
    assert page.locator("output").inner_text() == "Done"
    return page.locator("img").get_attribute("src") or ""


def test_the_page_sends_a_photo_shows_true_progress_and_the_picture(browser: "Browser", backend: str) -> None:
    with chromium.opened(browser) as (page, complaints):
        page.add_init_script(OBSERVED)
        page.goto(backend)
        enlarged(page, photo(1800, 24))  # it takes longer than half a second, after which progress is told again
        seen = page.evaluate("seen")
        size = page.evaluate("[document.images[0].naturalWidth, document.images[0].naturalHeight]")

    sent = [ratio for words, ratio in seen if words == "Sending"]
    worked = [ratio for words, ratio in seen if words == "Enlarging"]
    assert sent[-1] == 1
    assert worked == sorted(worked)
    assert worked[-1] == 1
    assert set(worked) - {0, 1}, "there is progress before the end"
    assert size == [7200, 96]
    assert complaints == []


def test_the_page_reads_and_shows_nothing_else(browser: "Browser", backend: str, server: System) -> None:
    with chromium.opened(browser) as (page, _):
        page.goto(backend)
        result = enlarged(page, photo(16, 16))
        bare, _, token = result.partition("?token=")
        task = bare.rpartition("/")[0]
        key = {"headers": {"X-API-Key": server.api_key}}
        by_url = [page.evaluate(READ, [url, {}]) for url in (f"{task}?token={token}", f"{task}?token=wrong")]
        hidden: list[tuple[str, dict[str, object]]] = [
            (task, {}),
            (task, key),
            (f"{task}?token={token}", key),
            (f"{task}/log?token={token}", {}),
            (f"{task}?token={token}", {"credentials": "include"}),
            (f"{task}/cancel?token={token}", {"method": "POST"}),
            (f"{server.url}/v1/tasks", key),
            (f"{server.url}/v1/tasks", {"method": "POST", "body": "{}", **key}),
            (f"{server.url}/", {}),
            (f"{server.url}/schema/openapi.json", {}),
        ]
        read = [page.evaluate(READ, [url, said]) for url, said in hidden]
        shown = [page.evaluate(SHOW, url) for url in (result, bare, f"{server.url}/docs/assets/favicon-32x32.png")]

    assert [found and found[0] for found in by_url] == [200, 401]
    assert read == [None] * len(hidden)
    assert shown == [True, False, False]


def test_the_page_is_the_same_where_a_bucket_stores_the_files(
    browser: "Browser", s3_server: StorageSettings, tmp_path: Path
) -> None:
    environ = {
        name: value for name, value in environment_of(Settings(storage=s3_server)).items() if "_STORAGE_" in name
    }
    with (
        up(tmp_path / "up", GPU_IDS="cpu", **environ) as server,
        running_backend(server, tmp_path) as url,
        chromium.opened(browser) as (page, complaints),
    ):
        page.goto(url)
        picture = enlarged(page, photo(16, 12))
        size = page.evaluate("[document.images[0].naturalWidth, document.images[0].naturalHeight]")
        watched = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
        (events,) = (one for one in watched if "/events?token=" in one)
        read = page.evaluate(READ, [events.replace("/events?", "/result?"), {}])

    assert (size, complaints) == ([64, 48], [])
    assert picture.startswith(s3_server.s3_endpoint)
    assert read is not None, "a script that follows the redirect to the bucket can read the result"


def test_the_page_says_why_a_photo_cannot_be_enlarged(browser: "Browser", backend: str) -> None:
    with chromium.opened(browser) as (page, complaints):
        page.goto(backend)
        page.locator("input").set_input_files({"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
        page.wait_for_function(
            "!['Sending', 'Enlarging', 'Choose one.'].includes(document.querySelector('output').value)"
        )
        words = page.locator("output").inner_text()

    assert "image" in words
    assert [said for said in complaints if "415" not in said and "422" not in said] == []
