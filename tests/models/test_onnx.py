"""ONNX Runtime as we use it: verified files, the device that was asked for, no telemetry, runs that can be stopped."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from msgspec.structs import replace
from PIL import Image

from penstock.core.device import CPU_TILE_PX, GPU_SHAPES, Device
from penstock.errors import ConfigurationError
from penstock.models import load_runners
from penstock.models.base import Interrupted, registry
from penstock.models.onnxruntime.session import Session, digest_of, files_of, manifest
from penstock.models.superres import SuperResolution, SuperresParams
from penstock.models.tiling import Ladder, TiledImage
from penstock.settings import LimitSettings, ModelSettings
from penstock.worker.devices import cpu

PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"
SIDES = (*range(96, CPU_TILE_PX + 1, 32), 544)
STRIP = 32
LONG_SIDES = sorted({side for shape in GPU_SHAPES for side in shape}.difference(SIDES))
GENERAL = manifest()["superres-x4", "general"]


def short_and_long(short: Sequence[Any], long: Sequence[Any]) -> list[ParameterSet]:
    """Cases of both networks; those of the large one that are only in `long` run at length."""
    rest = [case for case in long if case not in short]
    return [
        *(pytest.param(case, "clean") for case in long),
        *(pytest.param(case, "general") for case in short),
        *(pytest.param(case, "general", marks=pytest.mark.at_length) for case in rest),
    ]


def run_python(program: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environ, capture_output=True, text=True, timeout=60
    )


def test_a_damaged_model_file_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="damaged"):
        Session(replace(GENERAL, sha256="0" * 64), cpu())


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"version": "2"}], ids=str)
@pytest.mark.parametrize("index", range(len(files_of("superres-x4"))))
def test_the_digest_of_a_model_changes_with_each_of_its_files(index: int, change: dict[str, str]) -> None:
    files = files_of("superres-x4")
    assert digest_of(files) in SuperResolution.digest()

    changed = [replace(file, **change) if n == index else file for n, file in enumerate(files)]

    assert digest_of(changed) != digest_of(files)


def test_the_digest_of_a_model_changes_with_its_version() -> None:
    class Newer(SuperResolution):
        card = replace(SuperResolution.card, version="2")

    assert Newer.digest() != SuperResolution.digest()


def test_a_gpu_that_is_not_there_is_refused_and_nothing_falls_back_to_the_cpu() -> None:
    gpu = Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,))

    with pytest.raises(ConfigurationError, match="cuda:0"):
        Session(GENERAL, gpu)


def test_engines_of_tensorrt_are_for_nobody_else_to_read(tmp_path: Path) -> None:
    gpu = Device(
        name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,), tensorrt=True, engine_cache_dir=str(tmp_path)
    )

    with pytest.raises(ConfigurationError, match="cannot run on cuda:0"):
        Session(GENERAL, gpu)

    (engines,) = tmp_path.iterdir()
    assert engines.stat().st_mode & 0o777 == 0o700


def test_an_input_of_a_wrong_shape_is_an_error_about_the_input() -> None:
    session = Session(manifest()["image-scoring-v1", "nima"], cpu())

    with pytest.raises(Exception, match=r"[Ii]nvalid dimensions"):
        session.run(np.zeros((1, 96, 96, 3), np.uint8))


def test_two_runtimes_side_by_side_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "onnxruntime_gpu-1.31.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.0\n")

    answer = run_python(
        "from penstock.models.onnxruntime.runtime import runtime_version as v; v()", PYTHONPATH=str(tmp_path)
    )

    assert "ConfigurationError" in answer.stderr
    assert "not both" in answer.stderr


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    program = (
        "from penstock.models.onnxruntime.session import Session, manifest\n"
        "from penstock.worker.devices import cpu\n"
        "import numpy as np\n"
        "Session(manifest()['image-scoring-v1', 'nima'], cpu()).run(np.zeros((1, 224, 224, 3), np.uint8))\n"
    )

    answer = run_python(program, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))

    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == answer.stdout == ""
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_a_run_can_be_stopped_from_another_thread_and_the_session_lives_on() -> None:
    session = Session(GENERAL, cpu())
    ends: list[BaseException] = []

    def run() -> None:
        try:
            session.run(np.zeros((1, 384, 384, 3), np.uint8))
        except Interrupted as end:
            ends.append(end)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.2)
    session.interrupt()
    thread.join(10)

    assert len(ends) == 1
    assert session.run(np.zeros((1, 64, 64, 3), np.uint8))[0].shape == (1, 256, 256, 3)


@pytest.fixture(scope="module")
def runner() -> SuperResolution:
    load_runners(ModelSettings())
    runner = registry()["superres-x4"](LimitSettings())
    runner.load_model(cpu())
    assert isinstance(runner, SuperResolution)
    return runner


@pytest.mark.parametrize(("shape", "variant"), short_and_long([(140, 160)], [(96, 128), (128, 96), (140, 160)]))
def test_tiles_join_without_a_seam(runner: SuperResolution, variant: str, shape: tuple[int, int]) -> None:
    """Against the same photo in one tile, for every pixel: no more than one step of 255."""
    rgb = np.asarray(Image.open(PHOTO).convert("RGB"))[:150, :224]
    whole = TiledImage(rgb, Ladder(((150, 224),), 32), scale=4, lane=variant, context=None)
    overlap = manifest()["superres-x4", variant].overlap_px
    tiled = TiledImage(rgb, Ladder((shape,), overlap), scale=4, lane=variant, context=None)

    for work in (whole, tiled):
        for index in range(work.count):
            work.accept(index, runner.infer(work.tile(index)[None], work)[0])

    assert tiled.count > whole.count == 1
    assert np.abs(tiled.canvas.pixels.astype(int) - whole.canvas.pixels).max() <= 1


@pytest.mark.parametrize(
    ("side", "variant"),
    [
        *short_and_long(SIDES[:2], SIDES),
        *(pytest.param(side, v, marks=pytest.mark.at_length) for side in LONG_SIDES for v in ("clean", "general")),
    ],
)
def test_no_side_of_any_ladder_shows_a_seam(runner: SuperResolution, variant: str, side: int) -> None:
    """A strip of a photo in tiles of this width, then of this height, against the same strip in one."""
    photo = Image.open(PHOTO).convert("RGB").resize((side + 96, STRIP), Image.Resampling.LANCZOS)
    overlap = manifest()["superres-x4", variant].overlap_px
    for rgb in (np.asarray(photo), np.ascontiguousarray(np.asarray(photo).transpose(1, 0, 2))):
        height, width = rgb.shape[:2]
        shape = (STRIP, side) if height == STRIP else (side, STRIP)
        whole = TiledImage(rgb, Ladder(((height, width),), overlap), scale=4, lane=variant, context=None)
        tiled = TiledImage(rgb, Ladder((shape,), overlap), scale=4, lane=variant, context=None)

        for work in (whole, tiled):
            for index in range(work.count):
                work.accept(index, runner.infer(work.tile(index)[None], work)[0])

        assert tiled.count > whole.count == 1
        assert np.abs(tiled.canvas.pixels.astype(int) - whole.canvas.pixels).max() <= 1


def test_runs_that_meet_give_what_a_run_alone_gives() -> None:
    session = Session(manifest()["superres-x4", "clean"], replace(cpu(2), streams=2))
    tiles = [np.random.default_rng(n).integers(0, 256, (1, 64, 64, 3), np.uint8) for n in range(6)]

    alone = [session.run(tile)[0] for tile in tiles]
    with ThreadPoolExecutor(2) as pool:
        meeting = [outputs[0] for outputs in pool.map(session.run, tiles)]

    assert all(np.abs(a.astype(int) - m).max() <= 1 for a, m in zip(alone, meeting, strict=True))


@pytest.mark.parametrize(("size", "variant"), short_and_long([2], [2, 4, 8]))
def test_a_batch_gives_what_its_tiles_give_alone(runner: SuperResolution, variant: str, size: int) -> None:
    rgb = np.asarray(Image.open(PHOTO).convert("RGB"))
    work = TiledImage(rgb, Ladder(((96, 96),), 32), scale=4, lane=variant, context=None)
    tiles = np.stack([work.tile(i) for i in range(size)])

    together = runner.infer(tiles, work)

    for index in range(size):
        (alone, _) = runner.infer(tiles[index : index + 1], work)[0]
        assert np.abs(together[index][0].astype(int) - alone).max() <= 1


def test_prepare_and_postprocess_are_the_inverse_of_each_other_in_shape(runner: SuperResolution) -> None:
    from penstock.core.request import OutputOptions

    out = io.BytesIO()
    Image.new("RGBA", (70, 33), (200, 10, 10, 128)).save(out, "PNG")
    params = SuperresParams()

    work = runner.prepare(out.getvalue(), params)
    for index in range(work.count):
        work.accept(index, runner.infer(work.tile(index)[None], work)[0])
    product = runner.postprocess(work, params, OutputOptions(format="png"))

    assert (product.width, product.height, product.content_type) == (280, 132, "image/png")
