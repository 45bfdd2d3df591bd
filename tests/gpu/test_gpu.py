"""What only a CUDA device can show: that it is really used, and that every way through it gives the same values."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.models.base import Interrupted
from penstock.models.onnxruntime.bindings import EagerRun, GraphRun
from penstock.models.onnxruntime.cuda import cuda_runtime
from penstock.models.onnxruntime.memory import Blocks, CudaLock
from penstock.models.onnxruntime.precision import check_images, largest_difference, open_session
from penstock.models.onnxruntime.session import Session, half, manifest
from penstock.worker.devices import cpu

pytestmark = pytest.mark.gpu

GENERAL = manifest("cuda")["superres-x4", "general"]
CLEAN = manifest("cuda")["superres-x4", "clean"]
NIMA = manifest("cuda")["image-scoring-v1", "nima"]
SIDE = (224, 224)

MIB = 1024**2

Pixels = NDArray[np.uint8]
LEVEL = 1 / 255
"""What is on the edge between two levels may fall on either side."""


def tiles(batch: int, side: int, seed: int = 0) -> Pixels:
    photo = check_images(side, side)[0]
    return np.stack([np.roll(photo, 17 * (seed + n), axis=1) for n in range(batch)])


def off(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    """The largest difference, of levels as a share of 255."""
    difference = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
    return difference / 255 if ours.dtype == np.uint8 else difference


def in_a_fresh_process(program: str, gpu: Device, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a program that finds the device as `gpu`. What the sessions of a process share belongs to its first one."""
    before = (
        "import msgspec, sys\n"
        "from penstock.core.device import Device\n"
        "from penstock.models.onnxruntime.session import Session, manifest\n"
        "gpu = msgspec.json.decode(sys.argv[1], type=Device)\n"
    )
    argv = [sys.executable, "-c", before + program, msgspec.json.encode(gpu).decode()]
    return subprocess.run(argv, env=os.environ | environ, capture_output=True, text=True, timeout=120, check=False)


# --- the device that is used ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [GENERAL, CLEAN, NIMA, half(GENERAL)], ids=lambda f: f.file)
def test_every_file_is_wholly_placed_on_the_gpu(gpu: Device, file: object) -> None:
    session = Session(file, gpu, [SIDE])._sessions._spare  # type: ignore[arg-type,attr-defined]

    assert session.get_providers()[0] == "CUDAExecutionProvider"
    assert {part.ep_name for part in session.get_provider_graph_assignment_info()} == {"CUDAExecutionProvider"}


@pytest.mark.parametrize("visible", ["GPU-00000000-0000-0000-0000-000000000000", ""])
def test_a_gpu_that_is_not_there_is_refused(gpu: Device, visible: str) -> None:
    answer = in_a_fresh_process(
        "Session(manifest('cuda')['superres-x4', 'clean'], gpu)", gpu, CUDA_VISIBLE_DEVICES=visible
    )

    assert answer.returncode != 0
    assert ConfigurationError.__name__ in answer.stderr


def test_host_memory_can_be_page_locked(gpu: Device) -> None:
    Session(NIMA, gpu, [SIDE])  # brings the CUDA runtime
    pages = CudaLock(64 * MIB)

    array = Blocks(pages).take((16 * MIB,), np.uint8)

    assert pages.locked_bytes == array.nbytes


# --- values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "variant"), sorted(manifest()))
def test_a_gpu_gives_the_pixels_and_scores_of_the_cpu(gpu: Device, model: str, variant: str) -> None:
    given = tiles(2, SIDE[0])

    on_gpu = Session(manifest("cuda")[model, variant], gpu, [SIDE]).run(given)
    on_cpu = Session(manifest("cpu")[model, variant], cpu()).run(given)

    if variant == "nima":
        assert all(off(ours, theirs) < 0.001 for ours, theirs in zip(on_gpu, on_cpu, strict=True))
    else:
        assert off(on_gpu[0], on_cpu[0]) < 1.5 * LEVEL
        assert on_gpu[1] == pytest.approx(on_cpu[1], rel=1e-3)


@pytest.mark.parametrize("pattern", [1, 2], ids=["stripes", "dots"])
def test_clean_does_not_run_in_tf32(gpu: Device, pattern: int) -> None:
    """SPAN multiplies such patterns' rounding errors: two runtimes in fp32 are 0.07 apart, TF32 is 1 away."""
    given = check_images(128, 128)[pattern][None]

    assert off(Session(CLEAN, gpu).run(given)[0], Session(CLEAN, cpu()).run(given)[0]) < 0.25


def test_two_threads_whose_copies_and_runs_overlap_get_their_own_results(gpu: Device) -> None:
    session = Session(GENERAL, gpu)
    given = [tiles(4, 256, seed) for seed in range(2)]
    wanted = [session.run(batch)[0] for batch in given]

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(session.run, given[n % 2]) for n in range(40)]

    for n, run in enumerate(runs):
        np.testing.assert_array_equal(run.result()[0], wanted[n % 2])


def test_a_result_is_not_touched_by_later_runs(gpu: Device) -> None:
    session = Session(GENERAL, gpu)
    session.run(tiles(2, 256))

    held = session.run(tiles(2, 256, seed=1))[0][1]
    before = held.copy()
    for seed in range(2, 8):
        session.run(tiles(2, 256, seed))

    np.testing.assert_array_equal(held, before)


def test_fp16_is_within_its_tolerance_on_this_gpu(gpu: Device) -> None:
    twin = half(GENERAL)
    assert twin is not None

    difference = largest_difference(Session(GENERAL, gpu), Session(twin, gpu), (128, 128))
    print(f"\nfp16 against fp32, superres-x4 general: {difference:.5f}, tolerance {twin.tolerance}")

    assert 0 < difference <= twin.tolerance
    assert open_session(GENERAL, replace(gpu, precision="auto")).file is twin


@pytest.mark.parametrize("file", [GENERAL, half(GENERAL), CLEAN], ids=lambda f: f.file)
def test_a_cuda_graph_gives_what_an_eager_run_gives(gpu: Device, file: object) -> None:
    graphs = Session(file, replace(gpu, cuda_graphs=True))  # type: ignore[arg-type]
    eager = Session(file, gpu)  # type: ignore[arg-type]

    for side, batch, seed in [(128, 1, 0), (128, 1, 1), (192, 2, 2), (128, 1, 3), (1024, 1, 4), (192, 2, 5)]:
        given = tiles(batch, side, seed)
        assert off(graphs.run(given)[0], eager.run(given)[0]) < 1.5 * LEVEL
    modes = {shape[1:]: mode for shape, mode in graphs._sessions._modes.items()}  # type: ignore[attr-defined]
    assert isinstance(modes[1, 128, 128, 3], GraphRun)
    assert isinstance(modes[1, 1024, 1024, 3], EagerRun)


def test_a_cuda_graph_of_several_outputs_gives_all_of_them(gpu: Device) -> None:
    graphs, eager = Session(NIMA, replace(gpu, cuda_graphs=True), [SIDE]), Session(NIMA, gpu, [SIDE])

    for seed in range(3):
        given = tiles(2, SIDE[0], seed)
        for ours, theirs in zip(graphs.run(given), eager.run(given), strict=True):
            assert off(ours, theirs) < 1e-3


def test_tensorrt_gives_what_cuda_gives_and_keeps_its_engine(gpu: Device, tmp_path: Path) -> None:
    by_tensorrt = replace(gpu, tensorrt=True, engine_cache_dir=str(tmp_path), sides=(128,), batches=(1, 2))
    try:
        session = Session(CLEAN, by_tensorrt)
    except ConfigurationError as reason:
        pytest.skip(f"TensorRT 10 cannot be used: {reason}")
    given = tiles(2, 128)

    assert off(session.run(given)[0], Session(CLEAN, gpu).run(given)[0]) < 2.5 * LEVEL
    assert list(tmp_path.rglob("*.engine"))


# --- faults ---------------------------------------------------------------------------------------------------


def test_a_batch_beyond_the_limit_is_out_of_memory_and_a_small_one_still_runs(gpu: Device) -> None:
    answer = in_a_fresh_process(
        "import numpy as np\n"
        "from penstock.errors import DeviceOutOfMemory\n"
        "session = Session(manifest('cuda')['superres-x4', 'general'], gpu)\n"
        "try:\n"
        "    session.run(np.zeros((8, 512, 512, 3), np.uint8))\n"
        "except DeviceOutOfMemory:\n"
        "    print(session.run(np.zeros((1, 128, 128, 3), np.uint8))[0].shape)\n",
        replace(gpu, memory_limit_bytes=256 * MIB),
    )

    assert answer.stdout.splitlines()[-1:] == ["(1, 512, 512, 3)"], answer.stderr


def test_a_run_can_be_stopped_and_the_session_lives_on(gpu: Device) -> None:
    session = Session(GENERAL, gpu)
    stopped = threading.Event()

    def stop() -> None:
        while not stopped.wait(0.001):
            session.interrupt("me")

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        with pytest.raises(Interrupted):
            run_often(session, "me")
    finally:
        stopped.set()
        thread.join()

    assert session.run(tiles(1, 128))[0].shape == (1, 512, 512, 3)


def run_often(session: Session, owner: str) -> None:
    for _ in range(100):
        session.run(tiles(8, 512), owner=owner)


def test_memory_of_the_gpu_does_not_grow_from_run_to_run(gpu: Device) -> None:
    session = Session(GENERAL, gpu)
    for side in (512, 128, 256):
        session.run(tiles(4, side))
    before = used_bytes()

    for _ in range(20):
        for side in (512, 128, 256):
            session.run(tiles(4, side))

    assert used_bytes() - before < 64 * MIB


def used_bytes() -> int:
    cuda = cuda_runtime()
    assert cuda is not None
    memory = cuda.memory()
    return memory.total - memory.free
