"""Gives memory back that the arena of the process holds and does not use."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.lazy_import import lazy_import
from penstock.models.onnxruntime.cuda_device import cuda_device_for
from penstock.models.onnxruntime.providers import setup
from penstock.models.onnxruntime.runtime import open_session, runtime
from penstock.models.onnxruntime.sessions import SHRINK

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

SMALLEST = (
    b'\x08\x08\x12\x00:1\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x00Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""An ONNX file of one node, y = -x: an arena is only shrunk at the end of a run."""


def shrink_arena(device: Device) -> None:
    """Return the free regions of the arena to the system, and on a GPU those of the card to the card. No run goes on
    meanwhile on a card. Raises what the runtime raises."""
    wanted = partial(setup, replace(device, tensorrt=False), fp16=False, shapes=device.shapes, engines="")
    if device.kind == "cpu":
        _run(open_session(SMALLEST, wanted(), threads=1), "cpu:0")
    elif card := cuda_device_for(device):
        with card.computing():
            _run(open_session(SMALLEST, wanted(stream=card.stream), threads=1), "gpu:0")


def _run(session: Any, arena: str) -> None:
    options = runtime().RunOptions()
    options.add_run_config_entry(SHRINK, arena)
    session.run(None, {"x": np.zeros(1, np.float32)}, options)
