"""What every compared server does with a task: nothing, or the classification of a photo by the same code."""

import base64
import io
import os
import threading
from collections.abc import Callable
from typing import Any

SIDE = 224
"""Height and width of the images that the network takes."""

Body = dict[str, Any]
"""The members of a request: `x`, or `image` with a JPEG in base64."""


def work_of_environment() -> Callable[[Body], dict[str, Any]]:
    """Returns the classifier of the file that `PEER_NETWORK` names, or what does nothing if it names none."""
    network = os.environ.get("PEER_NETWORK", "")
    return Classifier(network) if network else do_nothing


def do_nothing(body: Body) -> dict[str, Any]:  # noqa: ARG001
    """Returns a constant."""
    return {"ok": True}


class Classifier:
    """A network of ONNX Runtime with one thread, between a decoder of JPEG and an encoder of its answer.

    Several threads may decode at a time; the network runs for one of them.
    """

    def __init__(self, network: str) -> None:
        # Servers that do nothing import none of it.
        import numpy as np
        import onnxruntime
        from PIL import Image

        self._np, self._open = np, Image.open
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self._running = threading.Lock()

    def __call__(self, body: Body) -> dict[str, Any]:
        """Returns the answer for one photo."""
        return self.encode(self.run(self.decode(base64.b64decode(body["image"]))[None])[0])

    def decode(self, source: bytes) -> Any:
        """Returns the pixels as float32 of 0 to 1, shape (3, 224, 224)."""
        with self._open(io.BytesIO(source)) as image:
            pixels = self._np.asarray(image.convert("RGB").resize((SIDE, SIDE)), self._np.float32)
        return self._np.ascontiguousarray(pixels.transpose(2, 0, 1)) / self._np.float32(255)

    def run(self, pixels: Any) -> Any:
        """Returns probabilities, shape (n, 10), for pixels of shape (n, 3, 224, 224)."""
        with self._running:
            return self._session.run(None, {"image": pixels})[0]

    def encode(self, probabilities: Any) -> dict[str, Any]:
        """Returns the likeliest class, and all probabilities with five digits."""
        return {"label": int(probabilities.argmax()), "probabilities": [round(float(p), 5) for p in probabilities]}
