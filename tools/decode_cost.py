"""What scoring costs when images are decoded in children, compared with threads of the worker, in turns.

    python -m tools.decode_cost [--pairs 15] [--tasks 40] [--side 1280] [--form JPEG] [--wall]

Each pair runs the same photos through `prepare`, the device scheduler and `postprocess` of image-scoring-v1, once with
children and once with threads, in changing order. Rates are tasks for each second of CPU time, that of the children
included, so that they hold where a machine does other things; with `--wall`, for each second of the clock. The printed
ratio is the median over the pairs.
"""

import argparse
import asyncio
import io
import statistics
import time

from PIL import Image

from penstock.bench.images import mirrored
from penstock.core.request import OutputOptions
from penstock.core.task import Priority
from penstock.models.scoring import ImageScoring, ScoringParams
from penstock.settings import LimitSettings
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import CodecThreads
from penstock.worker.decoders.pool import DecoderPool
from penstock.worker.devices import cpu
from penstock.worker.threads import Threads

IN_FLIGHT = 8


class Side:
    """Scoring with one kind of decoding."""

    def __init__(self, runner: ImageScoring, scheduler: DeviceScheduler, pool: DecoderPool | None) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._pool = pool
        self._codecs = CodecThreads(cpu(), pool)

    async def rate(self, photo: bytes, tasks: int, *, wall: bool) -> float:
        """Tasks for each second."""
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one() -> None:
            async with room:
                await self._score(photo)

        began = self._now_s(wall)
        await asyncio.gather(*(one() for _ in range(tasks)))
        return tasks / (self._now_s(wall) - began)

    def close(self) -> None:
        """End the threads."""
        self._codecs.urgent.close()
        self._codecs.usual.close()

    async def _score(self, photo: bytes) -> None:
        params, clock = ScoringParams(), AttemptClock()
        self._runner.memory_needed(photo, params)
        work = await self._codecs.run(Priority.NORMAL, clock, self._runner.prepare, photo, params)
        done = await self._scheduler.run(self._runner, work, priority=Priority.NORMAL, on_progress=lambda *_: None)
        await self._codecs.run(Priority.NORMAL, clock, self._runner.postprocess, done.work, params, OutputOptions())

    def _now_s(self, wall: bool) -> float:
        if wall:
            return time.perf_counter()
        return time.process_time() + (0 if self._pool is None else self._pool.cpu_s())


async def measure(given: argparse.Namespace) -> None:
    """Print the rates of every pair, and the median of their ratios."""
    limits, photo = LimitSettings(), _photo(given.side, given.form)
    runner, pool = ImageScoring(limits), DecoderPool(limits)
    with Threads(2, "tiles") as tiles:
        scheduler = DeviceScheduler(cpu(), tiles)
        await scheduler.start([runner])
        sides = {"children": Side(runner, scheduler, pool), "threads": Side(runner, scheduler, None)}
        for side in sides.values():
            await side.rate(photo, IN_FLIGHT, wall=given.wall)
        ratios = []
        for pair in range(given.pairs):
            names = sorted(sides, reverse=bool(pair % 2))
            rates = {name: await sides[name].rate(photo, given.tasks, wall=given.wall) for name in names}
            ratios.append(rates["children"] / rates["threads"])
            print("  ".join(f"{name} {rate:6.1f}/s" for name, rate in sorted(rates.items())), f" {ratios[-1]:.3f}")
        for side in sides.values():
            side.close()
        pool.close()
        await scheduler.close()
    print(f"{given.form} {given.side} px: children / threads, median of {given.pairs}: {statistics.median(ratios):.3f}")


def _photo(width: int, form: str) -> bytes:
    """As much detail as a photo of this size has: the bundled one beside itself."""
    out = io.BytesIO()
    Image.fromarray(mirrored(width, width * 2 // 3).rgb).save(out, form, quality=90)
    return out.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--side", type=int, default=1280, help="width of the photos")
    parser.add_argument("--form", default="JPEG", choices=["JPEG", "PNG", "WEBP"])
    parser.add_argument("--wall", action="store_true", help="measure by the clock, on a machine that does nothing else")
    asyncio.run(measure(parser.parse_args()))
