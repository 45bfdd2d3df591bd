"""Models that sleep on their device, one for each class of workers, and write down what the device begins.

Penstock loads them through `PENSTOCK_MODELS_MODULES=tests.scaling.model`.
"""

import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Card, Device, Outputs, Params, Product, Work, model_runner

CLASSES = 8
MODELS = tuple(f"sleeps-{number}" for number in range(CLASSES))

JOURNAL = "SCALING_JOURNAL"
"""The variable with the file that gets a line for each run of the device: the tag of the task, and its attempt."""


class SleepParams(Params, frozen=True):
    """`tiles` runs on the device, each of `tile_s` seconds. `tag` names the task in the journal."""

    tag: str
    tiles: int = 1
    tile_s: float = 0.1


class Sleeps(BaseModelRunner[SleepParams]):
    """A run keeps the device until its end, as native code does."""

    params = SleepParams
    card = Card(title="Sleeps")

    def load_model(self, device: Device) -> None:
        pass

    def prepare(self, source: bytes, params: SleepParams) -> Work:
        tiles = [np.zeros((1, 1), np.float32)] * params.tiles
        return Work(tiles, lane=params.tag, context=(params, uuid.uuid4().hex))

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        params, attempt = work.context
        line = f"{params.tag} {attempt}\n".encode()
        fd = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, line)  # one write: lines of several processes do not mix
        finally:
            os.close(fd)
        time.sleep(params.tile_s)
        return [0] * len(tiles)

    def postprocess(self, work: Work, params: SleepParams, output: OutputOptions) -> Product:
        return Product(data={"tiles": work.count})


for name in MODELS:
    model_runner(name)(type(name.replace("-", "_"), (Sleeps,), {}))


def begun(journal: Path) -> dict[str, set[str]]:
    """Returns the attempts that a device has begun, by the tag of their task."""
    found: dict[str, set[str]] = {}
    for line in journal.read_text().splitlines() if journal.exists() else []:
        tag, attempt = line.split()
        found.setdefault(tag, set()).add(attempt)
    return found
