"""The stand-in for a session of the runtime: it computes nothing, and takes as long as a card would."""

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.models.device_time import note_device_time
from tools.device_model.plan import Plan
from tools.device_model.record import Recorder

SCALE = 4


class SimulatedSession:
    """As on a real card, one run computes at a time, with the copy of its input; results are copied down beside the
    next run, which another thread may have begun."""

    def __init__(self, plan: Plan, recorder: Recorder) -> None:
        self._card = plan.card
        self._slowed = plan.slowed
        self._recorder = recorder
        self._computing = threading.Lock()
        self._warm: set[tuple[int, ...]] = set()
        self._noise: dict[str, NDArray[Any]] = {}
        self._stacked: dict[int, str] = {}  # address of a tile -> its task

    def stacked(self, tile: NDArray[Any], label: str) -> None:
        """Remember whose tile was written to this place, until a run takes it from there."""
        self._stacked[_address(tile)] = label

    def run(self, tiles: NDArray[Any], *, owner: object = None) -> list[NDArray[Any]]:
        """Run one batch. The outputs are noise; those of 8 bits come with a number for each tile, as in the shipped
        files. The first run of a shape, which warms a card up, takes no time."""
        outputs = self._outputs(tiles)
        if tiles.shape in self._warm:
            self._take_time(tiles, outputs)
        self._warm.add(tiles.shape)
        return [outputs] if outputs.dtype == np.float32 else [outputs, np.zeros(len(outputs), np.float32)]

    def interrupt(self, owner: object = None) -> None:
        """Nothing stops a sleep."""

    def _take_time(self, tiles: NDArray[Any], outputs: NDArray[Any]) -> None:
        asked, labels = time.time(), self._labels(tiles)
        with self._computing:
            began = time.time()
            time.sleep(self._slowed * self._card.copy_s(tiles.nbytes, page_locked=not tiles.flags.owndata))
            start = time.time()
            time.sleep(self._slowed * self._card.compute_s(tiles.size // 3))
            end = time.time()
        time.sleep(self._slowed * self._card.copy_s(outputs.nbytes))
        copied = time.time()
        note_device_time(compute_s=end - began, copy_s=copied - end)  # the copy up is part of a run
        self._recorder.note("wait", asked, began)
        self._recorder.note("up", began, start)
        self._recorder.note("compute", start, end, ",".join(dict.fromkeys(labels)), tiles.size // 3)
        self._recorder.note("down", end, copied)
        self._recorder.note("infer", asked, copied, "", len(labels))

    def _labels(self, tiles: NDArray[Any]) -> list[str]:
        found = (self._stacked.pop(_address(tile), "") for tile in tiles)
        return [label for label in found if label]

    def _outputs(self, tiles: NDArray[Any]) -> NDArray[Any]:
        # All read one block that was written before: no page of a result must be new to the process, since a real one
        # was written by the card.
        count, *tile = tiles.shape
        shape = (count, *(side if side == 3 else SCALE * side for side in tile))
        size = int(np.prod(shape))
        block = self._noise.get(tiles.dtype.str)
        if block is None or block.size < size:
            block = self._noise[tiles.dtype.str] = np.resize(_noise(tiles.dtype), size)
        return block[:size].reshape(shape)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _noise(dtype: np.dtype[Any]) -> NDArray[Any]:
    dice = np.random.default_rng(2)
    return dice.integers(0, 256, 2**20, np.uint8) if dtype == np.uint8 else dice.random(2**20, np.float32)
