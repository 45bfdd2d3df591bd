"""`penstock doctor` with and without `--gpu`, on a card that copies memory and computes nothing."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.gpu_checks.table import CHECKS
from penstock.settings import clean_environment
from tests.standin.card import Card
from tests.support.nvidia_smi import NvidiaSmi


@pytest.fixture
def environment(card: Card, tmp_path: Path) -> dict[str, str]:
    tool = NvidiaSmi(tmp_path / "bin")
    tool.lists("GPU-aaaa", memory_mib=15360, name="Stand-in", power_limit="70.00")
    return clean_environment() | tool.environment() | {"COLUMNS": "80", "PENSTOCK_WORKER_CUDA_OPTIONS": "none"}


def doctor(card: Card, environment: dict[str, str], *arguments: str, **faults: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [card.python, "-m", "penstock", "doctor", *arguments],
        env=environment | card.variables(**faults),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def reports(card: Card, environment: dict[str, str], *checks: str, **faults: Any) -> dict[str, dict[str, Any]]:
    done = doctor(card, environment, "--gpu", "--json", *checks, **faults)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["check"] for line in lines] == list(checks), done.stdout + done.stderr
    return {line["check"]: line for line in lines}


@pytest.mark.at_length
def test_each_line_has_all_that_is_needed_to_compare_two_cards(card: Card, environment: dict[str, str]) -> None:
    found = reports(card, environment, "who", "copies")

    for report in found.values():
        machine = report["machine"]
        assert (machine["card"], machine["uuid"], machine["memory_mib"]) == ("Stand-in", "GPU-aaaa", 15360)
        assert machine["packages"]["onnxruntime-gpu"]
        assert machine["date"]
        assert machine["device"]["batches"] == [1, 2, 4, 8]
        assert report["seconds"] < report["limit_s"]
    assert found["who"]["figures"]["provider"] == "CUDAExecutionProvider"
    assert found["who"]["figures"]["power_limit_w"] == 70
    assert found["copies"]["figures"]["down_mib"] > found["copies"]["figures"]["up_mib"] > 0


@pytest.mark.at_length
def test_a_card_that_computes_nothing_is_not_right(card: Card, environment: dict[str, str]) -> None:
    report = reports(card, environment, "right")["right"]

    assert report["state"] == "fail"
    assert report["figures"]["worst_general_levels"] > 100
    assert len(report["misses"]) == 1, "one cause, and not each of its effects"


@pytest.mark.at_length
@pytest.mark.timeout(600)
@pytest.mark.parametrize("check", [check for check in CHECKS if check != "start"])
def test_every_check_comes_to_its_end(card: Card, environment: dict[str, str], check: str) -> None:
    report = reports(card, environment, check, answers=True)[check]

    assert "error" not in report["figures"], report["figures"]["error"]
    assert len(report["figures"]) >= 3
    assert report["found"]


@pytest.mark.at_length
def test_a_server_that_does_not_start_says_why(card: Card, environment: dict[str, str]) -> None:
    """Its worker refuses a card whose values are wrong, in the warm-up at the latest."""
    report = reports(card, environment, "start", answers=True)["start"]

    assert report["state"] == "fail"
    assert "the device computes wrong values" in report["figures"]["error"]


def test_a_card_without_code_is_named_with_those_that_have_some(card: Card, environment: dict[str, str]) -> None:
    report = reports(card, environment, "who", cc=70, launch=209)["who"]

    assert report["state"] == "fail"
    assert "compute capability 7.5, 8.0" in report["figures"]["error"]
    assert "7.0" in report["figures"]["error"]
    assert report["figures"]["nvidia_smi_s"] > 0, "what was measured before it broke is kept"


def test_the_table_fits_eighty_columns(card: Card, environment: dict[str, str]) -> None:
    done = doctor(card, environment, "--gpu", "who")

    assert done.returncode == 0, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Stand-in" in done.stdout
    assert "cuDNN 9.28.1" in " ".join(done.stdout.split())


def test_ctrl_c_ends_the_check_that_runs(card: Card, environment: dict[str, str]) -> None:
    argv = [card.python, "-m", "penstock", "doctor", "--gpu", "stages"]
    process = subprocess.Popen(argv, env=environment | card.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    running: list[str] = []
    until(lambda: bool(running.extend(checks_among(children.read_text().split())) or running))

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert b"stopped" in err
    until(lambda: checks_among(running) == [])  # at the latest the kernel ends it, when its parent has ended


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.at_length)])
def test_a_server_that_was_started_for_a_check_is_removed_with_all_its_files(
    card: Card, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory, number: signal.Signals
) -> None:
    files = tmp_path_factory.mktemp("up")  # the path of a socket must be short
    environment |= card.variables(answers=True) | {"TMPDIR": str(files)}
    argv = [card.python, "-m", "penstock", "doctor", "--gpu", "start"]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: bool(list(files.glob("*/data/*"))))

    process.send_signal(number)
    process.communicate(timeout=60)

    assert process.returncode == 130
    until(lambda: list(files.iterdir()) == [])


def until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def checks_among(pids: list[str]) -> list[str]:
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in pids}
    return [pid for pid, command in commands.items() if command.exists() and b"gpu-check" in command.read_bytes()]


def test_doctor_names_the_card_and_what_drives_it(card: Card, environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"PENSTOCK_STORAGE_DIRECTORY": str(tmp_path)}

    lines = doctor(card, environment, "--json", answers=True).stdout.splitlines()
    device = next(found for found in map(json.loads, lines) if found["check"] == "device")

    assert device["state"] == "ok", device
    assert "compute capability 8.6" in device["found"]
    assert "CUDA 13.0, cuDNN 9.28.1" in device["found"]


def test_doctor_says_what_the_tool_of_the_driver_says(card: Card, environment: dict[str, str], tmp_path: Path) -> None:
    tool = NvidiaSmi(tmp_path / "broken")
    tool.answers("Failed to initialize NVML: Driver/library version mismatch", status=18)
    environment |= tool.environment() | {"PENSTOCK_STORAGE_DIRECTORY": str(tmp_path)}

    lines = doctor(card, environment, "--json").stdout.splitlines()
    device = next(found for found in map(json.loads, lines) if found["check"] == "device")
    checks = doctor(card, environment, "--gpu")

    assert device["state"] == "fail"
    assert "version mismatch" in device["found"]
    assert "GPU_IDS=cpu" in device["advice"]
    assert checks.returncode == 1
    assert "version mismatch" in " ".join(checks.stdout.split())
