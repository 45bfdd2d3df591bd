"""The members of an input, as a worker brings them to a model: from the record, the storage and URLs."""

import asyncio
import hashlib
import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import Outcome, Priority
from penstock.errors import (
    InputNotFound,
    InputTooLarge,
    PenstockError,
    UnsupportedImageFormat,
    UnsupportedMediaType,
    UploadMismatch,
)
from penstock.settings import LimitSettings
from penstock.worker.pipeline import Pipeline
from tests.support.drive import image
from tests.support.member_models import ANYTHING, MASKED, SPEECH
from tests.support.memory_storage import MemoryStorage
from tests.support.workers import pipeline

KEY = "inputs/default/tsk_1/0"


def wav(seconds: float = 0.1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(1), sound.setframerate(8_000)
        sound.writeframes(bytes(int(8_000 * seconds)))
    return file.getvalue()


class Server:
    """Serves what a test puts into `answers`, by path: the bytes and the content type."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[bytes, str]] = {}
        self.accepts: list[str] = []
        self.at_once = self.most_at_once = 0
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.accepts.append(request.headers["Accept"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.02)
        self.at_once -= 1
        if request.path not in self.answers:
            return web.Response(status=404)
        body, content_type = self.answers[request.path]
        return web.Response(body=body, headers={"Content-Type": content_type})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def run(on: Pipeline, model: str, **inputs: Source) -> Outcome:
    request = Request(model=model, inputs=inputs, params={}, output=OutputOptions())
    lease = Lease(
        id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip
    return await on.run(lease, lambda stage, progress: None)


async def seen(model: str, stored: dict[str, bytes] | None = None, **inputs: Source) -> dict[str, Any]:
    """Returns what the model was given, by member."""
    limits = LimitSettings(allow_networks=("127.0.0.1/32",), ports=tuple(range(1024, 65536)))
    async with pipeline(MemoryStorage(stored or {}), model, limits=limits) as on:
        result = (await run(on, model, **inputs)).result
    assert result is not None
    assert result.data is not None
    members: dict[str, Any] = result.data["members"]
    return members


async def refusal(model: str, stored: dict[str, bytes] | None = None, **inputs: Source) -> PenstockError:
    with pytest.raises(PenstockError) as refused:
        await seen(model, stored, **inputs)
    return refused.value


def of(data: bytes, content_type: str, name: str = "") -> dict[str, Any]:
    return {
        "type": content_type,
        "name": name,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


async def test_a_model_gets_each_member_from_wherever_it_is(server: Server) -> None:
    sound, words = wav(), {"words": ["a", None], "speed": 1.5}
    server.answers["/first%20words.wav"] = sound, "application/octet-stream"
    server.answers["/first words.wav"] = server.answers["/first%20words.wav"]

    members = await seen(
        SPEECH,
        {KEY: msgspec.json.encode("x" * 100_000)},
        audio=Source(url=server.url + "/first%20words.wav?signature=x"),
        text=Source(key=KEY),
        options=Source(value=words),
    )

    assert members == {
        "audio": of(sound, "audio/wav", "first words.wav"),
        "text": {"value": "x" * 100_000},
        "options": {"value": words},
    }
    assert server.accepts == ["audio/*, */*;q=0.1"]


async def test_two_images_are_two_members_with_their_pixels() -> None:
    members = await seen(MASKED, {KEY: image(8, 4)}, image=Source(key=KEY), mask=Source(data=image(2, 6)))

    assert [members[name]["pixels"] for name in ("image", "mask")] == [[4, 8], [6, 2]]
    assert members["image"]["type"] == "image/png"


async def test_what_a_client_or_a_source_declares_counts_where_the_bytes_say_nothing(server: Server) -> None:
    server.answers["/table"] = b"a,b", "text/csv; charset=utf-8"

    members = await seen(
        ANYTHING,
        first=Source(url=server.url + "/table"),
        second=Source(data=b"a b", content_type="text/tab-separated-values", name="table.tsv"),
        third=Source(data=wav(), content_type="text/plain"),
    )

    assert members["first"] == of(b"a,b", "text/csv", "table")
    assert members["second"] == of(b"a b", "text/tab-separated-values", "table.tsv")
    assert members["third"] == of(wav(), "audio/wav")


async def test_an_optional_member_that_was_not_sent_is_missing() -> None:
    assert await seen(ANYTHING, json=Source(value=0)) == {"json": {"value": 0}}


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        (Source(url="/missing"), InputNotFound, "audio: the source answered 404"),
        (Source(data=image()), UnsupportedMediaType, "audio: the file is image/png; the model takes audio/*"),
        (Source(url="/page"), UnsupportedMediaType, "audio: the file is of another type; the model takes audio/*"),
        (Source(key="inputs/gone"), InputNotFound, "audio: the input that was sent is gone"),
        (
            Source(key=KEY, upload="upl_1", sha256="0" * 64),
            UploadMismatch,
            "audio: the bytes of the upload have another sha256 than was announced",
        ),
    ],
)
async def test_what_is_wrong_with_a_member_names_it(
    server: Server, source: Source, kind: type[PenstockError], says: str
) -> None:
    server.answers["/page"] = b"no such recording", "text/html"
    if source.url:
        source = Source(url=server.url + source.url)

    refused = await refusal(SPEECH, {KEY: wav()}, audio=source, text=Source(value="a"))

    assert (type(refused), refused.detail) == (kind, says)


async def test_a_server_that_calls_everything_text_is_not_believed(server: Server) -> None:
    server.answers["/sound"] = b"\0\1\2\3", "text/plain; charset=utf-8"

    members = await seen(SPEECH, audio=Source(url=server.url + "/sound"), text=Source(value="a"))

    assert members["audio"]["type"] == "text/plain"


async def test_an_image_that_is_none_is_refused_by_the_member_that_it_is(server: Server) -> None:
    refused = await refusal(MASKED, image=Source(data=image()), mask=Source(data=wav()))

    assert isinstance(refused, UnsupportedImageFormat)
    assert refused.detail == "mask: the input is audio/wav; send an image as PNG, JPEG, WebP, AVIF, TIFF, GIF or BMP"


async def test_files_together_are_held_to_a_limit_of_their_own() -> None:
    limits = LimitSettings(max_input_bytes=1000, max_inputs_bytes=1500)
    async with pipeline(MemoryStorage({"inputs/x": bytes(900)}), ANYTHING, limits=limits) as on:
        one, same = Source(data=bytes(900)), Source(key="inputs/x")
        assert (await run(on, ANYTHING, first=one)).result is not None

        for other in (one, same):
            with pytest.raises(InputTooLarge) as refused:
                await run(on, ANYTHING, first=one, second=other)
            assert refused.value.detail.startswith("second: ")


async def test_few_members_are_fetched_at_a_time_and_no_more(server: Server) -> None:
    for name in ("a", "b", "c"):
        server.answers[f"/{name}"] = name.encode(), "text/csv"

    members = await seen(
        ANYTHING,
        **{m: Source(url=f"{server.url}/{n}") for m, n in zip(("first", "second", "third"), "abc", strict=True)},
    )

    assert server.most_at_once > 1
    assert [members[name]["size"] for name in ("first", "second", "third")] == [1, 1, 1]
