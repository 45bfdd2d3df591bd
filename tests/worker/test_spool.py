"""While the storage is away, finished results wait on disk and are stored by themselves when it is back."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from penstock.errors import ConfigurationError, ResultExpired
from penstock.storage import Item, LocalStorage
from penstock.worker.spool import Spool, StoredFiles, made
from tests.support.bad_storages import Held

FILES = {"a": 300, "b": 0, "c": 200}
"""Names and sizes."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the storage should be; a file is in its way, so that it is away."""
    path = tmp_path / "objects"
    path.write_text("in the way")
    return path


@pytest.fixture
def reasons() -> Iterator[list[str]]:
    """Why results wait, as the log has it."""
    said: list[str] = []
    sink = logger.add(lambda line: said.append(line.record["extra"].get("reason", "")), level="WARNING", format="")
    yield said
    logger.remove(sink)


def one(key: str, data: bytes) -> StoredFiles:
    return StoredFiles([Item(key, data, "image/png")])


def come_back(place: Path) -> None:
    place.unlink()
    place.mkdir()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


async def waiting(spool: Spool, count: int) -> None:
    await until(lambda: spool.on_disk == count)


async def test_a_result_waits_and_is_stored_when_the_storage_is_back(place: Path, tmp_path: Path) -> None:
    storage = LocalStorage(place)
    spool = Spool(storage, directory=str(tmp_path), max_bytes=1000)
    put = asyncio.create_task(spool.put(one("results/a", b"x" * 600)))
    await waiting(spool, 1)
    come_back(place)

    async with asyncio.timeout(60):
        await put

    assert await storage.get("results/a") == b"x" * 600
    assert spool.on_disk == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["objects"], "nothing is left on the disk"


async def test_the_files_of_a_result_wait_together_and_are_all_stored(place: Path, tmp_path: Path) -> None:
    storage = LocalStorage(place)
    spool = Spool(storage, directory=str(tmp_path), max_bytes=1000)
    files = StoredFiles([Item(f"results/{name}", name.encode() * size, "x/y") for name, size in FILES.items()])
    put = asyncio.create_task(spool.put(files))
    await waiting(spool, 1)
    assert files.size == 0, "only the disk holds them"
    come_back(place)

    async with asyncio.timeout(60):
        await put

    for name, size in FILES.items():
        assert await storage.get(f"results/{name}") == name.encode() * size


async def test_none_of_several_files_stays_when_their_put_is_canceled(tmp_path: Path) -> None:
    storage = Held(tmp_path)
    spool = Spool(storage, directory="", max_bytes=0)
    files = StoredFiles([Item(f"results/{name}", b"x" * size, "x/y") for name, size in FILES.items()])
    put = asyncio.create_task(spool.put(files))
    await storage.begun.wait()

    put.cancel()
    async with asyncio.timeout(60):
        await asyncio.gather(put, return_exceptions=True)
    storage.may_end.set()
    await spool.aclose()

    assert [stored async for stored in storage.list("results/")] == []


async def test_what_finds_no_room_waits_in_memory_and_the_spool_is_full_until_it_is_stored(
    place: Path, tmp_path: Path, reasons: list[str]
) -> None:
    storage = LocalStorage(place)
    spool = Spool(storage, directory=str(tmp_path), max_bytes=1000)
    puts = [asyncio.create_task(spool.put(one(f"results/{n}", n.encode() * 600))) for n in "abc"]
    await waiting(spool, 1)
    await until(lambda: spool.in_memory == 2)
    assert spool.is_full
    assert {reason.startswith("storage.directory: ") for reason in reasons} == {True}
    assert len(reasons) == len(puts), "each says why the storage has not taken it"

    come_back(place)
    async with asyncio.timeout(60):
        await asyncio.gather(*puts)

    assert (spool.on_disk, spool.in_memory, spool.is_full) == (0, 0, False)
    assert [await storage.get(f"results/{n}") for n in "abc"] == [n.encode() * 600 for n in "abc"]


async def test_the_room_of_a_result_that_is_given_up_comes_back(place: Path, tmp_path: Path) -> None:
    spool = Spool(LocalStorage(place), directory=str(tmp_path), max_bytes=1000)
    for name in ("results/a", "results/b"):
        put = asyncio.create_task(spool.put(one(name, b"x" * 900)))
        await waiting(spool, 1)
        put.cancel()
        await asyncio.gather(put, return_exceptions=True)
        assert (spool.on_disk, spool.is_full) == (0, False)


async def test_a_result_that_waits_in_memory_takes_the_place_of_those_on_their_way(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.worker.spool.UPLOAD_BYTES", 500)
    spool = Spool(LocalStorage(place), directory=str(tmp_path), max_bytes=0)
    put = asyncio.create_task(spool.put(one("results/a", b"x" * 600)))
    await until(lambda: spool.in_memory == 1)

    assert spool.uploads == 0

    put.cancel()
    await asyncio.gather(put, return_exceptions=True)
    await spool.aclose()
    assert spool.uploads > 0


async def test_a_result_waits_in_memory_where_the_spool_cannot_be_written(place: Path, tmp_path: Path) -> None:
    storage = LocalStorage(place)
    spool = Spool(storage, directory=str(tmp_path / "nowhere"), max_bytes=1000)
    put = asyncio.create_task(spool.put(one("results/a", b"x")))
    await until(lambda: spool.is_full)

    come_back(place)
    async with asyncio.timeout(60):
        await put

    assert await storage.get("results/a") == b"x"


async def test_a_put_that_had_begun_when_it_was_canceled_leaves_nothing_behind(tmp_path: Path) -> None:
    storage = Held(tmp_path)
    spool = Spool(storage, directory="", max_bytes=0)
    file = one("results/a", b"x")
    put = asyncio.create_task(spool.put(file))
    await storage.begun.wait()

    put.cancel()
    async with asyncio.timeout(60):
        await asyncio.gather(put, return_exceptions=True)  # it does not wait for the storage
    storage.may_end.set()
    assert file.begun is not None
    await file.begun
    await spool.aclose()

    assert put.cancelled()
    with pytest.raises(ResultExpired):
        await storage.get("results/a")


async def test_a_put_that_ends_as_it_is_canceled_leaves_nothing_behind(tmp_path: Path) -> None:
    storage = Held(tmp_path)
    spool = Spool(storage, directory="", max_bytes=0)
    file = one("results/a", b"x")
    put = asyncio.create_task(spool.put(file))
    await storage.begun.wait()
    assert file.begun is not None
    file.begun.add_done_callback(lambda _: put.cancel())

    storage.may_end.set()
    await asyncio.gather(put, return_exceptions=True)
    await spool.aclose()

    assert put.cancelled()
    with pytest.raises(ResultExpired):
        await storage.get("results/a")


def test_a_directory_that_does_not_exist_is_made(tmp_path: Path) -> None:
    directory = tmp_path / "of" / "results"

    assert made(str(directory)) == str(directory)

    assert directory.is_dir()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match=r"worker\.spool_directory: .*file/results"):
        made(str(tmp_path / "file" / "results"))
