"""superres-x4 with networks that repeat each pixel: all of its code runs, and what comes out is known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.core.sizes import Sizes
from penstock.models.base import model_runner
from penstock.models.network_use import NETWORKS
from penstock.models.onnxruntime.late import LateSessions
from penstock.models.onnxruntime.session import manifest
from penstock.models.superres import SuperResolution

MODEL = "repeating-superres-x4"
SCALE = 4


class RepeatingSession:
    """A session in place of one of ONNX Runtime."""

    def run(self, tiles: NDArray[Any], owner: Any) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Returns what a network would: pixels, and a number for each tile."""
        return tiles.repeat(SCALE, axis=1).repeat(SCALE, axis=2), np.zeros(len(tiles), np.float32)


@model_runner(MODEL)
class RepeatingSuperResolution(SuperResolution):
    """Everything but the sessions is superres-x4's own."""

    @classmethod
    def digest(cls) -> str:
        return SuperResolution.digest()

    @classmethod
    def sizes(cls) -> Sizes:
        return SuperResolution.sizes()

    def load_model(self, device: Device) -> None:
        files = {variant: manifest(device.kind)[(SuperResolution.name, variant)] for variant in NETWORKS}
        self._device, self._files = device, files
        self._sessions: dict[str, Any] = dict.fromkeys(files, RepeatingSession())
        self._deep: Any = LateSessions(lambda name: RepeatingSession(), "with 16 bits")
        self._exact: Any = LateSessions(lambda name: RepeatingSession(), "in fp32")
        self._tilings = {name: NETWORKS[name].tiling_on(device, file.overlap_px) for name, file in files.items()}
