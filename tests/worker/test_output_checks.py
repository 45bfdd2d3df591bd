"""What becomes of a task whose model gives what cannot be a result: one more try in fp32, and then an error."""

import asyncio
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from PIL import Image

from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.task import Outcome, Priority, Progress, Stage
from penstock.errors import InvalidOutput
from penstock.models.base import Outputs, Work, model_runner
from penstock.models.declared.runner import DeclaredRunner, declared_runner
from penstock.pixels.encoding import encode
from penstock.pixels.picture import Picture
from penstock.worker.pipeline import Pipeline
from tests.support.declared import BATCHING, folder_of, model, node, noise
from tests.support.memory_storage import MemoryStorage
from tests.support.repeat_model import SCALE, RepeatModel
from tests.support.workers import pipeline

HALF = replace(BATCHING, precision="auto")
"""A CPU that takes fp16 files and runs several tiles at a time, as a GPU does."""

TOML = """
kind = "image-to-image"
[output]
scale = 2
[input]
resize = "none"
[half]
file = "half.onnx"
sha256 = "{}"
"""

FAULTY = "repeat-faulty-v1"


class Watched:
    """Where an attempt was, as its watcher was told."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.progress: list[Progress] = []

    def __call__(self, stage: Stage, progress: Progress | None) -> None:
        self.stages.append(stage)
        self.progress += [progress] if progress else []


def squared(*, half: bool, gain: float = 256.0) -> bytes:
    """An upscaler that squares each value of 0..1 and repeats each pixel. It multiplies by `gain` before, and divides
    twice by it behind: with 256, what is 255 of 255 becomes 65,536, which fp16 calls infinite."""
    kind = np.float16 if half else np.float32
    # A CPU multiplies in fp32, and rounds to fp16 only what another kind of node takes: that is what Concat is for.
    squaring = [
        node("Mul", "h gain", "a"), node("Mul", "a a", "b"), node("Concat", "b b", "bb", axis=1),
        node("Slice", "bb from to along", "b1"), node("Mul", "b1 less", "c"), node("Mul", "c less", "d"),
    ]  # fmt: skip
    ends = [node("Cast", "x", "h", to=10 if half else 1)], [node("Cast", "d", "v", to=1)]
    return model(
        [*ends[0], *squaring, *ends[1], node("Resize", "v - scales", "y", mode="nearest")],
        [("x", "float32", ["n", 3, "h", "w"])],
        [("y", "float32", ["n", 3, "H", "W"])],
        gain=kind(gain),
        less=kind(1 / gain),
        **{"from": np.array([0]), "to": np.array([3]), "along": np.array([1])},
        scales=np.array([1, 1, 2, 2], np.float32),
    )


def squarer(place: Path, exact: bytes) -> type[DeclaredRunner]:
    """The model with this exact file, and the one in fp16 beside it."""
    half = squared(half=True)
    folder = folder_of(place, "", exact, half_onnx=half)
    toml = folder / "model.toml"
    toml.write_text(toml.read_text() + TOML.format(hashlib.sha256(half).hexdigest()))
    return declared_runner(folder)


def dim(high: int, seed: int = 1) -> NDArray[np.uint8]:
    """Noise without white, but for one pixel where `high` is 255."""
    pixels = noise(30, 40, seed) // 2
    pixels[7, 9] = high
    return pixels


def file_of(rgb: NDArray[np.uint8]) -> bytes:
    return encode(Picture(rgb), OutputOptions())


async def attempt(running: Pipeline, name: str, image: bytes, number: int = 1) -> tuple[Outcome, Watched]:
    request = Request(model=name, inputs={"image": Source(data=image)}, params={}, output=OutputOptions())
    lease = Lease(
        id=f"tsk_{number}", epoch=1, fence="f", tenant="default", caller="alice", priority=Priority.NORMAL, failures=0,
        crashes=0, max_retries=0, timeout_s=60, waited_ms=0, request=request,
    )  # fmt: skip
    watched = Watched()
    return await running.run(lease, watched), watched


def pixels_of(outcome: Outcome, storage: MemoryStorage) -> NDArray[np.uint8]:
    assert outcome.result
    (file,) = outcome.result.artifacts
    return np.asarray(Image.open(io.BytesIO(storage.objects[file.s3_key])))


def square_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.rint((rgb / 255) ** 2 * 255).astype(np.uint8).repeat(2, 0).repeat(2, 1)


async def test_what_overflows_in_fp16_is_run_in_fp32_and_its_neighbours_are_not(tmp_path: Path) -> None:
    storage, square = MemoryStorage(), squarer(tmp_path, squared(half=False))
    images = [dim(99, seed) for seed in range(6)]
    images[3] = dim(255)

    async with pipeline(storage, own=[square], device=HALF) as running:
        assert running.models.runner_of(square.name)._is_half  # type: ignore[union-attr]
        ended = await asyncio.gather(
            *(attempt(running, square.name, file_of(rgb), number) for number, rgb in enumerate(images))
        )

    for number, (rgb, (outcome, watched)) in enumerate(zip(images, ended, strict=True)):
        assert outcome.result
        assert outcome.result.notes == (("recomputed_in_fp32",) if number == 3 else ())
        assert np.abs(pixels_of(outcome, storage).astype(int) - square_of(rgb)).max() <= 1
        assert outcome.execution["device_ms"] > 0
        done = [progress.done for progress in watched.progress]
        assert done == sorted(done)
        assert watched.progress[-1].done == watched.progress[-1].total
    assert "recomputed" not in str([outcome for number, (outcome, _) in enumerate(ended) if number != 3])


async def test_what_is_no_number_in_fp32_either_fails_the_task_after_one_more_run(tmp_path: Path) -> None:
    storage, square = MemoryStorage(), squarer(tmp_path, squared(half=False, gain=1.845e19))  # whose square is infinite

    async with pipeline(storage, own=[square], device=HALF) as running:
        runner = running.models.runner_of(square.name)
        assert runner is not None
        runs: list[str] = []
        infer = runner.infer
        runner.infer = lambda tiles, work: [runs.append(work.lane), infer(tiles, work)][1]  # type: ignore[func-returns-value,method-assign]
        with pytest.raises(InvalidOutput, match="not numbers"):
            await attempt(running, square.name, file_of(dim(255)))
        assert runs == ["", "fp32"]
        await attempt(running, square.name, file_of(dim(99)))

    assert len(storage.objects) == 1


@model_runner(FAULTY)
class FaultyRepeat(RepeatModel):
    """Gives no numbers from the tenth tile on, unless it is run in fp32, which only some models can."""

    runs: int = 0
    in_fp32_too: bool = True

    def infer(self, tiles: Any, work: Work) -> Outputs:
        self.runs += 1
        made = super().infer(tiles, work)
        return made if work.lane or self.runs < 60 else [(pixels, np.nan) for pixels, _ in made]

    def in_fp32(self, work: Work) -> Work | None:
        return None if work.lane or not self.in_fp32_too else work.again("fp32")


async def test_a_file_that_was_begun_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    rgb = np.random.default_rng(11).integers(0, 256, (700, 330, 3), np.uint8)

    async with pipeline(storage, FAULTY) as running:
        outcome, watched = await attempt(running, FAULTY, file_of(rgb))
        assert outcome.result
        assert outcome.result.notes == ("recomputed_in_fp32",)
        assert (pixels_of(outcome, storage) == rgb.repeat(SCALE, 0).repeat(SCALE, 1)).all()
        assert list(storage.objects) == [outcome.result.artifacts[0].s3_key]
        done = [progress.done for progress in watched.progress]
        assert done == sorted(done)
        assert watched.progress[-1].total > outcome.execution["tiles"] == 6 * 13
        assert outcome.timing["total_ms"] >= outcome.timing["infer_ms"]

        monkeypatch.setattr(FaultyRepeat, "in_fp32_too", False)
        with pytest.raises(InvalidOutput):
            await attempt(running, FAULTY, file_of(rgb), 2)
    assert len(storage.objects) == 1
