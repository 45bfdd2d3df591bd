"""A model of an operator's own, which the tests put into deploy/models. Like any that runs a network, it imports ONNX
Runtime at its top, which the image of the API does not have."""

import time

import numpy as np
import onnxruntime

from penstock.models.base import BaseModelRunner, Card, Params
from penstock.models.registry import model_runner

MODEL = "own-v1"


class OwnParams(Params, frozen=True):
    """How long a task takes, and how much memory."""

    seconds: float = 0.0
    megabytes: int = 0


@model_runner(MODEL)
class Own(BaseModelRunner):
    """Sleeps, and takes memory."""

    inputs = {"name": "json"}  # noqa: RUF012  as an operator writes it
    params = OwnParams
    card = Card(title="Own", produces="data")

    def load_model(self):
        self.runtime = onnxruntime.__version__

    def prepare(self, input_data):
        return input_data.params

    def infer(self, tensor):
        time.sleep(tensor.seconds)
        return float(np.ones(tensor.megabytes * 125_000).sum())

    def postprocess(self, output):
        return {"runtime": self.runtime, "sum": output}
