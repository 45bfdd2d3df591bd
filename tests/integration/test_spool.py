"""While the storage is away, finished results wait on disk and are stored by themselves when it is back."""

import asyncio
from pathlib import Path

import pytest

from penstock.errors import StorageUnavailable
from penstock.storage import LocalStorage
from penstock.worker.spool import Parcel, Spool


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the storage should be; a file is in its way, so that it is away."""
    path = tmp_path / "objects"
    path.write_text("in the way")
    return path


def come_back(place: Path) -> None:
    place.unlink()
    place.mkdir()


async def waiting(spool: Spool, count: int) -> None:
    async with asyncio.timeout(5):
        while spool.waiting != count:
            await asyncio.sleep(0.01)


async def test_a_result_waits_and_is_stored_when_the_storage_is_back(place: Path, tmp_path: Path) -> None:
    storage = LocalStorage(place)
    spool = Spool(storage, directory=str(tmp_path), max_bytes=1000)
    put = asyncio.create_task(spool.put(Parcel("results/a", "image/png", b"x" * 600)))
    await waiting(spool, 1)
    come_back(place)

    async with asyncio.timeout(10):
        await put

    assert await storage.get("results/a") == b"x" * 600
    assert spool.waiting == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["objects"], "nothing is left on the disk"


async def test_what_does_not_fit_is_refused_and_room_comes_back(place: Path, tmp_path: Path) -> None:
    storage = LocalStorage(place)
    spool = Spool(storage, directory=str(tmp_path), max_bytes=1000)
    put = asyncio.create_task(spool.put(Parcel("results/a", "image/png", b"x" * 600)))
    await waiting(spool, 1)

    with pytest.raises(StorageUnavailable):
        await spool.put(Parcel("results/b", "image/png", b"x" * 600))
    put.cancel()
    await asyncio.gather(put, return_exceptions=True)

    again = asyncio.create_task(spool.put(Parcel("results/b", "image/png", b"x" * 900)))
    await waiting(spool, 1)
    come_back(place)
    async with asyncio.timeout(10):
        await again


async def test_a_spool_that_cannot_be_written_gives_the_error_of_the_storage(place: Path, tmp_path: Path) -> None:
    spool = Spool(LocalStorage(place), directory=str(tmp_path / "nowhere"), max_bytes=1000)

    with pytest.raises(StorageUnavailable, match=r"storage\.directory"):
        await spool.put(Parcel("results/a", "image/png", b"x"))
