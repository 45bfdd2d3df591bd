"""How fast results come back from the card, into page-locked memory."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from penstock.core.device import Device
from penstock.gpu_checks.measures.product import UPSCALER, BatchSample, loaded, medians, run_once
from penstock.models.onnxruntime.memory import host_blocks

SIDE = 512
RUNS = 7


def copies(device: Device) -> Iterator[dict[str, Any]]:
    """Yield what the copies of the largest batch of general take, its first run, in which blocks are locked, and what a
    batch takes where copies go on beside the next one."""
    sample = BatchSample.of(loaded(UPSCALER, device), "general", SIDE, device)
    first, *times = [run_once(sample) for _ in range(RUNS)]
    usual = medians(times[1:])
    down = _bytes_of(sample.run())
    yield {"tiles": len(sample.tiles), "up_mib": sample.tiles.nbytes / 2**20, "down_mib": down / 2**20}
    yield {"run_ms": usual.wall_s * 1000, "first_run_ms": first.wall_s * 1000, "compute_ms": usual.compute_s * 1000}
    yield {"copy_ms": usual.copy_s * 1000, "copy_gb_per_s": down / max(1e-9, usual.copy_s) / 1e9}
    yield {"two_in_flight_ms": _in_pairs(sample) * 1000}
    yield {"locked_mib": host_blocks(device).locked_bytes / 2**20}


def _in_pairs(sample: BatchSample) -> float:
    """Seconds for each batch where two threads run it in turns, so that one copies while the other computes."""
    with ThreadPoolExecutor(2) as threads:
        started = time.perf_counter()
        list(threads.map(run_once, [sample] * 2 * RUNS))
        return (time.perf_counter() - started) / (2 * RUNS)


def _bytes_of(outputs: Any) -> int:
    """The bytes of all arrays in the outputs of a batch."""
    return int(outputs.nbytes) if hasattr(outputs, "nbytes") else sum(_bytes_of(output) for output in outputs)
