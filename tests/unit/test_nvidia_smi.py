"""Every kind of answer of `nvidia-smi`, by a program of this name, and what becomes of it with `GPU_IDS=auto`."""

from pathlib import Path
from typing import NamedTuple

import pytest

from penstock.errors import ConfigurationError
from penstock.settings import WorkerSettings
from penstock.worker.devices import nvidia_smi as driver
from penstock.worker.devices import placements
from tests.support.nvidia_smi import NvidiaSmi, install_gpu_runtime

FIRST, SECOND = "0, GPU-aaaa, 81559, Disabled\n", "1, GPU-bbbb, 81559, Disabled\n"
LOST_LINE = "Unable to determine the device handle for GPU0000:3B:00.0: GPU is lost.  Reboot the system.\n"
INSTANCE = "  MIG 1g.10gb     Device  0: (UUID: MIG-c6d4f1ef)\n"


class Kind(NamedTuple):
    """What the tool answers, and the expected outcome: devices, with the trouble of those that are lost, or words of
    the error."""

    rows: str
    status: int = 0
    listing: str = ""
    devices: dict[str, str] | None = None
    error: str = ""


KINDS = {
    "one GPU": Kind(FIRST, devices={"cuda:0": ""}),
    "two GPUs": Kind(FIRST + SECOND, devices={"cuda:0": "", "cuda:1": ""}),
    "the row of a lost GPU": Kind(
        FIRST + "1, [GPU is lost], [GPU is lost], [GPU is lost]\n",
        devices={"cuda:0": "", "cuda:1": "GPU is lost"},
    ),
    "the row of an unknown error": Kind(
        "0, [Unknown Error], [Unknown Error], [Unknown Error]\n" + SECOND,
        devices={"cuda:0": "Unknown Error", "cuda:1": ""},
    ),
    "15 with rows": Kind(
        FIRST + LOST_LINE,
        15,
        devices={"cuda:0": "", "cuda:0000:3B:00.0": "GPU is lost.  Reboot the system."},
    ),
    "15 without rows, and the list knows the others": Kind(
        LOST_LINE,
        15,
        listing="GPU 0: NVIDIA A100 (UUID: GPU-aaaa)\n" + LOST_LINE,
        devices={"cuda:0": "", "cuda:0000:3B:00.0": "GPU is lost.  Reboot the system."},
    ),
    "15 without rows": Kind(
        LOST_LINE, 15, error=r'GPU 0000:3B:00.0: GPU is lost.*ends with status 15 and says "Unable.*look for Xid'
    ),
    "14 with rows": Kind(FIRST + "WARNING: infoROM is corrupted at gpu 0000:00:1E.0\n", 14, devices={"cuda:0": ""}),
    "18, another version of the driver": Kind(
        "Failed to initialize NVML: Driver/library version mismatch\n",
        18,
        error=r'status 18 and says "Failed to initialize NVML: Driver/library version mismatch": .*reboot',
    ),
    "9, no driver": Kind(
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        9,
        error=r'status 9 and says "NVIDIA-SMI has failed .*the driver is not loaded',
    ),
    "12, no library": Kind("NVIDIA-SMI couldn't find libnvidia-ml.so library\n", 12, error="status 12 .*utility"),
    "no rows": Kind("No devices were found\n", error='lists no GPU and says "No devices were found"'),
    "nothing": Kind("", error="nvidia-smi lists no GPU; mend that"),
    "MIG": Kind(
        "0, GPU-aaaa, 81559, Enabled\n" + SECOND,
        listing=f"GPU 0: A100 (UUID: GPU-aaaa)\n{INSTANCE}GPU 1: A100 (UUID: GPU-bbbb)\n",
        devices={"cuda:0.mig0": "", "cuda:1": ""},
    ),
    "MIG in a container": Kind(
        "0, GPU-aaaa, [Insufficient Permissions], Enabled\n",
        listing=f"GPU 0: A100 (UUID: GPU-aaaa)\n{INSTANCE}",
        devices={"cuda:0.mig0": ""},
    ),
    "MIG without instances": Kind(
        "0, GPU-aaaa, 81559, Enabled\n",
        listing="GPU 0: A100 (UUID: GPU-aaaa)\n",
        error="GPU 0: MIG is on and it has no",
    ),
    "no permission for the memory": Kind("0, GPU-aaaa, [Insufficient Permissions], [N/A]\n", devices={"cuda:0": ""}),
    "shared memory (GB10, Jetson)": Kind("0, GPU-aaaa, [N/A], [N/A]\n", devices={"cuda:0": ""}),
    "lines that end as on Windows (WSL)": Kind("0, GPU-aaaa, 24564, [N/A]\r\n", devices={"cuda:0": ""}),
}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvidiaSmi:
    tool = NvidiaSmi(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tool.directory))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    install_gpu_runtime(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tool


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_answer_has_its_outcome(tool: NvidiaSmi, kind: str) -> None:
    answer = KINDS[kind]
    tool.answers(answer.rows, status=answer.status, listing=answer.listing)

    if answer.error:
        with pytest.raises(ConfigurationError, match=rf"auto finds no GPU.*{answer.error}.*GPU_IDS=cpu"):
            placements(WorkerSettings())
    else:
        assert {place.device.name: place.lost for place in placements(WorkerSettings())} == answer.devices


def test_a_missing_tool_is_no_reason_to_use_the_cpu(tool: NvidiaSmi) -> None:
    tool.program.unlink()
    with pytest.raises(ConfigurationError, match=r"neither on the PATH nor in /usr/lib/wsl/lib.*Toolkit.*GPU_IDS=cpu"):
        placements(WorkerSettings())


def test_the_tool_of_windows_is_found_where_the_path_lacks_it(tool: NvidiaSmi, monkeypatch: pytest.MonkeyPatch) -> None:
    tool.answers(FIRST)
    monkeypatch.setattr(driver, "WSL_FOLDER", str(tool.directory))
    monkeypatch.setenv("PATH", "/nowhere")

    assert [place.device.name for place in placements(WorkerSettings())] == ["cuda:0"]


def test_a_slow_answer_is_waited_for_and_a_silent_tool_is_not_waited_for_for_ever(tool: NvidiaSmi) -> None:
    tool.answers(FIRST, after_s=0.3)
    assert [gpu.uuid for gpu in driver.list_gpus().gpus] == ["GPU-aaaa"]
    tool.answers(FIRST, after_s=60)
    silent = driver.list_gpus(patience_s=0.3)

    assert driver.PATIENCE_S >= 60
    assert silent.gpus == ()
    assert "no answer within 0.3 s: turn persistence mode on" in silent.problem


def test_a_tool_that_cannot_be_run_is_named(tool: NvidiaSmi) -> None:
    tool.program.write_text("#!/no/such/interpreter\n")

    with pytest.raises(ConfigurationError, match=r"nvidia-smi cannot be run: No such file"):
        placements(WorkerSettings())
