"""Finds out whether a device runs a model at all, and with which provider, for a person who sets one up."""

from __future__ import annotations

import time

from msgspec import Struct

from penstock.core.device import Device
from penstock.models.onnxruntime import golden
from penstock.models.onnxruntime.identity import CardIdentity, card_identity
from penstock.models.onnxruntime.runtime import runtime_version
from penstock.models.onnxruntime.session import Session, manifest

SMALLEST = ("image-scoring-v1", "nima")
SIDE = 224


class DeviceProbe(Struct, frozen=True, kw_only=True):
    """How a device ran a model. `provider` is the one that ran its nodes, as the runtime reports; `card` is None
    for a CPU."""

    device: str
    provider: str
    runtime: str
    load_s: float
    run_s: float
    card: CardIdentity | None = None


def probe_device(device: Device) -> DeviceProbe:
    """Load the smallest shipped model on a device, compare its results with the stored ones, and run it once more:
    `run_s` is that warm run.

    Raises ConfigurationError when there is no such provider, the runtime would use another, or the device computes
    wrong values; DeviceBroken.
    """
    started = time.perf_counter()
    session = Session(manifest()[SMALLEST], device, ((SIDE, SIDE),))
    golden.check(session, device, (SIDE, SIDE))
    loaded = time.perf_counter()
    session.run(golden.batch_of("scene", SIDE, SIDE))
    return DeviceProbe(
        device=device.name,
        provider=session.provider,
        runtime=runtime_version(),
        load_s=loaded - started,
        run_s=time.perf_counter() - loaded,
        card=card_identity() if device.kind == "cuda" else None,
    )
