"""A model whose device hangs, either in a call that keeps the GIL, as a driver may, or while the model is loaded.

Penstock loads it through `PENSTOCK_MODELS_MODULES=tests.support.hanging_model`.
"""

import ctypes
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Card, Device, Outputs, Params, Product, Work, model_runner

MODEL = "hanging-v1"

FIRST_LOAD = "HANGING_MODEL_FIRST_LOAD"
"""The path of a file: the process that finds it missing creates it, and never ends loading."""


@model_runner(MODEL)
class Hanging(BaseModelRunner[Params]):
    """The first byte of the input says whether its run hangs."""

    card = Card(title="Hangs", produces="data")

    def load_model(self, device: Device) -> None:
        mark = Path(os.environ[FIRST_LOAD]) if FIRST_LOAD in os.environ else None
        if mark and not mark.exists():
            mark.touch()
            time.sleep(3600)

    def prepare(self, source: bytes, params: Params) -> Work:
        return Work([np.zeros(1, np.float32)])

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        ctypes.PyDLL(None).sleep(3600)  # unlike CDLL, it keeps the GIL
        return list(tiles)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        return Product(data={})
