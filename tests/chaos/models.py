"""The model of the chaos ring: it sleeps, misbehaves on request, and its result names its task.

Penstock loads it through `PENSTOCK_MODELS_MODULES=tests.chaos.models`.
"""

import ctypes
import hashlib
import os
import threading
import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError, InvalidOutput
from penstock.models.base import (
    BaseModelRunner,
    Card,
    Device,
    Interrupted,
    Outputs,
    Params,
    Product,
    Work,
    model_runner,
)

MODEL = "chaos-v1"

Deed = Literal["ok", "abort", "exit", "hang", "nan", "seize", "eat"]
"""`seize` sleeps and keeps the GIL; `eat` allocates more memory than its worker may have."""

EATEN_BYTES = 512 << 20
BITE_BYTES = 8 << 20
BITE_PAUSE_S = 0.02

RESULT_BYTES = 4096


class ChaosParams(Params, frozen=True):
    """`ms` of sleep, then the deed. `nonce` names the task of the result."""

    ms: int = 50
    deed: Deed = "ok"
    nonce: str = ""


def result_of(nonce: str) -> bytes:
    """Returns the one right result of the task with this nonce."""
    digest = hashlib.sha256(nonce.encode()).digest()
    return (nonce.encode() + b"\n" + digest * (RESULT_BYTES // len(digest)))[:RESULT_BYTES]


@model_runner(MODEL)
class Chaos(BaseModelRunner[ChaosParams]):
    """Sleeps on the device thread."""

    params = ChaosParams
    card = Card(title="Sleeps and misbehaves")

    def load_model(self, device: Device) -> None:
        self._stop = threading.Event()

    def prepare(self, source: bytes, params: ChaosParams) -> Work:
        return Work([np.zeros((1, 8, 8), np.float32)], context=params)

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        params: ChaosParams = work.context
        if params.deed == "seize":
            ctypes.PyDLL(None).usleep(params.ms * 1000)
        else:
            self._sleep(params)
        if params.deed == "eat":
            _eat()
        if params.deed == "abort":
            os.abort()
        if params.deed == "exit":
            os._exit(70)
        return np.full((len(tiles), 1), np.nan if params.deed == "nan" else 1.0)

    def postprocess(self, work: Work, params: ChaosParams, output: OutputOptions) -> Product:
        if not np.isfinite(work.outputs[0]).all():
            raise InvalidOutput("the model gave values that are not numbers")
        return Product(file=result_of(params.nonce))

    def interrupt(self, work: Work) -> None:
        self._stop.set()

    def _sleep(self, params: ChaosParams) -> None:
        """Only the run that an interrupt stops clears it: an interrupt between two runs is not lost, and it does no
        harm to a run that is put back."""
        hangs = params.deed == "hang"
        if self._stop.wait(None if hangs else params.ms / 1000):
            self._stop.clear()
            raise Interrupted


def _eat() -> None:
    bites = []
    for _ in range(EATEN_BYTES // BITE_BYTES):
        bites.append(np.ones(BITE_BYTES, np.uint8))
        time.sleep(BITE_PAUSE_S)


@model_runner("chaos-damaged")
class Damaged(Chaos):
    """A model whose file differs from the one in the manifest."""

    def load_model(self, device: Device) -> None:
        raise ConfigurationError("chaos.bin is damaged: it does not have the digest of the manifest; reinstall")
