"""Which card this is, what its driver and libraries are, and whether a small model runs on it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from penstock.core.device import Device
from penstock.gpu_checks.machine import ask_tool
from penstock.models.onnxruntime.cuda import cuda_runtime
from penstock.models.onnxruntime.identity import MACHINE_CODE
from penstock.models.onnxruntime.probe import probe_device

NUMBERS = {
    "pcie.link.gen.max": "pcie_generation",
    "pcie.link.width.current": "pcie_lanes",
    "power.limit": "power_limit_w",
    "temperature.gpu": "temperature_c",
    "clocks.max.sm": "sm_clock_most_mhz",
    "ecc.errors.uncorrected.volatile.total": "ecc_uncorrected_count",
}
WORDS = {
    "persistence_mode": "persistence_mode",
    "compute_mode": "compute_mode",
    "mig.mode.current": "mig_mode",
    "ecc.mode.current": "ecc_mode",
}
FIELDS = NUMBERS | WORDS
"""What nvidia-smi is asked for -> the name of the figure."""


def who(device: Device, uuid: str) -> Iterator[dict[str, Any]]:
    """Yield what the driver's tool says, then what a first run says, which loads the libraries of CUDA."""
    answer = ask_tool([*FIELDS], uuid)
    yield {"nvidia_smi_s": answer.seconds}
    # An older driver refuses a query with a field that it does not know.
    known = answer.fields or {field: value for f in FIELDS for field, value in ask_tool([f], uuid).fields.items()}
    yield {FIELDS[field]: value for field, value in known.items() if field in WORDS}
    for field, name in NUMBERS.items():
        with suppress(KeyError, ValueError):
            yield {name: float(known[field])}
    probe = probe_device(device)
    yield {"provider": probe.provider, "runtime": probe.runtime}
    yield {"load_s": probe.load_s, "run_ms": probe.run_s * 1000}
    if (card := probe.card) is not None:
        yield {"card": card.name, "compute_capability": card.capability, "has_code": card.has_code}
        yield {"code_for": [f"{major}.{minor}" for major, minor in MACHINE_CODE]}
        yield {"driver": card.driver, "driver_cuda": card.driver_serves, "cuda": card.cuda, "cudnn": card.cudnn}
    if (cuda := cuda_runtime()) is not None:
        memory = cuda.memory()
        yield {"memory_free_mib": memory.free >> 20, "memory_total_mib": memory.total >> 20}
        yield {"memory_free_share": memory.free / memory.total}
