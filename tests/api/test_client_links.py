"""The Python client over links that fail: silent, frozen, or with somebody else at their end. The server is a process
of its own; what is in the way is a TCP proxy."""

import time
from collections.abc import Awaitable, Iterator
from math import inf
from pathlib import Path

import pytest

from penstock import AsyncClient, PenstockApiError
from penstock.client.files import DIRECT_BYTES
from penstock.client.transport import ANSWER_S, STORED_S
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from tests.support.api_server import ServerProcess
from tests.support.bad_links import answering, frozen_link
from tests.support.drive import MODEL, URL, complete, stored_objects

pytestmark = pytest.mark.shared_server

PATIENCE_S = 2.0
FAR_LONGER_S = ANSWER_S - PATIENCE_S
"""What a busy machine may add to a patience that is kept; without one the client would wait for longer."""


@pytest.fixture
def process(settings: Settings) -> Iterator[str]:
    """URL of an API server."""
    with ServerProcess(settings) as running:
        yield running.url


async def refusal_of(work: Awaitable[object]) -> tuple[PenstockApiError, float]:
    """The error, and after how many seconds it came."""
    began = time.monotonic()
    with pytest.raises(PenstockApiError) as raised:
        await work
    return raised.value, time.monotonic() - began


async def test_a_server_that_says_nothing_is_given_up_when_the_patience_ends(api_key: str) -> None:
    async with answering(b"") as url, AsyncClient(url, api_key, patience_s=PATIENCE_S) as client:
        error, took_s = await refusal_of(client.stats())

    assert (error.code, error.retryable) == ("unreachable", True)
    assert error.detail == f"{url}: no answer for 2 s"
    assert took_s < FAR_LONGER_S


async def test_a_server_that_is_asked_to_wait_may_be_silent_for_so_long(api_key: str) -> None:
    async with answering(b"") as url, AsyncClient(url, api_key, patience_s=PATIENCE_S) as client:
        error, took_s = await refusal_of(client.get("tsk_1", wait_s=1))

    assert error.detail == f"{url}: no answer for 3 s"
    assert 3 <= took_s < FAR_LONGER_S


async def test_nobody_there_is_told_in_the_words_of_the_system(api_key: str) -> None:
    async with AsyncClient("http://127.0.0.1:9", api_key, patience_s=0) as client:
        error, _ = await refusal_of(client.stats())

    assert error.detail == "http://127.0.0.1:9: Connection refused"


@pytest.mark.parametrize(
    ("to_server", "says"),
    [(300_000, "nothing more of the request was taken for 2 s"), (0, "no answer for 2 s")],
    ids=["in the middle", "from the start"],
)
async def test_an_upload_over_a_link_that_freezes_ends_and_says_why(
    process: str, api_key: str, to_server: int, says: str
) -> None:
    sent = b"x" * (40_000_000 if to_server else DIRECT_BYTES // 2)
    async with (
        frozen_link(process, to_server=to_server, to_client=inf, times=inf) as url,
        AsyncClient(url, api_key, patience_s=PATIENCE_S) as client,
    ):
        error, took_s = await refusal_of(client.submit(sent, MODEL))

    assert error.code == "unreachable"
    assert error.detail.endswith(says)
    assert took_s < STORED_S - PATIENCE_S


async def test_an_upload_is_sent_again_when_the_link_has_thawed(
    process: str, api_key: str, settings: Settings, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.client.transport.ANSWER_S", 2.0)
    sent = b"x" * 20_000_000
    async with (
        frozen_link(process, to_server=3_000_000, to_client=inf, times=2) as url,
        AsyncClient(url, api_key, patience_s=60) as client,
    ):
        upload = await client.upload(sent)

    (key,) = stored_objects(settings)
    assert upload.size == len(sent)
    assert await storage.get(key) == sent


async def test_a_download_over_a_link_that_freezes_ends_and_leaves_nothing(
    process: str, api_key: str, store: Store, storage: Storage, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    async with (
        frozen_link(process, to_server=inf, to_client=3_000_000, times=inf) as url,
        AsyncClient(url, api_key, patience_s=PATIENCE_S) as client,
    ):
        submitted = await client.submit(URL, MODEL)
        await complete(store, storage, b"y" * 20_000_000)
        error, took_s = await refusal_of(client.download(submitted.task_id, out / "result.png"))

    assert (error.code, list(out.iterdir())) == ("unreachable", [])
    assert error.detail.endswith(": no answer for 2 s")
    assert took_s < FAR_LONGER_S


XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>%s</Code><Message>%s</Message><Resource>/penstock/uploads/x</Resource></Error>"""


@pytest.mark.parametrize(
    ("status", "code", "message", "retryable"),
    [
        (403, b"RequestTimeTooSkewed", b"The difference between the request time and the server's is too large", False),
        (400, b"InvalidArgument", b"Unsupported header &#39;x-amz-checksum-sha256&#39;", False),
        (400, b"RequestTimeout", b"Your socket connection was not read from within the timeout period", True),
        (500, b"InternalError", b"We encountered an internal error. Please try again.", True),
    ],
)
async def test_what_a_bucket_says_is_what_the_client_says(
    api_key: str, status: int, code: bytes, message: bytes, retryable: bool
) -> None:
    body = XML % (code, message)
    answer = b"HTTP/1.1 %d No\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s"
    async with (
        answering(answer % (status, len(body), body)) as url,
        AsyncClient(url, api_key, patience_s=0) as client,
    ):
        error, _ = await refusal_of(client.stats())

    assert (error.code, error.status, error.retryable) == (f"http_{status}", status, retryable)
    assert error.detail.startswith(f"127.0.0.1 answered {status} {code.decode()}: ")
    assert "&#" not in error.detail


async def test_a_pause_is_told_with_its_reason_and_its_length(api_key: str) -> None:
    told: list[tuple[str, float | None, float]] = []
    problem = b'{"detail": "600 a minute", "code": "rate_limited", "retryable": true}'
    answer = b"HTTP/1.1 429 No\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(problem), problem)

    def on_pause(error: PenstockApiError, pause_s: float) -> None:
        told.append((error.code, error.retry_after_s, pause_s))

    async with (
        answering(answer) as url,
        AsyncClient(url, api_key, patience_s=5, on_pause=on_pause) as client,
    ):
        error, _ = await refusal_of(client.stats())

    assert error.code == "rate_limited"
    assert all((code, asked) == ("rate_limited", 1.0) and pause_s >= 1 for code, asked, pause_s in told)
    assert told
