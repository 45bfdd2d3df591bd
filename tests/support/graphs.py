"""Small ONNX files, made for tests of what is found out about them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str | None]


def port(name: str, dims: Dims, dtype: int = TensorProto.FLOAT) -> Any:
    """An input or output of a graph."""
    return helper.make_tensor_value_info(name, dtype, dims)


def weights(name: str, *dims: int, scale: float = 1.0) -> Any:
    """Random weights, the same in every run."""
    values = np.random.default_rng(7).normal(size=dims).astype(np.float32) * scale
    return numpy_helper.from_array(values, name)


def save(
    folder: Path,
    nodes: Iterable[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Sequence[Any] = (),
    *,
    domains: Sequence[str] = (),
    **metadata: str,
) -> Path:
    """Write a graph as a file."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(constants))
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, metadata)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def conv(name: str = "x", *, channels: int = 3, out: int = 4, scale: float = 1.0) -> tuple[Any, Any]:
    """A first convolution, and its kernels."""
    node = helper.make_node("Conv", [name, "w"], ["c"], pads=[1, 1, 1, 1])
    return node, weights("w", out, channels, 3, 3, scale=scale)


def classifier(folder: Path, *, classes: int = 7, softmax: bool = False, scale: float = 1.0, **metadata: str) -> Path:
    """A network that gives a number for each class of an image of 24 x 32 px."""
    node, kernel = conv(scale=scale)
    nodes = [
        node,
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y" if not softmax else "l"]),
    ]
    nodes += [helper.make_node("Softmax", ["l"], ["y"], axis=1)] if softmax else []
    ports = [port("x", ["n", 3, 32, 24])], [port("y", ["n", classes])]
    return save(folder, nodes, *ports, [kernel, weights("m", 4, classes)], **metadata)


def upscaler(folder: Path, *, pads: int = 1) -> Path:
    """A network that makes each pixel four, and loses a border where it pads nothing."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[pads] * 4),
        helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=2),
    ]
    kernel = np.zeros((12, 3, 3, 3), np.float32)
    for channel in range(12):
        kernel[channel, channel % 3, 1, 1] = 1
    ports = [port("x", ["n", 3, "h", "w"])], [port("y", ["n", 3, "H", "W"])]
    return save(folder, nodes, *ports, [numpy_helper.from_array(kernel, "w")])


def external(folder: Path, location: str, *, length: int = 16) -> Path:
    """A graph whose weights are in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Add", ["a", "w"], ["y"])]
    return save(folder, nodes, [port("a", [1, 4])], [port("y", [1, 4])], [tensor])
