"""Results that are written while their tiles come."""

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import Artifact, Outcome, Priority
from penstock.errors import ModelError, ModelResultInvalid, StorageUnavailable
from penstock.models import tiling
from penstock.models.base import registry
from penstock.models.superres import SuperresParams
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu
from penstock.worker.pipeline import Pipeline
from penstock.worker.spool import Spool
from tests.support import repeat_model
from tests.support.memory_storage import MemoryStorage, MemoryWriter
from tests.support.repeat_model import MODEL, SCALE, Watched
from tests.support.workers import pipeline, until

WIDTH, HEIGHT, TILES = 330, 700, 6 * 13
"""Of an input with 6 tiles in a row, and 13 rows: its result has more bytes than LEAST_BY_ROWS_BYTES."""


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watched = Watched()
    monkeypatch.setattr(repeat_model, "WATCHED", watched)
    return watched


@pytest.fixture
def gate(watched: Watched) -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
async def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
async def running(storage: MemoryStorage) -> AsyncIterator[Pipeline]:
    async with pipeline(storage, MODEL) as opened:
        yield opened


def photo() -> NDArray[np.uint8]:
    return np.random.default_rng(11).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def attempt(running: Pipeline, picture: Picture, **params: object) -> asyncio.Task[Outcome]:
    return attempt_at(running, encode(picture, OutputOptions()), **params)


def attempt_at(running: Pipeline, image: bytes, **params: object) -> asyncio.Task[Outcome]:
    source = Source(data=image)
    request = Request(model=MODEL, inputs={"image": source}, params=params, output=OutputOptions())
    lease = Lease(
        id="tsk_1", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip
    return asyncio.create_task(running.run(lease, lambda stage, progress: None))


def held(tiles: int, is_so: Callable[[], bool]) -> None:
    """Hold the device up shortly before half of the tiles are done, until the condition holds, for 30 s at most."""
    until_s = time.monotonic() + 30
    while tiles >= TILES // 2 - 4 and not is_so() and time.monotonic() < until_s:
        time.sleep(0.01)


def file_of(outcome: Outcome) -> Artifact:
    assert outcome.result is not None
    (file,) = outcome.result.artifacts
    return file


def pixels_of(outcome: Outcome, storage: MemoryStorage) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(storage.objects[file_of(outcome).s3_key])))


def repeated(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return channel.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


async def test_a_streamed_result_has_the_pixels_and_the_size_of_any_other(
    running: Pipeline, storage: MemoryStorage, watched: Watched
) -> None:
    outcome = await attempt(running, Picture(photo()))

    assert watched.writes > 3
    assert (pixels_of(outcome, storage) == repeated(photo())).all()
    file = file_of(outcome)
    assert (file.width, file.height, file.content_type) == (SCALE * WIDTH, SCALE * HEIGHT, "image/png")


async def test_transparency_is_that_of_a_result_in_one_piece(
    running: Pipeline, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Picture(photo(), photo()[..., 0])
    streamed = pixels_of(await attempt(running, picture), storage)
    monkeypatch.setattr(tiling, "LEAST_BY_ROWS_BYTES", 2**40)
    whole = pixels_of(await attempt(running, picture), storage)

    assert streamed.shape[2] == 4
    assert (streamed == whole).all()


async def test_a_streamed_result_says_what_was_done_to_its_image(running: Pipeline, watched: Watched) -> None:
    turned, file = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    Image.fromarray(photo()).save(file, "PNG", exif=turned)

    outcome = await attempt_at(running, file.getvalue())

    assert watched.writes > 3
    assert outcome.result is not None
    assert outcome.result.notes == ("turned", "metadata_stripped")


async def test_a_file_is_begun_before_half_of_its_tiles_are_done(running: Pipeline, watched: Watched) -> None:
    done_at: list[int] = []
    watched.before_write = lambda: done_at.append(watched.tiles)
    watched.before_infer = lambda tiles: held(tiles, lambda: bool(done_at))
    await attempt(running, Picture(photo()))

    assert done_at[0] < watched.tiles / 2


async def test_the_device_waits_where_nobody_takes_the_rows(
    running: Pipeline, watched: Watched, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, storage: MemoryStorage
) -> None:
    monkeypatch.setattr(tiling, "AHEAD_BYTES", 0)
    watched.before_write = lambda: gate.wait() and None
    running_attempt = attempt(running, Picture(photo()))
    await until(lambda: watched.writes == 1)
    await asyncio.sleep(0.5)

    assert watched.tiles <= 4 * 6  # two rows of tiles, and what of others lies above their end
    gate.set()
    assert (pixels_of(await running_attempt, storage) == repeated(photo())).all()


async def test_a_task_whose_tiles_are_split_on_the_way_goes_on_below_the_rows_that_are_written(
    running: Pipeline, watched: Watched, storage: MemoryStorage
) -> None:
    split_at = 30
    # No tile is refused before rows were taken.
    watched.before_infer = lambda tiles: tiles >= split_at and wait_for_a_write(watched)
    outcome = await attempt(running, Picture(photo()), split_at=split_at)

    assert watched.tiles > 150
    assert (pixels_of(outcome, storage) == repeated(photo())).all()


def wait_for_a_write(watched: Watched) -> None:
    for _ in range(6000):
        if watched.writes:
            return
        threading.Event().wait(0.01)


async def test_what_goes_wrong_in_writing_fails_the_task_and_stops_its_tiles(
    running: Pipeline, watched: Watched
) -> None:
    def fail() -> None:
        raise ValueError

    watched.before_write = fail
    with pytest.raises(ModelError, match="ValueError in stream"):
        await attempt(running, Picture(photo()))
    assert watched.writes == 1


async def test_a_canceled_attempt_returns_when_nothing_of_it_is_written_any_more(
    running: Pipeline, watched: Watched, gate: threading.Event
) -> None:
    watched.before_write = lambda: gate.wait() and None
    canceled = attempt(running, Picture(photo()))
    await until(lambda: watched.writes == 1)
    canceled.cancel()
    await asyncio.sleep(0.2)
    assert not canceled.done()

    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await canceled
    assert watched.is_writing.acquire(blocking=False)
    assert watched.writes == 1


# --- on the way to the storage ------------------------------------------------------------------------------------


class Moody(MemoryStorage):
    """A storage that is away while the test wants it, and in which parts can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.tries = 0
        self.may_publish = asyncio.Event()
        self.may_publish.set()
        self.is_asked_to_publish = False

    def writer(self, key: str, content_type: str) -> MemoryWriter:
        return MoodyWriter(self, key, content_type)

    def check(self) -> None:  # type: ignore[override]
        self.tries += 1
        if self.is_away:
            raise StorageUnavailable("it is away")


class MoodyWriter(MemoryWriter):
    _storage: Moody

    async def write(self, part: bytes) -> None:
        assert len(part) == self.part_bytes
        self._storage.check()
        await super().write(part)

    async def publish(self, last: bytes) -> None:
        self._storage.is_asked_to_publish = True
        await self._storage.may_publish.wait()
        self._storage.check()
        await super().publish(last)


@pytest.fixture
def moody() -> Moody:
    return Moody()


@asynccontextmanager
async def with_spool(storage: Moody, directory: Path, max_bytes: int, **options: Any) -> AsyncIterator[Any]:
    spool = Spool(storage, directory=str(directory), max_bytes=max_bytes)
    async with pipeline(storage, MODEL, spool=spool, **options) as running:
        yield running, spool
        await spool.aclose()
        assert (storage.writers, spool.on_disk, spool.in_memory) == ([], 0, 0)
        assert spool.take_room(max_bytes), "all of the room is free again"


async def test_the_first_bytes_are_stored_before_half_of_the_tiles_are_done(
    running: Pipeline, storage: MemoryStorage, watched: Watched
) -> None:
    stored_at: list[int] = []

    def look(tiles: int) -> None:
        held(tiles, lambda: bool(storage.writers))
        if storage.writers:
            stored_at.append(tiles)

    watched.before_infer = look
    outcome = await attempt(running, Picture(photo()))

    assert stored_at[0] < watched.tiles / 2
    stored = storage.objects[file_of(outcome).s3_key]
    assert (file_of(outcome).size, file_of(outcome).sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert storage.writers == []


@pytest.mark.parametrize("room", [0, 300_000, 10**9])
async def test_where_the_storage_goes_away_neither_tiles_nor_encoding_wait_for_it(
    moody: Moody, tmp_path: Path, watched: Watched, room: int
) -> None:
    def leave(tiles: int) -> None:
        moody.is_away = tiles > 40 and bool(moody.writers)

    watched.before_infer = leave
    async with with_spool(moody, tmp_path, room) as (running, spool):
        running_attempt = attempt(running, Picture(photo()))
        await until(lambda: watched.tiles > 0 and spool.on_disk == 1)
        assert spool.is_full is (room < 10**9)
        watched.before_infer = lambda tiles: None
        moody.is_away = False

        assert (pixels_of(await running_attempt, moody) == repeated(photo())).all()
    assert [*tmp_path.iterdir()] == []


async def test_what_does_not_find_the_storage_at_all_is_stored_when_it_is_back(moody: Moody, tmp_path: Path) -> None:
    moody.is_away = True
    async with with_spool(moody, tmp_path, 10**9) as (running, spool):
        running_attempt = attempt(running, Picture(photo()))
        await until(lambda: spool.on_disk == 1 and moody.tries > 2)
        moody.is_away = False

        assert (pixels_of(await running_attempt, moody) == repeated(photo())).all()


@pytest.mark.parametrize("where", ["infer", "publish", "spool"])
async def test_of_a_canceled_attempt_nothing_stays_in_the_storage(
    moody: Moody, tmp_path: Path, watched: Watched, where: str, gate: threading.Event
) -> None:
    async with with_spool(moody, tmp_path, 10**9) as (running, spool):
        if where == "infer":
            watched.before_infer = lambda tiles: tiles > 60 and gate.wait()
        elif where == "publish":
            moody.may_publish.clear()
        else:
            moody.is_away = True
        canceled = attempt(running, Picture(photo()))
        await until({
            "infer": lambda: watched.tiles > 60 and len(moody.writers) == 1,
            "publish": lambda: moody.is_asked_to_publish,
            "spool": lambda: spool.on_disk == 1,
        }[where])  # fmt: skip
        canceled.cancel()
        gate.set()
        await asyncio.gather(canceled, return_exceptions=True)
        moody.may_publish.set()

        assert canceled.cancelled()
    assert moody.objects == {}


async def test_an_attempt_whose_stored_parts_are_gone_is_tried_again(
    moody: Moody, tmp_path: Path, watched: Watched
) -> None:
    watched.before_infer = lambda tiles: tiles > 60 and moody.writers.clear()
    async with with_spool(moody, tmp_path, 10**9) as (running, _):
        with pytest.raises(StorageUnavailable, match="gone") as raised:
            await attempt(running, Picture(photo()))
        assert raised.value.retryable
    assert moody.objects == {}


async def test_a_file_with_more_bytes_than_a_result_may_have_ends_its_tiles(
    moody: Moody, tmp_path: Path, watched: Watched
) -> None:
    async with with_spool(moody, tmp_path, 0, limits=LimitSettings(max_result_bytes=100_000)) as (running, _):
        with pytest.raises(ModelResultInvalid, match="max_result_bytes"):
            await attempt(running, Picture(photo()))
    assert moody.objects == {}


# --- which results ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def superres() -> Any:
    runner = registry()["superres-x4"](LimitSettings())
    runner.load_model(cpu(1))
    return runner


@pytest.mark.parametrize("output", [OutputOptions(format="jpeg"), OutputOptions(format="webp", lossless=True)])
def test_other_formats_are_written_at_the_end(superres: Any, output: OutputOptions) -> None:
    source, params = encode(Picture(photo()), OutputOptions()), SuperresParams()
    assert superres.stream(superres.prepare(source, params), params, output) is None
    assert superres.memory_for(source, params, output) >= superres.memory_needed(source, params)


def test_a_large_png_of_superres_is_written_by_rows_and_a_small_one_at_the_end(superres: Any) -> None:
    params = SuperresParams()
    for picture in (photo(), photo()[:300]):
        source = encode(Picture(picture), OutputOptions())
        stream = superres.stream(superres.prepare(source, params), params, OutputOptions())
        assert (stream is None) is (len(picture) == 300)


def test_less_memory_is_set_aside_for_a_very_large_png_than_for_another_format(superres: Any) -> None:
    source, params = encode(Picture(np.zeros((5000, 4000, 3), np.uint8)), OutputOptions()), SuperresParams()
    assert superres.memory_for(source, params, OutputOptions()) < 0.6 * superres.memory_needed(source, params)
