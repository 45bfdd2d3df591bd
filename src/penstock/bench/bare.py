"""The bare loop: decode, infer and encode the same images one after the other, in a process that does nothing else.

It is what a script without any server would reach with the same runner, session and threads, and so the measure of
what the server costs. Its process is there before the load and after it, and sleeps in between.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from penstock.bench.images import Image
from penstock.bench.server import last_line
from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError
from penstock.local.children import die_with_parent, python
from penstock.models import load_runners
from penstock.models.base import BaseModelRunner, Work, registry
from penstock.settings import Settings, clean_environment, environment_of
from penstock.worker.devices import placements


class BareLoop:
    """The process, seen from the run; `seconds` has every time measured so far, by image; `cpu_s` is the CPU time of
    all."""

    def __init__(self, process: asyncio.subprocess.Process, device: Device, log: Path) -> None:
        self._process = process
        self._log = log
        self.device = device
        self.seconds: dict[int, list[float]] = {}
        self.cpu_s = 0.0

    async def run(self, images: Sequence[int]) -> float:
        """Runs these images in this order and returns the seconds it took. Raises ConfigurationError if the model
        fails."""
        took_s = 0.0
        for number in images:
            seconds, cpu_s = await self._ask(number)
            self.cpu_s += cpu_s
            self.seconds.setdefault(number, []).append(seconds)
            took_s += seconds
        return took_s

    async def _ask(self, number: int) -> tuple[float, float]:
        assert self._process.stdin is not None  # noqa: S101  pipes, by `started`
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(f"{number}\n".encode())
            await self._process.stdin.drain()
        except ConnectionError:
            pass  # its last line says more
        line = await self._process.stdout.readline()
        if not line:
            raise ConfigurationError(f"bench: the bare loop failed ({last_line(self._log)}); give --no-bare")
        seconds, cpu_s = map(float, line.split())
        return seconds, cpu_s


@asynccontextmanager
async def started(settings: Settings, model: str, images: Sequence[Image], home: Path) -> AsyncIterator[BareLoop]:
    """Starts the process on the first device of this host and warms it up with the first image."""
    place = next(place for place in placements(settings.worker) if not place.lost)
    directory, log = home / "images", home / "bare.log"
    directory.mkdir()
    for number, image in enumerate(images):
        (directory / str(number)).write_bytes(image.data)
    device = msgspec.json.encode(place.device).decode()
    with log.open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *python("bare-loop", "--model", model, "--device", device, str(directory)),
            env=clean_environment() | environment_of(settings) | place.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        loop = BareLoop(process, place.device, log)
        await loop.run([0])
        loop.seconds.clear()
        loop.cpu_s = 0.0
        yield loop
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def serve_bare_loop(settings: Settings, model: str, device: Device, directory: Path) -> None:
    """Runs in the bare-loop process: reads the number of an image per line, and writes its seconds and CPU seconds,
    until the input ends."""
    load_runners(settings.models)
    runner = registry()[model](settings.limits)
    runner.load_model(device)
    for work in runner.warmup():
        for batch in device.batches_of(work.shape):
            runner.infer(np.stack([work.tile(0)] * batch), work)
    for line in sys.stdin:
        source = (directory / line.strip()).read_bytes()
        started, cpu_s = time.perf_counter(), time.process_time()
        _run_once(runner, device, source)
        sys.stdout.write(f"{time.perf_counter() - started} {time.process_time() - cpu_s}\n")
        sys.stdout.flush()


def _run_once(runner: BaseModelRunner[Any], device: Device, source: bytes) -> None:
    params = runner.params()
    work = runner.prepare(source, params)
    most = device.batches_of(work.shape)[-1]
    for first in range(0, work.count, most):
        indices = range(first, min(first + most, work.count))
        outputs = runner.infer(_stacked(work, indices, device), work)
        for index, output in zip(indices, outputs, strict=False):
            work.accept(index, output)
    runner.postprocess(work, params, OutputOptions())


def _stacked(work: Work, indices: range, device: Device) -> Any:
    """Stacks the tiles as a worker does, padded to a batch size that the device has been warmed up with."""
    tiles = [work.tile(index) for index in indices]
    size = next(batch for batch in device.batches if batch >= len(tiles))
    return np.stack(tiles + [np.zeros_like(tiles[0])] * (size - len(tiles)))
