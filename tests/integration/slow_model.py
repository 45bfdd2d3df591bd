"""A model that takes as long as it is told and no CPU, and does not hear that it is to stop.

Loaded by Penstock itself through `PENSTOCK_MODELS_MODULES=tests.integration.slow_model`.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.runners.base import BaseModelRunner, Card, Device, Outputs, Params, Product, Work, model_runner
from penstock.task import OutputOptions

MODEL = "slow-v1"


class SlowParams(Params, frozen=True):
    """`tiles` runs on the device, each of `tile_s` seconds."""

    tiles: int = 1
    tile_s: float = 0.05


@model_runner(MODEL)
class Slow(BaseModelRunner[SlowParams]):
    """A run holds the device until its end, as native code does."""

    params = SlowParams
    card = Card(title="Sleeps", produces="data")

    def load_model(self, device: Device) -> None:
        pass

    def prepare(self, source: bytes, params: SlowParams) -> Work:
        return Work([np.zeros((1, 1), np.float32)] * params.tiles, lane=str(params.tile_s), context=params)

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        time.sleep(work.context.tile_s)
        return [0] * len(tiles)

    def postprocess(self, work: Work, params: SlowParams, output: OutputOptions) -> Product:
        return Product(data={"tiles": work.count})
