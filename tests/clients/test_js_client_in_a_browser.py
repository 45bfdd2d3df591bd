"""The npm package as it is built, in Chromium, in a page on another origin than the server."""

import base64
import functools
import http.server
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.programs import PHOTO
from tests.support import chromium
from tests.support.processes import System, up

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.clients

SENT = """async ([opened, photo]) => {
  const { sendUpload } = await import("/dist/index.js");
  const file = new File([Uint8Array.from(atob(photo), (sign) => sign.charCodeAt(0)), new Uint8Array(3e6)], "mine.jpg");
  const told = [];
  await sendUpload(opened, file, { onProgress: (sent, size) => told.push(sent / size) });
  return told;
}"""

FOLLOWED = """async ([url, token, taskId]) => {
  const { Penstock } = await import("/dist/index.js");
  const page = new Penstock({ url, token, onPause: ({ code }) => pauses.push(code) });
  const pauses = [];
  const waited = page.wait(taskId);
  const seen = [];
  for await (const { id, event } of page.events(taskId)) if (seen.push([id, event]) === 3) await killApi();
  const result = await page.result(taskId);
  const other = await page.get("tsk_00000000000000000000000000000000").catch(({ code }) => code);
  return { seen, pauses, status: (await waited).status, result: JSON.parse(await result.text()), other };
}"""

WITH_A_KEY = """async ([url, apiKey, photo]) => {
  const { Penstock } = await import("/dist/index.js");
  const penstock = new Penstock({ url, apiKey, patienceSeconds: 5 });
  const file = new File([Uint8Array.from(atob(photo), (sign) => sign.charCodeAt(0))], "mine.jpg");
  const request = { model: "image-scoring-v1", input: file, client_request_id: "in-a-page" };
  const task = await penstock.run(request);
  const { replayed } = await penstock.submit(request);
  const upload = await penstock.upload(new Blob([file, new Uint8Array(1e6)]));
  const listed = [];
  for await (const { task_id } of penstock.list({ status: ["SUCCESS"] })) listed.push(task_id);
  const { tenant } = (await penstock.call("readUsage", {})).data[0];
  await penstock.call("setQuotas", { path: { tenant }, body: { submits_per_minute: 1 } });
  const more = (id) => penstock.submit({ ...request, client_request_id: id });
  const refused = await more("one").then(() => more("two")).catch((error) => error);
  await penstock.call("resetQuotas", { path: { tenant } });
  const { code, retryAfter } = refused;
  return { found: listed.includes(task.task_id), replayed, upload: upload.upload_id.slice(0, 4), code, retryAfter };
}"""

KEPT_OUT = """async ([url, apiKey]) => {
  const { Penstock } = await import("/dist/index.js");
  return new Penstock({ url, apiKey, patienceSeconds: 0 }).models().catch(({ code, detail }) => [code, detail]);
}"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves the files of a folder, and yields their origin."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium.running() as running:
        yield running


@pytest.fixture(scope="module")
def origin(browser: "Browser", built: Path) -> Iterator[str]:
    with served(built) as url:
        yield url


@pytest.fixture(scope="module")
def server(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    environ = {"GPU_IDS": "cpu", "PENSTOCK_MODELS_MODULES": "tests.support.slow_model"}
    with up(tmp_path_factory.mktemp("up"), PENSTOCK_API_CORS_ORIGINS=origin, **environ) as system:
        yield system


@contextmanager
def page_at(browser: "Browser", origin: str) -> Iterator["Page"]:
    with chromium.opened(browser) as (page, _):
        page.goto(f"{origin}/package.json")
        yield page


def test_a_page_of_any_origin_sends_a_file_and_follows_its_task_over_a_killed_server(
    browser: "Browser", origin: str, server: System
) -> None:
    elsewhere = origin.replace("localhost", "127.0.0.1")
    size = PHOTO.stat().st_size + 3_000_000
    with server.client() as backend, page_at(browser, elsewhere) as page:
        opened = backend.post("/v1/uploads", json={"size": size}).json()
        told = page.evaluate(SENT, [opened, photo()])
        asked: dict[str, Any] = {"model": "slow-v1", "input": {"upload_id": opened["upload_id"]}}
        asked |= {"params": {"tiles": 40, "tile_s": 0.1}, "links": {"token": True}}
        task = backend.post("/v1/tasks", json=asked).json()
        page.expose_function("killApi", lambda: os.kill(server.process.child("api"), signal.SIGKILL))
        followed = page.evaluate(FOLLOWED, [server.url, task["links"]["token"], task["task_id"]])

    assert told[-1] == 1
    assert told == sorted(told)
    ids = [event_id for event_id, _ in followed["seen"]]
    assert len(set(ids)) == len(ids), "no event comes twice"
    assert [event for _, event in followed["seen"]][-1] == "completed"
    assert (followed["status"], followed["result"], followed["other"]) == ("SUCCESS", {"tiles": 40}, "unauthorized")
    assert set(followed["pauses"]) == {"unreachable"}


def test_a_page_of_a_named_origin_uses_a_key_and_reads_all_headers_that_the_client_needs(
    browser: "Browser", origin: str, server: System
) -> None:
    with page_at(browser, origin) as page:
        got = page.evaluate(WITH_A_KEY, [server.url, server.api_key, photo()])

    assert (got["found"], got["replayed"], got["upload"], got["code"]) == (True, True, "upl_", "quota_exceeded")
    assert got["retryAfter"] > 5


def test_a_page_that_is_kept_out_hears_why_that_may_be(browser: "Browser", origin: str, server: System) -> None:
    elsewhere = origin.replace("localhost", "127.0.0.1")
    with page_at(browser, elsewhere) as page:
        code, detail = page.evaluate(KEPT_OUT, [server.url, server.api_key])

    assert code == "unreachable"
    assert f"it does not let pages of {elsewhere} in" in detail


def photo() -> str:
    return base64.b64encode(PHOTO.read_bytes()).decode()
