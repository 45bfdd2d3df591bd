"""From what the driver's tool prints and the settings say to the processes that are started."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from penstock.cli.doctor.devices import check_devices
from penstock.core.device import GPU_SHAPES, TENSORRT_SIDES, Device
from penstock.errors import ConfigurationError
from penstock.settings import Settings, WorkerSettings
from penstock.worker.devices import GPU_RESERVE_BYTES, cgroup, found_again, placements
from tests.support.nvidia_smi import NvidiaSmi, install_gpu_runtime

MIB, GIB = 1024**2, 1024**3
TWO = "0, GPU-aaaa, 16384, [N/A]\n1, GPU-bbbb, 81559, [N/A]\n"
LOST = "0, GPU-aaaa, 16384, Disabled\n1, [GPU is lost], [GPU is lost], [GPU is lost]\n"
LOST_LINE = "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost."
SPLIT = "0, GPU-aaaa, 81559, Enabled\n1, GPU-bbbb, 81559, Disabled\n"
INSTANCES = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aaaa)
  MIG 3g.40gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.10gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-bbbb)
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvidiaSmi:
    """The tool of a host with two GPUs, on which the runtime for GPUs is installed."""
    tool = NvidiaSmi(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tool.directory))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    install_gpu_runtime(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tool.answers(TWO)
    return tool


def devices(**settings: object) -> list[Device]:
    return [place.device for place in placements(WorkerSettings(**settings))]  # type: ignore[arg-type]


def sees(**settings: object) -> Mapping[str, str]:
    """The UUID that each worker sees, by the name of its device."""
    found = placements(WorkerSettings(**settings))  # type: ignore[arg-type]
    return {place.device.name: place.environment["CUDA_VISIBLE_DEVICES"] for place in found}


def test_each_gpu_gets_a_process_that_sees_only_that_one(tool: NvidiaSmi) -> None:
    found = placements(WorkerSettings())

    assert [place.device.name for place in found] == ["cuda:0", "cuda:1"]
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in found] == ["GPU-aaaa", "GPU-bbbb"]
    assert {place.environment["CUDA_DEVICE_ORDER"] for place in found} == {"PCI_BUS_ID"}


def test_no_library_of_a_gpu_may_compute_in_tf32(tool: NvidiaSmi) -> None:
    assert [place.environment["NVIDIA_TF32_OVERRIDE"] for place in placements(WorkerSettings())] == ["0", "0"]
    assert "NVIDIA_TF32_OVERRIDE" not in placements(WorkerSettings(gpu_ids="cpu"))[0].environment


@pytest.mark.parametrize(
    ("gpu_ids", "expected"),
    [
        ("1", {"cuda:1": "GPU-bbbb"}),
        ("GPU-b, 0", {"cuda:1": "GPU-bbbb", "cuda:0": "GPU-aaaa"}),
        ("0x2,1", {"cuda:0.0": "GPU-aaaa", "cuda:0.1": "GPU-aaaa", "cuda:1": "GPU-bbbb"}),
    ],
)
def test_only_the_gpus_that_are_named_are_used(tool: NvidiaSmi, gpu_ids: str, expected: dict[str, str]) -> None:
    assert sees(gpu_ids=gpu_ids) == expected


@pytest.mark.parametrize("gpu_ids", ["0,7", "0,GPU-c", "0,GPU-", "0,MIG-aaaa"])
def test_a_gpu_that_is_not_there_or_not_clear_stops_the_start(tool: NvidiaSmi, gpu_ids: str) -> None:
    name = gpu_ids.partition(",")[2]
    with pytest.raises(ConfigurationError, match=f"no GPU {name} here [(]found: GPU 0, GPU 1[)]"):
        placements(WorkerSettings(gpu_ids=gpu_ids))


def test_a_gpu_that_is_named_in_two_ways_is_refused_with_how_to_share_it(tool: NvidiaSmi) -> None:
    with pytest.raises(ConfigurationError, match=r"names GPU GPU-a twice; for two workers on it write GPU-ax2"):
        placements(WorkerSettings(gpu_ids="0,GPU-a"))


def test_tiles_are_rectangles_and_squares_for_the_engines_of_tensorrt(tool: NvidiaSmi) -> None:
    assert {device.shapes for device in devices()} == {GPU_SHAPES}
    assert {device.shapes for device in devices(tensorrt=True)} == {tuple((side, side) for side in TENSORRT_SIDES)}


def test_workers_on_one_gpu_have_a_share_of_its_memory_each(tool: NvidiaSmi) -> None:
    found = devices(gpu_ids="0x2,1")

    assert [device.share for device in found] == [0.5, 0.5, 1.0]
    assert [device.memory_limit_bytes for device in found] == [
        8192 * MIB - GPU_RESERVE_BYTES,
        8192 * MIB - GPU_RESERVE_BYTES,
        81559 * MIB - GPU_RESERVE_BYTES,
    ]


def test_an_arena_may_take_all_but_what_others_need(tool: NvidiaSmi) -> None:
    assert [d.memory_limit_bytes for d in devices()] == [n * MIB - GPU_RESERVE_BYTES for n in (16384, 81559)]
    assert [d.memory_limit_bytes for d in devices(gpu_memory_bytes=123)] == [123, 123]


def test_what_may_be_page_locked_is_a_part_of_the_memory_of_a_worker(tool: NvidiaSmi) -> None:
    (large, _) = devices(memory_bytes=20 * GIB)
    (small, _) = devices(memory_bytes=2 * GIB)
    (set_, _) = devices(memory_bytes=20 * GIB, pinned_bytes=5 * GIB)
    (too_much, _) = devices(memory_bytes=2 * GIB, pinned_bytes=5 * GIB)
    (cpu,) = devices(memory_bytes=2 * GIB, gpu_ids="cpu")

    assert (large.ram_bytes, large.pinned_bytes) == (18 * GIB, 2 * GIB)
    assert (small.ram_bytes, small.pinned_bytes) == (1.5 * GIB, 0.5 * GIB)
    assert (set_.ram_bytes, set_.pinned_bytes) == (15 * GIB, 5 * GIB)
    assert (too_much.ram_bytes, too_much.pinned_bytes) == (GIB, GIB)
    assert cpu.ram_bytes == 2 * GIB


def test_on_wsl_less_is_page_locked(tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text("Linux version 6.6.87.2-microsoft-standard-WSL2 (root@439a258ad544)\n")
    monkeypatch.setattr("penstock.worker.devices.machine.KERNEL_VERSION", version)

    assert devices(memory_bytes=20 * GIB)[0].pinned_bytes == GIB // 2


@pytest.mark.parametrize("memory", ["[N/A]", "[Insufficient Permissions]", "[Unknown Error]", "512"])
def test_a_gpu_that_does_not_tell_its_memory_or_has_next_to_none_gets_no_limit(tool: NvidiaSmi, memory: str) -> None:
    tool.answers(f"0, GPU-aaaa, {memory}, [N/A]\n")

    assert [d.memory_limit_bytes for d in devices()] == [0]


def test_the_cores_of_the_host_are_divided_among_its_workers(tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(192)))
    monkeypatch.setattr(cgroup, "ROOT", tool.directory)
    tool.answers("".join(f"{n}, GPU-{n}, 81559, Disabled\n" for n in range(8)))

    assert {device.cores for device in devices()} == {24}
    assert {device.cores for device in devices(gpu_ids="0x3")} == {64}
    assert {device.cores for device in devices(gpu_ids="cpu")} == {192}


def test_each_mig_instance_gets_a_process(tool: NvidiaSmi) -> None:
    tool.answers(SPLIT, listing=INSTANCES)
    large, small = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"

    assert sees() == {"cuda:0.mig0": large, "cuda:0.mig1": small, "cuda:1": "GPU-bbbb"}
    assert sees(gpu_ids="0") == {"cuda:0.mig0": large, "cuda:0.mig1": small}
    assert sees(gpu_ids="MIG-cb,1") == {"cuda:0.mig1": small, "cuda:1": "GPU-bbbb"}
    assert {device.memory_limit_bytes for device in devices(gpu_ids="0")} == {0}, "only CUDA knows that of an instance"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", ["GPU-bbbb"]),
        ("1,0", ["GPU-bbbb", "GPU-aaaa"]),
        ("GPU-b", ["GPU-bbbb"]),
        ("0,-1,1", ["GPU-aaaa"]),
        ("1,7,0", ["GPU-bbbb"]),
        ("0,0", ["GPU-aaaa"]),
    ],
)
def test_auto_uses_what_cuda_would_see(
    tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert list(sees().values()) == expected
    assert sees(gpu_ids="0") == {"cuda:0": "GPU-aaaa"}, "numbers are the driver's"


@pytest.mark.parametrize("visible", ["", "-1", "GPU-", "7,0", "MIG-c6d4"])
def test_auto_says_so_when_nothing_is_visible(tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    with pytest.raises(ConfigurationError, match=rf'CUDA_VISIBLE_DEVICES="{visible}" names no GPU .* GPU_IDS=cpu'):
        placements(WorkerSettings())


def test_auto_uses_a_visible_mig_instance(tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch) -> None:
    tool.answers(SPLIT, listing=INSTANCES)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-c6d4")

    assert list(sees()) == ["cuda:0.mig0"]


@pytest.mark.parametrize("lost_row", ["1, [GPU is lost], [GPU is lost], [GPU is lost]\n", f"{LOST_LINE}\n"])
@pytest.mark.parametrize("settings", [{"gpu_ids": "GPU-bbbb,GPU-aaaa"}, {"visible": "GPU-bbbb,GPU-aaaa"}])
def test_a_lost_gpu_that_is_named_by_its_uuid_does_not_stop_the_others(
    tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch, lost_row: str, settings: dict[str, str]
) -> None:
    if visible := settings.get("visible"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    worker = WorkerSettings(gpu_ids=settings.get("gpu_ids", "auto"))
    tool.answers(f"{TWO.splitlines()[0]}\n{lost_row}", status=15)
    (lost, well) = placements(worker)
    tool.answers(TWO)
    back = found_again(worker, lost, {well.device.name})

    assert (well.environment["CUDA_VISIBLE_DEVICES"], well.lost) == ("GPU-aaaa", "")
    assert lost.lost.startswith("GPU is lost")
    assert back.environment["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"


def test_a_lost_gpu_whose_number_is_not_known_does_not_hide_those_that_are_visible_after_it(
    tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.answers(f"{TWO.splitlines()[0]}\n{LOST_LINE}\n", status=15)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")

    assert {place.device.name: place.lost for place in placements(WorkerSettings())} == {
        "cuda:0000:3B:00.0": "GPU is lost.",
        "cuda:0": "",
    }


def test_a_lost_gpu_has_a_place_until_it_is_back(tool: NvidiaSmi) -> None:
    tool.answers(LOST)
    well, lost = placements(WorkerSettings())
    taken = {well.device.name}
    with pytest.raises(ConfigurationError, match="GPU is lost"):
        found_again(WorkerSettings(), lost, taken)
    tool.answers(TWO)
    back = found_again(WorkerSettings(), lost, taken)

    assert (well.lost, lost.lost) == ("", "GPU is lost")
    assert (back.device.name, back.environment["CUDA_VISIBLE_DEVICES"], back.lost) == ("cuda:1", "GPU-bbbb", "")


def test_a_lost_gpu_without_a_number_takes_the_place_that_nobody_else_has(tool: NvidiaSmi) -> None:
    tool.answers(f"{TWO.splitlines()[0]}\n{LOST_LINE}\n", status=15)
    (well, lost) = placements(WorkerSettings(gpu_ids="0,1"))
    tool.answers(TWO)
    back = found_again(WorkerSettings(), lost, {well.device.name})

    assert lost.device.name == back.device.name == "cuda:0000:3B:00.0"
    assert back.environment["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"


def test_doctor_warns_of_a_lost_gpu_and_fails_when_none_can_be_used(tool: NvidiaSmi) -> None:
    tool.answers("0, [GPU is lost], [GPU is lost], [GPU is lost]\n1, GPU-bbbb, 81559, Disabled\n")
    lost = next(check_devices(Settings()))
    tool.answers("Failed to initialize NVML: Driver/library version mismatch\n", status=18)
    (none,) = check_devices(Settings())

    assert (lost.state, lost.found) == ("warn", "cuda:0 is lost: GPU is lost")
    assert (none.state, "Driver/library version mismatch" in none.found) == ("fail", True)


def test_gpus_are_left_alone_without_a_runtime_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = NvidiaSmi(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    tool.answers(TWO)

    assert [d.kind for d in devices()] == ["cpu"]
    with pytest.raises(ConfigurationError, match=r"penstock-server\[gpu\]"):
        placements(WorkerSettings(gpu_ids="0"))


def test_doctor_warns_of_gpus_that_what_is_installed_cannot_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = NvidiaSmi(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    tool.answers(TWO)
    used, idle = check_devices(Settings())
    (wanted,) = check_devices(Settings(worker=WorkerSettings(gpu_ids="cpu")))
    tool.program.unlink()
    (without,) = check_devices(Settings())

    assert [finding.state for finding in (used, wanted, without)] == ["ok"] * 3
    assert (idle.state, idle.found) == ("warn", "this machine has an NVIDIA GPU, which is not used")


def test_settings_reach_the_device(tool: NvidiaSmi) -> None:
    (plain, _) = devices()
    (changed, _) = devices(precision="fp32", cuda_graphs=True, max_batch=3)
    (other, _) = devices(tensorrt=True, engine_cache_dir="/cache")

    assert (plain.precision, plain.cuda_graphs, plain.tensorrt) == ("auto", False, False)
    assert (changed.precision, changed.cuda_graphs, changed.batches) == ("fp32", True, (1, 2))
    assert (other.tensorrt, other.engine_cache_dir) == (True, "/cache")


def test_what_is_measured_once_is_kept_where_this_user_keeps_such_things(
    tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert (devices()[0].cuda_options, devices()[0].cache_dir) == ("auto", "/home/me/.cache/penstock")

    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert devices()[0].cache_dir == "/var/cache/me/penstock"
    assert devices(cache_dir="/here", cuda_options="prefer_nhwc")[0].cache_dir == "/here"


def test_a_cpu_is_never_asked_for_what_only_a_gpu_has(tool: NvidiaSmi) -> None:
    (cpu,) = devices(gpu_ids="cpu", cuda_graphs=True, precision="auto")

    assert (cpu.kind, cpu.precision, cpu.cuda_graphs, cpu.tensorrt) == ("cpu", "fp32", False, False)
