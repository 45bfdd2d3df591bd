"""Milliseconds of a batch on this GPU, for every shape, batch size, precision and way: a table for a page of the docs,
docs/how-to/tune-a-gpu.md.

It asserts nothing about speed; `just gpu` prints it.
"""

import statistics
import time
from collections.abc import Iterator

import numpy as np
import pytest
from msgspec.structs import replace

from penstock.core.device import Device
from penstock.errors import DeviceOutOfMemory
from penstock.models.onnxruntime.identity import card_identity
from penstock.models.onnxruntime.runtime import runtime_version
from penstock.models.onnxruntime.session import ModelFile, Session, half, manifest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

RUNS = 10
WAYS = {"eager": False, "graphs": True}
"""Whether small batches run as CUDA graphs."""


def files() -> Iterator[tuple[ModelFile, tuple[tuple[int, int], ...]]]:
    for file in manifest("cuda").values():
        twin = half(file)
        shapes = ((224, 224),) if file.name == "image-scoring-v1" else ()
        yield from ((f, shapes) for f in (file, twin) if f is not None)


@pytest.mark.parametrize(("file", "shapes"), list(files()), ids=lambda value: getattr(value, "file", ""))
def test_how_long_a_batch_takes(gpu: Device, file: ModelFile, shapes: tuple[tuple[int, int], ...]) -> None:
    sessions = {way: Session(file, replace(gpu, cuda_graphs=graphs), shapes) for way, graphs in WAYS.items()}
    card = card_identity()
    assert card is not None
    print(f"\n{card.name}, driver {card.driver}, ONNX Runtime {runtime_version()}")
    print(f"{file.file}: median of {RUNS}, in ms")
    print(f"{'tile':>9} {'batch':>5} " + " ".join(f"{way:>8}" for way in WAYS) + "  Mpx/s eager")
    for height, width in shapes or gpu.shapes:
        for batch in gpu.batches_of((height, width, 3)):
            taken = {way: median_ms(session, batch, height, width) for way, session in sessions.items()}
            pixels = batch * height * width / 1e3 / taken["eager"]
            print(f"{height:>4}x{width:<4} {batch:>5} " + " ".join(f"{ms:8.2f}" for ms in taken.values()), end="")
            print(f" {pixels:8.2f}")
            assert any(np.isfinite(ms) for ms in taken.values())


def median_ms(session: Session, batch: int, height: int, width: int) -> float:
    tiles = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)
    times = []
    try:
        for _ in range(RUNS + 3):
            started = time.perf_counter()
            session.run(tiles)
            times.append(time.perf_counter() - started)
    except DeviceOutOfMemory:
        return float("nan")
    return statistics.median(times[3:]) * 1000
