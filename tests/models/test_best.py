"""The variant `best` of superres-x4: large, slow, and loaded when a task asks for it."""

import io
from collections.abc import Callable
from importlib import resources
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from penstock.core.device import CPU_TILE_PX, GPU_SHAPES, Device
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError, ModelUnavailable
from penstock.models.onnxruntime.session import ModelFile, Session, manifest
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.superres import runner as module
from penstock.models.tiling import tiling_on
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu

Runner = Callable[[], SuperResolution]
BEST = SuperresParams(variant="best")
GENERAL = SuperresParams(variant="general")
GPU = Device(name="cuda:0", kind="cuda", threads=1, rectangles=GPU_SHAPES, batches=(1, 8))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of which a session was opened, in order."""
    files: list[str] = []
    usual = module.open_session

    def noted(file: ModelFile, device: Device) -> Session:
        files.append(file.file)
        return usual(file, device)

    monkeypatch.setattr(module, "open_session", noted)
    return files


@pytest.fixture
def runner(opened: list[str]) -> SuperResolution:
    made = SuperResolution(LimitSettings())
    made.load_model(cpu(2))
    return made


def photo(width: int, height: int) -> bytes:
    file = io.BytesIO()
    data = (resources.files("penstock.models") / "photo.jpg").read_bytes()
    Image.open(io.BytesIO(data)).convert("RGB").resize((width, height)).save(file, "PNG")
    return file.getvalue()


def enlarged(runner: SuperResolution, source: bytes, params: SuperresParams) -> np.ndarray:
    work = runner.prepare(source, params)
    for index in range(work.count):
        (output,) = runner.infer(work.tile(index)[None], work)
        work.accept(index, output)
    product = runner.postprocess(work, params, OutputOptions(format="png"))
    assert isinstance(product.file, bytes)
    return np.asarray(Image.open(io.BytesIO(product.file)))


@pytest.mark.at_length
def test_its_weights_are_read_when_the_first_task_asks_for_it_and_only_then(
    runner: SuperResolution, opened: list[str]
) -> None:
    runner.prepare(photo(24, 16), GENERAL)
    assert opened == ["superres-x4.general.onnx", "superres-x4.clean.onnx"]

    tasks = [Thread(target=runner.prepare, args=(photo(24, 16), BEST)) for _ in range(3)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()

    assert opened[2:] == ["superres-x4.best.onnx"]


def test_it_enlarges_by_four_with_the_colours_of_the_photo(runner: SuperResolution) -> None:
    source = photo(24, 16)

    result = enlarged(runner, source, BEST)

    small = np.asarray(Image.open(io.BytesIO(source)))
    assert result.shape == (64, 96, 3)
    assert np.abs(result.reshape(16, 4, 24, 4, 3).mean((1, 3)) - small).mean() < 12


@pytest.mark.at_length
def test_a_variant_that_cannot_be_loaded_fails_its_task_and_no_other(
    runner: SuperResolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(file: ModelFile) -> dict[str, bytes]:
        raise ConfigurationError("superres-x4.best.weights is damaged")

    with monkeypatch.context() as patch:
        patch.setattr(ModelFile, "external", damaged)
        with pytest.raises(ModelUnavailable, match=r"best cannot be loaded: .*weights is damaged"):
            runner.prepare(photo(24, 16), BEST)
        runner.prepare(photo(24, 16), GENERAL)

    runner.prepare(photo(24, 16), BEST)


def test_a_task_says_the_memory_that_a_cpu_computes_with(runner: SuperResolution) -> None:
    source = photo(300, 300)
    more = runner.memory_needed(source, BEST) - runner.memory_needed(source, GENERAL)

    plan = tiling_on(cpu(2), 32).up_to(192).plan(300, 300)
    assert len(plan.rows) * len(plan.columns) == 4
    assert more == 2 * plan.height * plan.width * 16384  # two threads compute a tile each


@pytest.mark.at_length
def test_so_does_one_whose_file_is_written_while_its_tiles_come(runner: SuperResolution) -> None:
    source, output = photo(4000, 3000), OutputOptions(format="png")
    needed = {params.variant: runner.memory_for(source, params, output) for params in (BEST, GENERAL)}

    assert needed["general"] < runner.memory_needed(source, GENERAL)
    assert 2 * 150 * 150 * 16384 < needed["best"] - needed["general"] <= 2 * 192 * 192 * 16384


def test_its_tiles_are_small_on_every_device() -> None:
    overlap = manifest()["superres-x4", "best"].overlap_px

    for size in (100, 192, 500, 4000):
        on_cpu = tiling_on(cpu(2), overlap).up_to(192).plan(size, size)
        on_gpu = tiling_on(GPU, overlap).up_to(256).plan(size, size)
        assert max(on_cpu.height, on_cpu.width) <= 192 < CPU_TILE_PX
        assert max(on_gpu.height, on_gpu.width) <= 256
    squares = tiling_on(Device(name="cuda:0", kind="cuda", threads=1, sides=(512,), batches=(1,)), 32).up_to(256)
    assert squares.plan(100, 100).height == 512  # the only shape that this device has


def test_a_task_counts_for_as_much_as_it_takes() -> None:
    """A photo that is one tile with each: `best` takes 15 times as long."""
    general, best = (SuperResolution.device_size(180, 120, params) for params in (GENERAL, BEST))

    assert best == pytest.approx(15 * general, rel=0.05)
