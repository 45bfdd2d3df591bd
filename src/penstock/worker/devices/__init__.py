"""The devices of this host, and one placement for each of its workers."""

from penstock.core.device import CPU_SIDES
from penstock.worker.devices.machine import cores, memory
from penstock.worker.devices.placements import (
    GPU_RESERVE_BYTES,
    GPU_VARIABLES,
    Placement,
    cpu,
    found_again,
    placements,
)

__all__ = [
    "CPU_SIDES",
    "GPU_RESERVE_BYTES",
    "GPU_VARIABLES",
    "Placement",
    "cores",
    "cpu",
    "found_again",
    "memory",
    "placements",
]
