"""Finds out whether a device runs a model at all, and with which provider, for a person who sets one up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from penstock.core.device import Device
from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.session import Session, manifest, runtime_version

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

SMALLEST = ("image-scoring-v1", "nima")
SIDE = 224


class DeviceProbe(Struct, frozen=True, kw_only=True):
    """How a device ran a model. `provider` is the one that ran its nodes, as the runtime reports."""

    device: str
    provider: str
    runtime: str
    load_s: float
    run_s: float


def probe_device(device: Device) -> DeviceProbe:
    """Load the smallest shipped model on a device, and run it twice; `run_s` is the second, warm run.

    Raises ConfigurationError when there is no such provider or the runtime would use another; DeviceBroken.
    """
    started = time.perf_counter()
    session = Session(manifest()[SMALLEST], device, ((SIDE, SIDE),))
    tile = np.full((1, SIDE, SIDE, 3), 128, np.uint8)
    session.run(tile)
    loaded = time.perf_counter()
    session.run(tile)
    return DeviceProbe(
        device=device.name,
        provider=session.provider,
        runtime=runtime_version(),
        load_s=loaded - started,
        run_s=time.perf_counter() - loaded,
    )
