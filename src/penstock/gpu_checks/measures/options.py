"""Which options of the runtime are fastest on this card, beside those that a worker uses."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.gpu_checks.measures.product import SCORER, UPSCALER, BatchSample, loaded, median_of

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "cuda_graphs": {"cuda_graphs": True},
}
"""Name -> what is changed of the device."""

NOISE_MS = 0.5
"""What the medians of two series of runs may differ by without a cause."""

NETWORKS = (("general", UPSCALER, 512), ("clean", UPSCALER, 512), ("nima", SCORER, 224))
"""Name, model, and side of the tile."""


def options(device: Device) -> Iterator[dict[str, Any]]:
    """Yield the milliseconds of a batch of each network with each variant, and by how much the best is faster than the
    default, beyond noise. A variant that cannot be had says why."""
    for network, model, side in NETWORKS:
        ms: dict[str, float] = {}
        for name, changes in VARIANTS.items():
            try:
                runner = loaded(model, replace(device, **changes))
                ms[name] = median_of(BatchSample.of(runner, network, side, device), runs=5).wall_s * 1000
                yield {f"{network}_{name}_ms": ms[name]}
            except Exception as error:  # noqa: BLE001  a variant is tried, and none is needed
                yield {f"{network}_{name}_error": f"{type(error).__name__}: {error}"}
        if (default_ms := ms.get("default")) is not None:
            best = min(ms, key=ms.__getitem__)
            if default_ms - ms[best] > NOISE_MS:
                yield {f"{network}_best": best, f"{network}_best_ms": ms[best]}
                yield {f"{network}_gain_percent": 100 * (1 - ms[best] / default_ms)}
