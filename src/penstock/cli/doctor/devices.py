"""Tries the devices of this host, each in a process of its own."""

import subprocess
from collections.abc import Iterator

import msgspec

from penstock.cli.doctor.findings import CheckResult, fail, ok, warn
from penstock.errors import ConfigurationError
from penstock.local.children import python
from penstock.models.onnxruntime.identity import CardIdentity
from penstock.models.onnxruntime.probe import DeviceProbe
from penstock.settings import Settings, clean_environment, environment_of
from penstock.worker.devices import Placement, placements
from penstock.worker.devices.nvidia_smi import list_gpus

DEVICE_WITHIN_S = 120.0

UNUSED_WITHIN_S = 10.0
"""How long `nvidia-smi` may take to list a GPU that the installed runtime cannot use."""

UNUSED = "install penstock-server[gpu] in an environment of its own, see docs/how-to/tune-a-gpu.md; or set GPU_IDS=cpu"

WANTED = "set GPU_IDS to auto, cpu, or GPUs that are there"


def check_devices(settings: Settings) -> Iterator[CheckResult]:
    try:
        places = placements(settings.worker)
    except ConfigurationError as error:
        found, _, advice = str(error).rpartition("; ")
        yield fail("device", found or advice, advice if found else WANTED)
        return
    for place in places:
        yield _lost(place) if place.lost else _device(place, settings)
    by_itself = settings.worker.gpu_ids == "auto" and places[0].device.kind == "cpu"
    if by_itself and list_gpus(patience_s=UNUSED_WITHIN_S).gpus:
        yield warn("gpu", "this machine has an NVIDIA GPU, which is not used", UNUSED)


def _lost(place: Placement) -> CheckResult:
    advice = "look for Xid in the output of dmesg, then reset the GPU or reboot; the others serve meanwhile"
    return warn("device", f"{place.device.name} is lost: {place.lost}", advice)


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
        f"{trial.device}{_named(trial.card)} by {trial.provider} of ONNX Runtime {trial.runtime}: "
        f"a small model loads in {trial.load_s:.1f} s and runs in {trial.run_s * 1000:.0f} ms"
    )
    return ok("device", found)


def _named(card: CardIdentity | None) -> str:
    """What a card is, and the versions of what drives it; empty for a CPU."""
    if card is None:
        return ""
    driver = f"driver {card.driver or '?'}" + (f" for CUDA up to {card.driver_serves}" if card.driver_serves else "")
    size = f"{card.memory_bytes / 2**30:.1f} GiB"
    return (
        f", {card.name} with {size} and compute capability {card.capability}, {driver}, CUDA {card.cuda}, "
        f"cuDNN {card.cudnn or '?'},"
    )
