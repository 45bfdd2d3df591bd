"""Large files in the Python client: sent before their submit, by the same code to a directory and to a bucket."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace
from PIL import Image

from penstock import AsyncClient, Client
from penstock.client.files import DIRECT_BYTES, File
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from tests.support.drive import MODEL

pytestmark = pytest.mark.shared_server


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "s3":
        return replace(settings, storage=request.getfixturevalue("s3_server"))
    return settings


@pytest.fixture
async def penstock(server: str, api_key: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server, api_key, patience_s=20) as client:
        yield client


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo that is too large for a submit."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    Image.effect_noise((900, 800), 100).save(path)
    assert path.stat().st_size > DIRECT_BYTES
    return path


@asynccontextmanager
async def cut_once(server: str, after: int) -> AsyncIterator[str]:
    """A way to the server that breaks the first connection which has carried so many bytes; its URL."""
    host, _, port = server.removeprefix("http://").partition(":")
    cuts = 0

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal cuts
        carried = 0
        while data := await reader.read(65_536):
            carried += len(data)
            if carried > after and not cuts:
                cuts += 1
                writer.transport.abort()
                return
            writer.write(data)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(port))
        ends = await asyncio.gather(carry(reader, there[1]), carry(there[0], writer), return_exceptions=True)
        assert not any(isinstance(end, AssertionError) for end in ends)
        writer.transport.abort()

    proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    assert cuts == 1


@pytest.mark.parametrize("kind", ["path", "bytes"])
async def test_a_large_file_is_sent_before_its_submit(
    penstock: AsyncClient, store: Store, storage: Storage, large: Path, kind: str
) -> None:
    submitted = await penstock.submit(large if kind == "path" else large.read_bytes(), MODEL)

    source = (await store.tasks.get(submitted.task_id, "default")).request.inputs["image"]
    assert source.upload is not None
    assert await storage.get(str(source.key)) == large.read_bytes()


async def test_one_upload_is_the_source_of_several_tasks(penstock: AsyncClient, store: Store, large: Path) -> None:
    upload = await penstock.upload(large)

    tasks = [await penstock.submit(upload, model) for model in (MODEL, "image-scoring-v1")]

    sources = [(await store.tasks.get(task.task_id, "default")).request.inputs["image"] for task in tasks]
    assert [source.upload for source in sources] == [upload.upload_id] * 2


async def test_the_same_large_file_is_the_same_task(penstock: AsyncClient, large: Path) -> None:
    first = await penstock.submit(large, MODEL, client_request_id="order-991")
    second = await penstock.submit(large, MODEL, client_request_id="order-991")

    assert (first.replayed, second.replayed) == (False, True)
    assert first.task_id == second.task_id


def test_the_blocking_client_uploads_too(server: str, api_key: str, large: Path) -> None:
    with Client(server, api_key) as penstock:
        upload = penstock.upload(large)
        nameless = penstock.upload(b"x")
    assert upload.size == large.stat().st_size
    answers = [
        httpx.get(f"{server}/v1/uploads/{one.upload_id}", headers={"authorization": f"Bearer {api_key}"})
        for one in (upload, nameless)
    ]
    assert [answer.json()["name"] for answer in answers] == ["large.png", None]


@pytest.mark.parametrize("settings", ["local"], indirect=True)
async def test_a_broken_upload_is_sent_again_from_its_beginning(
    server: str, api_key: str, store: Store, storage: Storage, large: Path
) -> None:
    async with cut_once(server, after=300_000) as url, AsyncClient(url, api_key, patience_s=20) as penstock:
        submitted = await penstock.submit(large, MODEL)

    source = (await store.tasks.get(submitted.task_id, "default")).request.inputs["image"]
    assert await storage.get(str(source.key)) == large.read_bytes()


async def test_a_file_that_becomes_shorter_while_it_is_sent_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1_000_000))
    file = File.of(path)
    os.truncate(path, 600_000)

    with pytest.raises(OSError, match="shorter"):
        async for _ in file.pieces():
            pass
