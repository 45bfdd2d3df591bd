"""How fast results come back from the card, into page-locked memory and into pageable memory."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.gpu_checks.measures.product import UPSCALER, BatchSample, loaded, medians, run_once

SIDE = 512
RUNS = 7


def copies(device: Device) -> Iterator[dict[str, Any]]:
    """Yield what the copies of the largest batch of general take, and its first run, in which blocks are locked.

    The rate is that of the copy as the session notes it; a session that notes none has only the times of whole runs.
    """
    for name, is_bound in (("locked", True), ("pageable", False)):
        sample = BatchSample.of(loaded(UPSCALER, replace(device, bound=is_bound)), "general", SIDE, device)
        first, *times = [run_once(sample) for _ in range(RUNS)]
        usual = medians(times[1:])
        down = _bytes_of(sample.run())
        yield {"tiles": len(sample.tiles), "up_mib": sample.tiles.nbytes / 2**20, "down_mib": down / 2**20}
        yield {f"{name}_run_ms": usual.wall_s * 1000, f"{name}_first_run_ms": first.wall_s * 1000}
        if usual.copy_s:
            yield {f"{name}_copy_ms": usual.copy_s * 1000, f"{name}_gb_per_s": down / usual.copy_s / 1e9}


def _bytes_of(outputs: Any) -> int:
    """The bytes of all arrays in the outputs of a batch."""
    return int(outputs.nbytes) if hasattr(outputs, "nbytes") else sum(_bytes_of(output) for output in outputs)
