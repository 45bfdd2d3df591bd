"""The console's page of one task: how it went, what went in and came out, and the same once more."""

import re
import shlex
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import httpx
import msgspec
import pytest

from penstock.core.request import Source
from penstock.core.task import Outcome, Result
from penstock.storage import Storage
from penstock.store import Store
from tests.support.drive import WORKER, body, claim, complete, data_uri, fail, image, large_photo, photo
from tests.support.stores import submission

pytestmark = pytest.mark.shared_server


@pytest.fixture
async def browser(server: str, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Is logged in."""
    async with httpx.AsyncClient(base_url=server, timeout=30, verify=False) as opened:
        await opened.post("/console/login", data={"key": api_key})
        yield opened


async def submitted(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post("/v1/tasks", json=body(**changes))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def shown(browser: httpx.AsyncClient, path: str) -> str:
    answer = await browser.get(f"/console/tasks/{path}")
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


async def test_a_waiting_task_says_why_it_waits_and_is_watched(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    task_id = await submitted(client)
    page = await shown(browser, task_id)
    assert "No worker that is READY serves superres-x4" in page
    assert f'sse-connect="/console/v1/tasks/{task_id}/events"' in page
    assert f'data-act="/console/v1/tasks/{task_id}/cancel"' in page
    assert "/retry" not in page


async def test_a_failed_task_says_what_to_do(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store
) -> None:
    task_id = await submitted(client)
    await fail(store)
    page = await shown(browser, task_id)
    assert "The image is damaged" in page
    assert 'href="/console/errors/image_decode_failed"' in page
    assert "save it anew" in page
    assert "sse-connect" not in page
    assert f'data-act="/console/v1/tasks/{task_id}/retry"' in page
    assert WORKER.id in page


async def test_a_picture_is_shown_beside_that_of_the_input(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    given, made = photo(), image(32, 24)
    task_id = await submitted(client, image_url=data_uri(given))
    await complete(store, storage, made)

    page = await shown(browser, task_id)

    pictures = re.findall(r'<img (?:class="before" )?src="(/console/[^"]+)" alt="the (?:input|result)"', page)
    answers = [await browser.get(link) for link in pictures]
    assert [answer.content for answer in answers] == [made, given]
    assert [answer.headers["Content-Type"] for answer in answers] == ["image/png"] * 2
    assert "sandbox" in answers[1].headers["Content-Security-Policy"]


async def test_a_file_of_the_input_that_is_not_there_is_said_to_be_gone(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    given = data_uri(large_photo())
    first = await submitted(client, image_url=given)
    await complete(store, storage, image(32, 24))
    hit = str((await client.post("/v1/tasks", json=body(image_url=given))).json()["task_id"])

    stored, shared = await shown(browser, first), await shown(browser, hit)
    (key,) = [source.key for source in (await store.tasks.get(first, "default")).request.inputs.values()]
    await storage.delete(str(key))
    deleted, again = await shown(browser, first), (await browser.get(f"/console/tasks/{first}/replay")).text

    is_compared = ["data-compare" in page for page in (stored, shared, deleted)]
    assert is_compared == [True, False, False]
    assert f'<a href="/console/tasks/{first}">an equal task</a>' in shared
    assert "not kept any more" in deleted
    assert "/inputs/" not in shared + deleted + again
    assert "choose it again" in again


async def test_boxes_and_scores_are_drawn_and_their_words_are_no_html(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, store: Store
) -> None:
    task_id = await submitted(client, image_url=data_uri(photo()))
    box = {"label": "<script>cat</script>", "index": 0, "score": 0.9, "box": [1, 2, 30.5, 40]}
    data = {"boxes": [box, {"label": "odd", "box": "none"}], "width": 160, "height": 120, "score": 4.5}
    assert await store.leases.complete(await claim(store), Outcome(result=Result(data=data)))

    answer = await browser.get(f"/console/tasks/{task_id}")

    assert 'viewBox="0 0 160 120"' in answer.text
    assert '<rect x="1.0" y="2.0" width="29.5" height="38.0">' in answer.text
    assert "&lt;script&gt;cat" in answer.text
    assert "<script>cat" not in answer.text
    assert "4.50" in answer.text


async def test_the_request_can_be_copied(browser: httpx.AsyncClient, client: httpx.AsyncClient, server: str) -> None:
    task_id = await submitted(
        client, image_url="https://images.example.com/it's.png", priority="low", metadata={"who": "O'Hara"}
    )
    page = await shown(browser, task_id)
    command = re.search(r"<pre tabindex=\"0\">(curl .+?)</pre>", page, re.DOTALL)
    program = re.search(r"<pre tabindex=\"0\">(from .+?)</pre>", page, re.DOTALL)
    assert command
    assert program
    words = shlex.split(command[1])
    assert words[2] == f"{server}/v1/tasks"
    assert msgspec.json.decode(words[-1]) == {
        "model": "superres-x4",
        "input": {"image": "https://images.example.com/it's.png"},
        "metadata": {"who": "O'Hara"},
        "priority": "low",
    }
    compile(program[1], "copied", "exec")


async def test_a_replay_is_filled_in_with_what_was_sent(browser: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    task_id = await submitted(client, image_url=data_uri(photo()), params={"scale": 2}, priority="high")
    page = await shown(browser, f"{task_id}/replay")
    assert f'data-link="/console/tasks/{task_id}/inputs/image"' in page
    assert '"scale": 2' in page
    assert '<option value="high" selected>' in page
    assert 'data-act="/console/v1/tasks"' in page


async def test_the_tasks_of_others_are_not_shown(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, server: str
) -> None:
    task_id = await submitted(client, image_url=data_uri(photo()))
    key = (await client.post("/v1/keys", json={"tenant": "acme", "scopes": ["read"]})).json()["key"]
    async with httpx.AsyncClient(base_url=server) as stranger:
        await stranger.post("/console/login", data={"key": key})
        for path in (task_id, f"{task_id}/inputs/image", f"{task_id}/replay"):
            assert (await stranger.get(f"/console/tasks/{path}")).status_code in (403, 404), path
    assert (await browser.get(f"/console/tasks/{task_id}/inputs/other")).status_code == 404


@pytest.mark.parametrize(
    ("declared", "data", "sent_as"),
    [
        ("audio/wav", b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        ("video/mp4", b"\0\0\0\x18ftypisom" + bytes(20), "video/mp4"),
        ("text/html", b"<script>alert(1)</script>", "application/octet-stream"),
        ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "application/octet-stream"),
    ],
)
async def test_a_browser_plays_a_file_of_an_input_and_runs_none(
    browser: httpx.AsyncClient, store: Store, declared: str, data: bytes, sent_as: str
) -> None:
    task = submission(model="superres-x4")
    source = Source(data=data, content_type=declared, name="a<b>.x")
    record = msgspec.structs.replace(task.request, inputs={"clip": source})
    submitted = await store.tasks.submit(msgspec.structs.replace(task, request=record), rate_limit=0)

    page = await browser.get(f"/console/tasks/{submitted.id}")
    answer = await browser.get(f"/console/tasks/{submitted.id}/inputs/clip")

    is_played = sent_as != "application/octet-stream"
    assert (answer.content, answer.headers["Content-Type"]) == (data, sent_as)
    assert answer.headers["Content-Disposition"] == ("inline" if is_played else "attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert (re.search(r"<(audio|video) ", page.text) is not None) is is_played
    assert "a<b>" not in page.text
