"""From what the driver's tool prints and the settings say to the processes that are started."""

import sys
from pathlib import Path

import pytest

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.settings import WorkerSettings
from penstock.worker.devices import GPU_RESERVE_BYTES, placements

MIB, GIB = 1024**2, 1024**3
TWO = "0, GPU-aaaa, 16384\n1, GPU-bbbb, 81559\n"


def tool(directory: Path, prints: str, status: int = 0) -> None:
    """A program called nvidia-smi that prints this when it is asked what we ask."""
    script = directory / "nvidia-smi"
    script.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "assert sys.argv[1:] == ['--query-gpu=index,uuid,memory.total', '--format=csv,noheader,nounits']\n"
        f"sys.stdout.write({prints!r})\nsys.exit({status})\n"
    )
    script.chmod(0o755)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a driver, on which the runtime for GPUs is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    info = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    tool(tmp_path, TWO)
    return tmp_path


def devices(**settings: object) -> list[Device]:
    return [place.device for place in placements(WorkerSettings(**settings))]  # type: ignore[arg-type]


def test_each_gpu_gets_a_process_that_sees_only_that_one(host: Path) -> None:
    found = placements(WorkerSettings())

    assert [place.device.name for place in found] == ["cuda:0", "cuda:1"]
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in found] == ["GPU-aaaa", "GPU-bbbb"]
    assert {place.environment["CUDA_DEVICE_ORDER"] for place in found} == {"PCI_BUS_ID"}


def test_only_the_gpus_that_are_named_are_used(host: Path) -> None:
    assert [device.name for device in devices(gpu_ids="1")] == ["cuda:1"]


def test_a_gpu_that_is_not_there_stops_the_start(host: Path) -> None:
    with pytest.raises(ConfigurationError, match="no GPU 7"):
        placements(WorkerSettings(gpu_ids="0,7"))


def test_an_arena_may_take_all_but_what_others_need(host: Path) -> None:
    assert [d.memory_limit_bytes for d in devices()] == [n * MIB - GPU_RESERVE_BYTES for n in (16384, 81559)]
    assert [d.memory_limit_bytes for d in devices(gpu_memory_bytes=123)] == [123, 123]


def test_what_may_be_page_locked_is_a_part_of_the_memory_of_a_worker(host: Path) -> None:
    (large, _) = devices(memory_bytes=20 * GIB)
    (small, _) = devices(memory_bytes=2 * GIB)
    (set_, _) = devices(memory_bytes=20 * GIB, pinned_bytes=5 * GIB)
    (cpu,) = devices(memory_bytes=2 * GIB, gpu_ids="cpu")

    assert (large.ram_bytes, large.pinned_bytes) == (18 * GIB, 2 * GIB)
    assert (small.ram_bytes, small.pinned_bytes) == (1.5 * GIB, 0.5 * GIB)
    assert (set_.ram_bytes, set_.pinned_bytes) == (15 * GIB, 5 * GIB)
    assert cpu.ram_bytes == 2 * GIB


def test_on_wsl_less_is_page_locked(host: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text("Linux version 6.6.87.2-microsoft-standard-WSL2 (root@439a258ad544)\n")
    monkeypatch.setattr("penstock.worker.devices.KERNEL_VERSION", version)

    assert devices(memory_bytes=20 * GIB)[0].pinned_bytes == GIB // 2


@pytest.mark.parametrize("memory", ["[N/A]", "[Insufficient Permissions]", "512"])
def test_a_gpu_that_does_not_tell_its_memory_or_has_next_to_none_gets_no_limit(host: Path, memory: str) -> None:
    tool(host, f"0, GPU-aaaa, {memory}\n")

    assert [d.memory_limit_bytes for d in devices()] == [0]


def test_a_driver_that_answers_nothing_of_use_means_no_gpu(host: Path) -> None:
    for prints, status in (("", 0), ("No devices were found\n", 0), ("NVIDIA-SMI has failed, ...\n", 9)):
        tool(host, prints, status)
        assert [d.kind for d in devices()] == ["cpu"]


def test_gpus_are_left_alone_without_a_runtime_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tool(tmp_path, TWO)

    assert [d.kind for d in devices()] == ["cpu"]
    with pytest.raises(ConfigurationError, match=r"penstock-server\[gpu\]"):
        placements(WorkerSettings(gpu_ids="0"))


def test_settings_reach_the_device(host: Path) -> None:
    (plain, _) = devices()
    (changed, _) = devices(precision="fp32", cuda_graphs=True, max_batch=3)
    (other, _) = devices(tensorrt=True, engine_cache_dir="/cache")

    assert (plain.precision, plain.bound, plain.cuda_graphs, plain.tensorrt) == ("auto", True, False, False)
    assert (changed.precision, changed.cuda_graphs, changed.batches) == ("fp32", True, (1, 2))
    assert (other.tensorrt, other.engine_cache_dir) == (True, "/cache")


def test_a_cpu_is_never_asked_for_what_only_a_gpu_has(host: Path) -> None:
    (cpu,) = devices(gpu_ids="cpu", cuda_graphs=True, precision="auto")

    assert (cpu.kind, cpu.precision, cpu.bound, cpu.cuda_graphs, cpu.tensorrt) == ("cpu", "fp32", False, False, False)
