"""Which options of the runtime are fastest on this card, beside those that a worker uses."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.errors import PenstockError
from penstock.gpu_checks.measures.product import SCORER, UPSCALER, BatchSample, loaded, median_of

DEFAULT = "default"

VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "no_options": {"cuda_options": "none"},
    "fuse_conv_bias": {"cuda_options": "fuse_conv_bias"},
    "prefer_nhwc": {"cuda_options": "prefer_nhwc"},
    "both": {"cuda_options": "fuse_conv_bias,prefer_nhwc"},
    "cuda_graphs": {"cuda_graphs": True},
}
"""Name -> what is changed of the device that a worker would have, whose options are measured when it loads a file."""

NETWORKS = {UPSCALER: ("general", "clean"), SCORER: ("nima",)}
SIDES = {"general": 512, "clean": 512, "nima": 224}

NOISE_MS = 0.5
"""What the medians of two series of runs may differ by without a cause."""


def options(device: Device) -> Iterator[dict[str, Any]]:
    """Yield the milliseconds of a batch of each network with each variant, and by how much the best is faster than the
    default, beyond noise. A variant that cannot be had says why."""
    ms: dict[str, dict[str, float]] = {network: {} for network in SIDES}
    for variant in VARIANTS:
        try:
            for network, found_ms in _times(variant, device):
                ms[network][variant] = found_ms
                yield {f"{network}_{variant}_ms": found_ms}
        except PenstockError as error:
            if variant == DEFAULT:
                raise
            yield {f"{variant}_error": str(error)}
    for network, found in ms.items():
        yield from _best(network, found)


def _times(variant: str, device: Device) -> Iterator[tuple[str, float]]:
    for model, networks in NETWORKS.items():
        runner = loaded(model, replace(device, **VARIANTS[variant]))
        for network in networks:
            sample = BatchSample.of(runner, network, SIDES[network], device)
            yield network, median_of(sample, runs=5).compute_s * 1000


def _best(network: str, ms: dict[str, float]) -> Iterator[dict[str, Any]]:
    best = min(ms, key=ms.__getitem__)
    if ms[DEFAULT] - ms[best] > NOISE_MS:
        yield {f"{network}_best": best, f"{network}_best_ms": ms[best]}
        yield {f"{network}_gain_percent": 100 * (1 - ms[best] / ms[DEFAULT])}
