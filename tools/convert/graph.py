"""An ONNX graph under construction: nodes and weights are added in order, then it is sealed into bytes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # what opset 17 was released with; every runtime since 2022 reads it
# Below this many values a weight is not rounded: biases and depthwise kernels are 2 % of a MobileNet and
# carry most of the rounding error (measured: 0.011 of a rating point with them in fp16, 0.003 without).
SMALL = 2**14
OUTSIDE_BYTES = 2**10  # smaller weights, such as biases, stay in the graph, and may differ from those of its twin
PRODUCER = "penstock"  # fixed, and without a version: the bytes may depend on the weights only

Attribute = int | float | str | Sequence[int]


class Value(NamedTuple):
    """An input or output of a graph. Sizes that are known only when it runs have names."""

    name: str
    shape: Sequence[int | str]
    type: int = TensorProto.FLOAT


class Storage(Enum):
    """The type of the weights in the file. The arithmetic is fp32, except with HALF."""

    FP32 = "fp32"
    FP16_EXACT = "fp16 where no bit is lost, else fp32"
    FP16 = "fp16, but small weights in fp32"
    HALF = "fp16, and so is the arithmetic of the network"


class Target(Enum):
    """The kind of device that a graph is shaped for."""

    CPU = "cpu"
    CUDA = "cuda"


class Graph:
    """Collects nodes and weights; each method returns the name of the value that it made."""

    def __init__(self, name: str, *, storage: Storage, target: Target = Target.CPU) -> None:
        self.target = target
        self._name = name
        self._storage = storage
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Attribute) -> str:
        node = helper.make_node(op, list(inputs), [output], name=output)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
        return output

    def constant(self, name: str, array: NDArray[np.generic] | np.generic) -> str:
        """Adds an array in its own type. A second call with the same name returns the value of the first."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def number(self, name: str, value: float) -> str:
        """Adds a scalar in the type of the arithmetic."""
        return self.constant(name, np.float16(value) if self.halves else np.float32(value))

    def weight(self, name: str, array: NDArray[np.floating]) -> str:
        """Adds a weight. In an fp32 graph it is stored as `storage` says, and cast where that is fp16.

        Runtimes fold that Cast when they load the file, so it costs nothing afterwards.
        """
        single = array.astype(np.float32)
        with np.errstate(over="ignore"):
            half = single.astype(np.float16)
        if self.halves:
            if not np.isfinite(half).all():
                raise ValueError(f"{name} has values beyond the range of fp16")
            return self.constant(name, half)
        if not self._may_halve(single, half):
            return self.constant(name, single)
        return self.node("Cast", [self.constant(f"{name}.fp16", half)], name, to=TensorProto.FLOAT)

    @property
    def halves(self) -> bool:
        """Whether the arithmetic is fp16, as for a GPU."""
        return self._storage is Storage.HALF

    def _may_halve(self, single: NDArray[np.float32], half: NDArray[np.float16]) -> bool:
        match self._storage:
            case Storage.FP32 | Storage.HALF:
                return False
            case Storage.FP16_EXACT:
                return np.array_equal(half, single)
            case Storage.FP16:
                return single.size >= SMALL and bool(np.isfinite(half).all())

    def seal(self, inputs: Sequence[Value], outputs: Sequence[Value], *, about: str) -> bytes:
        """Returns the finished and fully checked file. The same calls always give the same bytes."""
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(value.name, value.type, list(value.shape)) for value in inputs],
            [helper.make_tensor_value_info(value.name, value.type, list(value.shape)) for value in outputs],
            list(self._initializers.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
            doc_string=about,
        )
        onnx.checker.check_model(model, full_check=True)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def divided(data: bytes, beside: str) -> tuple[bytes, bytes]:
    """Returns a file without its large weights in fp16, which it then expects in a file named `beside`, and the
    contents of that: files of the same weights in different arithmetic have it in common."""
    model = onnx.load_from_string(data)
    weights = bytearray()
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT16 or len(tensor.raw_data) < OUTSIDE_BYTES:
            continue
        place = {"location": beside, "offset": len(weights), "length": len(tensor.raw_data)}
        tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(at)) for key, at in place.items())
        tensor.data_location = TensorProto.EXTERNAL
        weights += tensor.raw_data
        tensor.ClearField("raw_data")
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph, bytes(weights)
