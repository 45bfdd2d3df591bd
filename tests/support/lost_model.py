"""A model whose device can be lost: it takes a chosen time, and no GPU, whatever its device is called.

Penstock loads it through `PENSTOCK_MODELS_MODULES=tests.support.lost_model`.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError
from penstock.models.base import (
    BaseModelRunner,
    Card,
    Device,
    DeviceBroken,
    Outputs,
    Params,
    Product,
    Work,
    model_runner,
)

MODEL = "lost-v1"

LOST = "LOST_MODEL_DEVICES"
"""The path of a directory: a device is lost while there is a file of its name."""

NO_DEVICE = "CUDA failure 100: no CUDA-capable device is detected"


@model_runner(MODEL)
class Lost(BaseModelRunner[Params]):
    """A run sleeps a little, and then finds that its device is lost, if it is."""

    card = Card(title="Loses its device", produces="data")

    def load_model(self, device: Device) -> None:
        self._mark = Path(os.environ[LOST]) / device.name
        if self._mark.exists():
            raise ConfigurationError(f"the model cannot run on {device.name}: {NO_DEVICE}")

    def prepare(self, source: bytes, params: Params) -> Work:
        return Work([np.zeros(1, np.float32)] * 4)

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        time.sleep(0.05)
        if self._mark.exists():
            raise DeviceBroken("CUDA failure 719: unspecified launch failure")
        return list(tiles)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        return Product(data={"tiles": work.count})
