"""How fast fp16 is beside fp32 on the same card: that is what tensor cores are for."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.gpu_checks.expectations import estimate_for
from penstock.gpu_checks.machine import ask_tool
from penstock.gpu_checks.measures.product import UPSCALER, BatchSample, loaded, median_of
from penstock.gpu_checks.verdicts import SKIPPED
from penstock.models.onnxruntime.identity import card_identity
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import manifest

SIDE = 256
LOADED_S = 1.0
"""How long the card computes before its clock is read: at first it is that of an idle card."""

UNDER_LOAD = {
    "clocks.sm": "load_clock_mhz",
    "clocks.max.sm": "most_clock_mhz",
    "temperature.gpu": "load_temperature_c",
    "power.draw": "load_power_w",
}
"""What nvidia-smi is asked for -> the name of the figure."""

GENERAL_FLOP_PER_PX = 2.42e6
"""Additions and multiplications of general for each pixel of its input: 5.07 TFLOP for 8 tiles of 512², counted in the
file."""


def tensor_cores(device: Device, uuid: str) -> Iterator[dict[str, Any]]:
    """Yield the times of one batch of general in the arithmetic that is served and in fp32, and of clean; the clock,
    the heat and the power of the card under this load."""
    if open_session(manifest(device.kind)[UPSCALER, "general"], device).file.precision != "fp16":
        yield {SKIPPED: "general runs in fp32 here, which has no use for tensor cores"}
        return
    runner = loaded(UPSCALER, device)
    general, clean = (BatchSample.of(runner, name, SIDE, device) for name in ("general", "clean"))
    yield {"tiles": len(general.tiles), "side_px": general.side_px}
    fp16_s = median_of(general).compute_s
    yield {
        "fp16_ms": fp16_s * 1000,
        "fp16_mpx_per_s": general.megapixels / fp16_s,
        "fp16_tflops": general.megapixels / fp16_s * GENERAL_FLOP_PER_PX / 1e6,
    }
    if estimate := estimate_for(_card()):
        yield {"least_mpx_per_s": estimate[0], "most_mpx_per_s": estimate[1]}
        yield {"share_of_estimate": general.megapixels / fp16_s / estimate[0]}
    yield from _under_load(general, uuid)
    yield {"clean_mpx_per_s": clean.megapixels / median_of(clean).compute_s}
    exact = loaded(UPSCALER, replace(device, precision="fp32"))
    fp32_s = median_of(BatchSample.of(exact, "general", SIDE, device)).compute_s
    yield {"fp32_ms": fp32_s * 1000, "fp16_speedup": fp32_s / fp16_s}


def _under_load(sample: BatchSample, uuid: str) -> Iterator[dict[str, Any]]:
    """Yield what the tool of the driver says while the batch runs again and again."""
    answered = Event()
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(_run_until, answered, sample)
        try:
            time.sleep(LOADED_S)
            answer = ask_tool([*UNDER_LOAD], uuid)
        finally:
            answered.set()
        load.result()
    known = {field: float(value) for field, value in answer.fields.items() if value.replace(".", "").isdigit()}
    yield {UNDER_LOAD[field]: value for field, value in known.items()}
    if {"clocks.sm", "clocks.max.sm"} <= set(known):
        yield {"clock_share": known["clocks.sm"] / known["clocks.max.sm"]}


def _run_until(answered: Event, sample: BatchSample) -> None:
    while not answered.is_set():
        sample.run()


def _card() -> str:
    card = card_identity()
    return card.name if card else ""
