"""What it costs when a batch has another shape than the one before it, as in mixed traffic nearly every one has."""

import statistics
from collections.abc import Iterator
from typing import Any

from penstock.core.device import Device
from penstock.gpu_checks.measures.product import SCORER, UPSCALER, BatchSample, loaded, run_once

RUNS = 10
WARM_UP = 3


def switch(device: Device) -> Iterator[dict[str, Any]]:
    """Yield the cost of one change for some pairs of shapes, beside the mean time of their runs."""
    upscaler = loaded(UPSCALER, device)
    for name, lane, one, other in (
        ("general_batch", "general", (256, 8), (256, 1)),
        ("general_side", "general", (256, 8), (192, 4)),
        ("clean_batch", "clean", (256, 8), (256, 1)),
    ):
        pair = [BatchSample.of(upscaler, lane, side, device, batch) for side, batch in (one, other)]
        yield from _cost(name, *pair)
    scorer = loaded(SCORER, device)
    yield from _cost("nima_batch", *(BatchSample.of(scorer, "", 224, device, batch) for batch in (8, 1)))


def _cost(name: str, one: BatchSample, other: BatchSample) -> Iterator[dict[str, Any]]:
    apart = sum(statistics.median(_times([sample] * RUNS)) for sample in (one, other))
    mixed = _times([one, other] * RUNS)
    together = sum(statistics.median(mixed[first::2]) for first in (0, 1))
    # Two changes in each pair.
    cost, run = (together - apart) / 2, apart / 2
    yield {f"{name}_run_ms": run * 1000, f"{name}_switch_ms": cost * 1000, f"{name}_switch_share": cost / run}


def _times(trials: list[BatchSample]) -> list[float]:
    """Seconds of these runs in order, without the first ones."""
    seconds = [run_once(sample).compute_s for sample in trials]
    return seconds[2 * WARM_UP :]
