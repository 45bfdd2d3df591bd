"""The parts of Penstock that the checks measure, as a worker uses them: runners, their work, and runs of batches."""

import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from io import StringIO
from typing import Any, NamedTuple, Self

import numpy as np
from loguru import logger
from msgspec.structs import replace
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Work, registry
from penstock.models.device_time import device_time
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.threads import Threads, tile_threads

UPSCALER, SCORER = "superres-x4", "image-scoring-v1"

Runner = BaseModelRunner[Any]


def loaded(model: str, device: Device) -> Runner:
    """A runner that has loaded its sessions, as a worker makes it."""
    runner = registry()[model](LimitSettings())
    runner.load_model(device)
    return runner


class BatchSample(NamedTuple):
    """A batch that can be run again and again. `tiles` are of the lane and shape of `work`."""

    runner: Runner
    work: Work
    tiles: NDArray[Any]

    @classmethod
    def of(cls, runner: Runner, lane: str, side: int, device: Device, most: int = 8) -> Self:
        """A batch of at most so many tiles of the shape of the warm-up that is nearest to a square of this side."""
        works = [work for work in runner.warmup() if work.lane in (lane, "")]
        work = min(works, key=lambda work: sum(abs(n - side) for n in _sides(work)))
        size = max(size for size in device.batches_of(work.shape) if size <= most)
        tiles = np.empty((size, *work.shape), work.dtype)
        for place in tiles:
            work.write_tile(0, place)
        return cls(runner, work, tiles)

    @property
    def megapixels(self) -> float:
        """The pixels of the batch in millions: each has three values."""
        return self.tiles.size / 3 / 1e6

    @property
    def side_px(self) -> int:
        """The longer side of a tile."""
        return max(_sides(self.work))

    def run(self) -> Any:
        """Run the batch, and return its outputs."""
        return self.runner.infer(self.tiles, self.work)


class BatchTime(NamedTuple):
    """Seconds of one run by the clock, and those of computing and of copying as the session notes them."""

    wall_s: float
    compute_s: float
    copy_s: float


def run_once(sample: BatchSample) -> BatchTime:
    """Run a batch and drop its outputs. Where the session notes nothing, the whole run counts as computing."""
    with device_time() as noted:
        started = time.perf_counter()
        sample.run()
        wall_s = time.perf_counter() - started
    return BatchTime(wall_s, wall_s if noted.compute_s is None else noted.compute_s, noted.copy_s or 0.0)


def median_of(sample: BatchSample, *, runs: int = 7, before: int = 3) -> BatchTime:
    """Median seconds of some runs, after others that are not counted: the first of a shape makes its plans."""
    for _ in range(before):
        run_once(sample)
    return medians([run_once(sample) for _ in range(runs)])


def medians(times: Sequence[BatchTime]) -> BatchTime:
    """The median of each part."""
    return BatchTime(*(statistics.median(part) for part in zip(*times, strict=True)))


def of_one_shape(device: Device, side: int) -> Device:
    """The same device with only the shape of tiles that is nearest to a square of this side: the warm-up of all takes
    longer than what is measured."""
    nearest = min(device.shapes, key=lambda shape: sum(abs(n - side) for n in shape))
    return replace(device, rectangles=(nearest,))


@asynccontextmanager
async def on_scheduler(device: Device, *models: str) -> AsyncIterator[tuple[DeviceScheduler, list[Runner]]]:
    """A scheduler that has loaded and warmed up these models, as that of a worker, and the runners."""
    runners = [registry()[model](LimitSettings()) for model in models]
    with Threads(tile_threads(device), "tiles") as tiles:
        scheduler = DeviceScheduler(device, tiles)
        try:
            await scheduler.start(runners)
            yield scheduler, runners
        finally:
            await scheduler.close()


def canvas_work(runner: Runner, side: int) -> Work:
    """Work of the upscaler on a square of the bundled photo, repeated."""
    photo = decode((resources.files("penstock.models") / "photo.jpg").read_bytes()).rgb
    height, width = photo.shape[:2]
    rgb = np.tile(photo, (-(-side // height), -(-side // width), 1))[:side, :side]
    return runner.prepare(encode(Picture(rgb), OutputOptions(format="png")), runner.params())


def watch_warnings() -> StringIO:
    """A log of what the parts of Penstock warn of in this process from now on, one warning in each line."""
    log = StringIO()
    logger.remove()

    def write(line: Any) -> None:
        log.write(in_words(line.record["message"], line.record["extra"]) + "\n")

    logger.add(write, level="WARNING")
    return log


def in_words(message: str, details: Mapping[str, Any]) -> str:
    """One line of a log: the message, with its details in brackets."""
    said = ", ".join(f"{name} {value}" for name, value in details.items())
    return f"{message} ({said})" if said else message


def _sides(work: Work) -> tuple[int, int]:
    """Height and width of a tile, whichever of its axes has the three channels."""
    height, width = (n for n in work.shape if n != 3)
    return height, width
