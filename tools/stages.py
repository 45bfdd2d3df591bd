"""Where do the time and the memory of a task go, stage by stage, for three sizes of image?

    python -m tools.stages [--json FILE]

Runs each stage alone on the CPU of this machine, with the code of the server. The tables show bytes and milliseconds.
Tiles of one image are alike: cutting, inference and joining are measured on at most TILES of them and multiplied by
their number. A result of superres-x4 has 16 times as many pixels as its input: where it would have 768 megapixels,
encoding and writing are measured at 32 and scaled by the pixels. A `~` marks a figure that was multiplied or scaled.
"""

import argparse
import asyncio
import base64
import binascii
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table

from penstock.bench.images import mirrored
from penstock.core.access import TENANT
from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.core.submission import Submission
from penstock.core.task import PRIORITIES, Outcome, Result
from penstock.models import load_runners
from penstock.models.base import BaseModelRunner, registry
from penstock.pixels.encoding import encode
from penstock.pixels.formats import MAX_SIDES
from penstock.pixels.picture import Picture, Pixels
from penstock.settings import LimitSettings, ModelSettings, QueueSettings
from penstock.storage.local import LocalStorage
from penstock.store import Engine, Store
from penstock.worker.devices import cpu
from tools.queue_cost import MODEL, redis_at, submission

SIZES = {"512 × 512": (512, 512), "2 MP": (1632, 1224), "48 MP": (8000, 6000)}
TILES = 4
REPEATS = 3
ROUND_TRIPS = 500
LARGEST_ENCODED = 33_000_000
"""Pixels: the result of the 2 MP image. Three times this, as raw bytes, is held twice while it is encoded."""


@dataclass
class Cell:
    """One stage of one image, `scaled` if it was multiplied; or a note instead."""

    ms: float = 0.0
    bytes: int | None = None
    scaled: bool = False
    note: tuple[str, str] = ("", "")


Column = dict[str, Cell]


def main() -> None:
    """Runs the measurements and prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    load_runners(ModelSettings())
    device = cpu()
    superres, scoring = loaded("superres-x4", device), loaded("image-scoring-v1", device)
    result = upscaled(superres)
    columns: dict[str, dict[str, Column]] = {"superres-x4": {}, "image-scoring-v1": {}}
    with tempfile.TemporaryDirectory(prefix="stages-") as home:
        storage = LocalStorage(Path(home) / "objects")
        for name, (width, height) in SIZES.items():
            source = encode(mirrored(width, height), OutputOptions(format="jpeg"))
            arrival = arrived(source, storage)
            columns["superres-x4"][name] = arrival | enlarged(superres, source, result, storage)
            columns["image-scoring-v1"][name] = arrival | scored(scoring, source)
        trips = uvloop.run(round_trips(Path(home)))
    console = Console(width=110)
    console.print(f"{os.cpu_count()} cores, {device.threads} inference threads, load average before {load:.2f}")
    for model, found in columns.items():
        console.print(table(model, found))
    console.print(trip_table(trips))
    if options.json:
        cells = {m: {n: {s: asdict(c) for s, c in column.items()} for n, column in found.items()}
                 for m, found in columns.items()}  # fmt: skip
        options.json.write_text(json.dumps({"stages": cells, "trips_ms": trips, "load_before": load}, indent=1) + "\n")


def loaded(name: str, device: Device) -> BaseModelRunner[Any]:
    """Returns a runner as a worker loads it."""
    runner = registry()[name](LimitSettings())
    runner.load_model(device)
    return runner


def upscaled(runner: BaseModelRunner[Any]) -> Pixels:
    """Returns a real result of 2048 × 2048 pixels, since the cost of encoding depends on the content."""
    work: Any = runner.prepare(encode(mirrored(512, 512), OutputOptions(format="jpeg")), runner.params())
    for index in range(work.count):
        work.accept(index, runner.infer(work.tile(index)[None], work)[0])
    pixels: Pixels = work.canvas.pixels
    return pixels


def arrived(source: bytes, storage: LocalStorage) -> Column:
    """Measures the way from the body of the request to the worker."""
    uri = base64.b64encode(source)
    return {
        "API: data URI decoded": Cell(timed(lambda: binascii.a2b_base64(uri, strict_mode=True)), len(uri)),
        "API: input stored, synced": Cell(timed_in(lambda: storage.put("input", source, "")), len(source)),
        "fetch: input read": Cell(timed_in(lambda: storage.get("input")), len(source)),
    }


def enlarged(runner: BaseModelRunner[Any], source: bytes, result: Pixels, storage: LocalStorage) -> Column:
    """Measures superres-x4 stage by stage."""
    params = runner.params()
    work: Any = runner.prepare(source, params)
    several = range(min(TILES, work.count))
    tiles = [work.tile(index)[None] for index in several]
    outputs = [runner.infer(tile, work)[0] for tile in tiles]
    picture = runner.image(source)
    width, height = work.canvas.size
    column = {
        "prepare: decoded to RGB": Cell(timed(lambda: runner.image(source)), picture.rgb.nbytes),
        "  tiles": Cell(note=(f"{work.count} of", f"{work.shape[1]} × {work.shape[0]}")),
        "infer: cut into tiles": each(work.count, several, work.tile, tiles[0].nbytes),
        "infer: device": each(work.count, several, lambda i: runner.infer(tiles[i], work), outputs[0][0].nbytes),
        "infer: joined": each(
            work.count, several, lambda i: work.accept(i, outputs[i]), 4 * width * height, total=True
        ),
    }
    encoded = filled(result, width * height, (height, width, 3))
    scale = width * height / (encoded.shape[0] * encoded.shape[1])
    for name, options in FORMATS.items():
        if options.format != "webp" or max(width, height) <= MAX_SIDES["webp"]:
            column |= written(name, encoded, options, scale, storage)
    return column


def written(name: str, pixels: Pixels, options: OutputOptions, scale: float, storage: LocalStorage) -> Column:
    """Measures the encoding and, for the default format, the steps after it."""
    started = time.perf_counter()
    data = encode(Picture(pixels), options)
    ms = (time.perf_counter() - started) * 1000

    def cell(ms: float) -> Cell:
        return Cell(ms * scale, int(len(data) * scale), scale > 1)

    column = {f"postprocess: {name}": cell(ms)}
    if options.format == "png":
        column["upload: PNG hashed"] = cell(timed(lambda: hashlib.sha256(data)))
        column["upload: PNG stored, synced"] = cell(timed_in(lambda: storage.put("result", data, "")))
    return column


FORMATS = {
    "PNG": OutputOptions(),
    "WebP, lossless": OutputOptions(format="webp", lossless=True),
    "WebP, quality 90": OutputOptions(format="webp"),
    "JPEG, quality 90": OutputOptions(format="jpeg"),
}


def scored(runner: BaseModelRunner[Any], source: bytes) -> Column:
    """Measures image-scoring-v1 stage by stage."""
    params = runner.params()
    work = runner.prepare(source, params)
    tile = work.tile(0)[None]
    work.accept(0, runner.infer(tile, work)[0])
    return {
        "prepare: decoded, resized to 224 px": Cell(timed(lambda: runner.prepare(source, params)), tile.nbytes),
        "infer: device": Cell(timed(lambda: runner.infer(tile, work), repeats=20)),
        "postprocess: JSON": Cell(timed(lambda: runner.postprocess(work, params, OutputOptions()), repeats=20)),
    }


def each(count: int, several: Iterable[int], work: Callable[[int], object], size: int, *, total: bool = False) -> Cell:
    """Returns `count` times the median of `several`. `size` is that of one, or already of all."""
    times = [timed(partial(work, index), repeats=1) for index in several]
    return Cell(statistics.median(times) * count, size if total else size * count, count > len(times))


def filled(result: Pixels, pixels: int, shape: tuple[int, ...]) -> Pixels:
    """Returns the result mirrored to this shape, or to as much of it as is encoded here."""
    share = min(1.0, LARGEST_ENCODED / pixels) ** 0.5
    rows, columns = int(shape[0] * share), int(shape[1] * share)
    missing = (max(0, rows - result.shape[0]), max(0, columns - result.shape[1]))
    return np.pad(result, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")[:rows, :columns]


async def round_trips(home: Path) -> dict[str, list[float]]:
    """Returns p50 and p99, in ms, of every call to Redis that a task makes, timed by its caller on a unix socket."""
    times: dict[str, list[float]] = {}

    async def ask(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        started = time.perf_counter()
        answer = await call()
        times.setdefault(name, []).append((time.perf_counter() - started) * 1000)
        return answer

    async def task(store: Store, asked: Submission) -> None:
        await ask("API: ping before the input is stored", store.ping)
        await ask("API: submit", lambda: store.tasks.submit(asked, rate_limit=600_000))
        claim = partial(store.leases.claim, worker="w", device="cpu", models=[MODEL], priorities=PRIORITIES)
        lease = (await ask("worker: claim", claim)).lease
        await ask("worker: progress, 5 times a second at most", lambda: store.leases.progress(lease, "infer"))
        await ask("worker: complete", lambda: store.leases.complete(lease, outcome))
        await ask("API: read", lambda: store.tasks.get(asked.id, TENANT))

    outcome = Outcome(result=Result(data={"ok": True}), timing={"queue_ms": 1.0, "total_ms": 2.0})
    async with redis_at(home / "redis") as client:
        store = Store(Engine(client, "stages", QueueSettings()))
        for number in range(ROUND_TRIPS):
            await task(store, submission(number))
    return {name: [statistics.median(found), sorted(found)[int(len(found) * 0.99)]] for name, found in times.items()}


def timed(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Returns the median in milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def timed_in(work: Callable[[], Awaitable[object]]) -> float:
    """Returns the time of a coroutine in milliseconds, without the start of its loop."""

    async def several() -> float:
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            await work()
            times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times)

    return asyncio.run(several())


def table(model: str, columns: dict[str, Column]) -> Table:
    """Formats a row for each stage, with bytes and milliseconds for each size."""
    found = Table(title=f"\n{model}", title_justify="left", box=None, pad_edge=False)
    found.add_column("", no_wrap=True, style="dim")
    for name in columns:
        found.add_column(name, justify="right")
        found.add_column("", justify="right")
    for stage in dict.fromkeys(stage for column in columns.values() for stage in column):
        cells = [column.get(stage) for column in columns.values()]
        found.add_row(stage, *(text for cell in cells for text in texts(cell)))
    return found


def texts(cell: Cell | None) -> tuple[str, str]:
    """Returns the size and the time as texts."""
    if cell is None:
        return "", "–"
    if any(cell.note):
        return cell.note
    mark = "~" if cell.scaled else ""
    return "" if cell.bytes is None else size_of(cell.bytes), mark + time_of(cell.ms)


def time_of(ms: float) -> str:
    """Formats a time with three significant figures."""
    if ms >= 1000:
        return f"{ms / 1000:.1f} s" if ms < 100_000 else f"{ms / 1000:.0f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms" if ms >= 10 else f"{ms:.2f} ms"


def size_of(count: int) -> str:
    """Formats a size with its unit."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def trip_table(trips: dict[str, list[float]]) -> Table:
    """Formats the calls to Redis."""
    found = Table(title="\nRedis round trips of a task", title_justify="left", box=None, pad_edge=False)
    found.add_column("", no_wrap=True, style="dim")
    for name in ("p50", "p99"):
        found.add_column(name, justify="right")
    for name, values in trips.items():
        found.add_row(name, *(f"{value:.3f} ms" for value in values))
    return found


if __name__ == "__main__":
    main()
