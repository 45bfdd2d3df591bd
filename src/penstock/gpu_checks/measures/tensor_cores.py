"""How fast fp16 is beside fp32 on the same card: that is what tensor cores are for."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.gpu_checks.measures.product import UPSCALER, BatchSample, loaded, median_of

SIDE = 256
GENERAL_FLOP_PER_PX = 2.42e6
"""Additions and multiplications of general for each pixel of its input: 5.07 TFLOP for 8 tiles of 512², counted in the
file."""


def tensor_cores(device: Device) -> Iterator[dict[str, Any]]:
    """Yield the times of one batch of general in the arithmetic that is served and in fp32, and of clean."""
    runner = loaded(UPSCALER, device)
    general, clean = (BatchSample.of(runner, name, SIDE, device) for name in ("general", "clean"))
    yield {"tiles": len(general.tiles), "side_px": general.side_px}
    fp16_s = median_of(general).compute_s
    yield {
        "fp16_ms": fp16_s * 1000,
        "fp16_mpx_per_s": general.megapixels / fp16_s,
        "fp16_tflops": general.megapixels / fp16_s * GENERAL_FLOP_PER_PX / 1e6,
    }
    yield {"clean_mpx_per_s": clean.megapixels / median_of(clean).compute_s}
    exact = loaded(UPSCALER, replace(device, precision="fp32"))
    fp32_s = median_of(BatchSample.of(exact, "general", SIDE, device)).compute_s
    yield {"fp32_ms": fp32_s * 1000, "fp16_speedup": fp32_s / fp16_s}
