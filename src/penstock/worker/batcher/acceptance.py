"""Gives tasks the outputs of their tiles, on threads that have nothing else to do."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from penstock.models.base import Outputs
from penstock.worker.batcher.costs import KNOWN
from penstock.worker.batcher.device_work import BatchKey, DeviceBatch, TileRef
from penstock.worker.threads import Threads

TileErrors = list[Exception | None]
"""For each tile of a batch the error that its task raised when it was given the output, None where it took it."""

PART_S = 0.002
"""The tiles of a batch are accepted on one thread for each time that they take this long. To hand a part to a thread
costs 0.05 ms; eight tiles of 512 x 512 px take 20 to 70 ms, in which a large GPU computes the next batch."""

KEPT = 0.8
"""Share of a former mean that a new measurement leaves."""


class Acceptance:
    """Accepts the outputs of batches on the threads of `pool`, those of a large batch on several at a time."""

    def __init__(self, pool: Threads) -> None:
        self._pool = pool
        self._tile_s: dict[BatchKey, float] = {}

    async def accept(self, batch: DeviceBatch, outputs: Outputs) -> TileErrors:
        """Give every tile of a batch its output."""
        tiles, parts = batch.tiles, self._parts(batch)
        each = (self._pool.run(_timed, tiles[n::parts], outputs[n : len(tiles) : parts]) for n in range(parts))
        answers = await asyncio.gather(*each)
        errors: TileErrors = [None] * len(tiles)
        for n, (part, _) in enumerate(answers):
            errors[n::parts] = part
        key, tile_s = batch.lead.key, sum(seconds for _, seconds in answers) / len(tiles)
        self._tile_s[key] = KEPT * self._tile_s.pop(key, tile_s) + (1 - KEPT) * tile_s
        if len(self._tile_s) > KNOWN:
            del self._tile_s[next(iter(self._tile_s))]  # the longest unused
        return errors

    def _parts(self, batch: DeviceBatch) -> int:
        takes_s = len(batch.tiles) * self._tile_s.get(batch.lead.key, 0.0)
        return max(1, min(self._pool.count, len(batch.tiles), int(takes_s / PART_S)))


def _timed(tiles: Sequence[TileRef], outputs: Outputs) -> tuple[TileErrors, float]:
    began = time.perf_counter()
    return accept_outputs(tiles, outputs), time.perf_counter() - began


def accept_outputs(tiles: Sequence[TileRef], outputs: Outputs) -> TileErrors:
    """Give every tile its output, on any thread."""
    return [_error_of(tile, output) for tile, output in zip(tiles, outputs, strict=False)]


def _error_of(tile: TileRef, output: Any) -> Exception | None:
    try:
        tile.task.accept_output(tile.work, tile.tile, output)
    except Exception as error:  # noqa: BLE001  a runner's own code
        return error
    return None
