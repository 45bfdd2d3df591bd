"""Tries the devices of this host, each in a process of its own."""

import subprocess
from collections.abc import Iterator

import msgspec

from penstock.cli.doctor.findings import CheckResult, fail, ok
from penstock.errors import ConfigurationError
from penstock.local.supervisor import python
from penstock.models.onnxruntime.probe import DeviceProbe
from penstock.settings import Settings, clean_environment, environment_of
from penstock.worker.devices import Placement, placements

DEVICE_WITHIN_S = 120.0


def check_devices(settings: Settings) -> Iterator[CheckResult]:
    try:
        places = placements(settings.worker)
    except ConfigurationError as error:
        yield fail("device", str(error), "set GPU_IDS to auto, cpu, or numbers that are there")
        return
    for place in places:
        yield _device(place, settings)


def _device(place: Placement, settings: Settings) -> CheckResult:
    """Tries the device in a new process: which devices a process sees is decided by its environment, as for workers."""
    environment = clean_environment() | environment_of(settings) | place.environment
    argv = python("try-device", "--device", msgspec.json.encode(place.device).decode())
    try:
        tried = subprocess.run(argv, env=environment, capture_output=True, timeout=DEVICE_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        found = f"{place.device.name}: a small model does not run within {DEVICE_WITHIN_S:g} s"
        return fail("device", found, "see whether the driver answers: nvidia-smi")
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {tried.returncode}"]
        why = said[-1].removeprefix("penstock: ")
        return fail("device", f"{place.device.name}: {why}", "see docs/how-to/tune-a-gpu.md, or set GPU_IDS=cpu")
    trial = msgspec.json.decode(tried.stdout, type=DeviceProbe)
    found = (
        f"{trial.device} by {trial.provider} of ONNX Runtime {trial.runtime}: "
        f"a small model loads in {trial.load_s:.1f} s and runs in {trial.run_s * 1000:.0f} ms"
    )
    return ok("device", found)
