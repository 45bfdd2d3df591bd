"""What the stages around the card take on this host, and whether they keep it computing."""

import asyncio
import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

from penstock.core.device import Device
from penstock.core.request import Format, OutputOptions
from penstock.core.task import Priority
from penstock.gpu_checks.measures.product import UPSCALER, Runner, canvas_work, of_one_shape, on_scheduler
from penstock.models.base import Work
from penstock.models.device_time import device_time, note_device_time
from penstock.worker.batcher.scheduler import DeviceScheduler

SIDE, TILE = 1536, 512
"""Sides of an image and of a tile, in pixels: an image has nine tiles or more."""

IMAGES = 6
"""Images in flight at a time."""

FORMATS: tuple[Format, ...] = ("png", "jpeg")


class StageClock:
    """Seconds of each stage, summed over the threads that run it, of the calls that it has wrapped."""

    def __init__(self) -> None:
        self.batches = 0
        self.first_at = self.last_at = 0.0
        self._seconds: dict[str, float] = {}
        self._lock = Lock()

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, whose seconds count for this stage."""

        def run(*args: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args)
            finally:
                self._add(stage, time.perf_counter() - started)

        return run

    def timed_batch(self, infer: Callable[..., Any]) -> Callable[..., Any]:
        """The same `infer`, whose seconds of computing and copying count apart."""

        def run(*args: Any) -> Any:
            with device_time() as noted:
                started = time.perf_counter()
                outputs = infer(*args)
                ended = time.perf_counter()
            compute_s = ended - started if noted.compute_s is None else noted.compute_s
            note_device_time(compute_s=compute_s, copy_s=noted.copy_s or 0.0)  # the scheduler asks for them too
            self._add("compute", compute_s)
            self._add("copy", noted.copy_s or 0.0)
            with self._lock:
                self.batches += 1
                self.first_at, self.last_at = self.first_at or started, ended
            return outputs

        return run

    def ms(self, stage: str) -> float:
        """The mean milliseconds of a stage for one batch."""
        return self._seconds.get(stage, 0.0) * 1000 / max(1, self.batches)

    @property
    def busy_share(self) -> float:
        """The share of the time from the first batch to the end of the last in which the device computed."""
        return self._seconds.get("compute", 0.0) / max(1e-9, self.last_at - self.first_at)

    def _add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds


def stages(device: Device) -> Iterator[dict[str, Any]]:
    """Yield the times of several images in flight, and of encoding their results."""
    clock = StageClock()
    runner, works = asyncio.run(_run(of_one_shape(device, TILE), clock))
    yield {"images": IMAGES, "image_mpx": SIDE * SIDE / 1e6, "batches": clock.batches}
    yield {f"{stage}_ms": clock.ms(stage) for stage in ("cut", "compute", "copy", "take_in")}
    yield {"busy_percent": 100 * clock.busy_share}
    for format_, work in zip(FORMATS, works, strict=False):
        started = time.perf_counter()
        product = runner.postprocess(work, runner.params(), OutputOptions(format=format_))
        yield {f"{format_}_ms": (time.perf_counter() - started) * 1000, f"{format_}_bytes": len(product.file or b"")}
    yield {"result_mpx": (product.width or 0) * (product.height or 0) / 1e6}


async def _run(device: Device, clock: StageClock) -> tuple[Runner, list[Work]]:
    async with on_scheduler(device, UPSCALER) as (scheduler, (runner,)):
        works = [canvas_work(runner, SIDE) for _ in range(IMAGES)]
        for work in works:
            _wrap(work, write_tile=clock.timed("cut", work.write_tile), accept=clock.timed("take_in", work.accept))
        _wrap(runner, infer=clock.timed_batch(runner.infer))
        return runner, list(await asyncio.gather(*(_through(scheduler, runner, work) for work in works)))


async def _through(scheduler: DeviceScheduler, runner: Runner, work: Work) -> Work:
    run = await scheduler.run(runner, work, priority=Priority.NORMAL, on_progress=lambda *_: None)
    return run.work


def _wrap(owner: object, **calls: Callable[..., Any]) -> None:
    """Put these calls in the place of the methods of this one object."""
    for name, call in calls.items():
        setattr(owner, name, call)
